"""A client of the HTTP service: each question is a method, each answer a typed model.

Knows the service's routes, bodies and errors; knows nothing about models, and imports neither PyTorch nor the service.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, ValidationError

from letterwise import __version__
from letterwise.api import schemas
from letterwise.config import AnswerMode
from letterwise.errors import LetterwiseError

LONGEST_PAUSE = 30.0
"""A service that asks to wait longer than this, in seconds, is not asked again: the caller decides."""

_SPELL = "api/spelling/predict"
_CHECK = "api/spelling/check"
_COUNT = "api/position_count/letter_count"
_POSITION = "api/position_count/letter_position"

_REFUSED_FOR_NOW = {429, 503}
# Not a read timeout: the question did arrive, and asking it again would double the load on a slow service.
_CONNECTION_LOST = (httpx2.NetworkError, httpx2.ConnectTimeout, httpx2.RemoteProtocolError)

Body = dict[str, Any]
AnyAnswer = TypeVar("AnyAnswer", bound=BaseModel)


class _Replies(BaseModel, Generic[AnyAnswer]):
    results: list[AnyAnswer]


class Options(TypedDict, total=False):
    """What most questions may add; `Client` says what each means."""

    verify: bool
    model: schemas.ModelName


@dataclass(eq=False)
class ServiceError(LetterwiseError):
    """The service gave no answer."""

    status: int | None
    """HTTP status; None when there was no response at all."""
    error: str
    """What kind of problem it is."""
    details: str
    """What is wrong and, where there is one, the remedy."""
    request_id: str | None = None
    """Finds the request in the service's logs."""
    retry_after: float | None = None
    """Seconds after which the service may be asked again."""

    def __str__(self) -> str:
        return f"{self.error}: {self.details}"


class _ClientBase:
    """What both clients are made from, and what they decide without asking."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: int = 2,
        *,
        batch_size: int | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise LetterwiseError(f"The address {base_url!r} must start with http:// or https://.")
        headers = {"Accept": "application/json", "User-Agent": f"letterwise/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key.strip()}"
        self._options: dict[str, Any] = {"base_url": base_url, "headers": headers, "timeout": timeout}
        self._retries = retries
        self._batch_size = batch_size

    def _batches(self, path: str, items: Iterable[Body], kind: type[BaseModel]) -> Iterator[tuple[str, Body, Any]]:
        listed, size = list(items), self._batch_size or 1
        for start in range(0, len(listed), size):
            yield f"{path}/batch", {"items": listed[start : start + size]}, _Replies[kind]  # type: ignore[valid-type]

    def _pause(self, problem: ServiceError, attempt: int) -> float:
        """Seconds before the next attempt; raises the problem itself where another attempt would not help."""
        passing = problem.status in _REFUSED_FOR_NOW or isinstance(problem.__cause__, _CONNECTION_LOST)
        wait = problem.retry_after or 0.0
        if not passing or attempt >= self._retries or wait > LONGEST_PAUSE:
            raise problem
        return wait + math.ldexp(0.25, attempt) * random.uniform(0.5, 1)


class Client(_ClientBase):
    """Asks a running service.

    A question refused with 429 or 503 is asked again after the time that the service names, and one whose connection
    failed after a moment. Every method raises `ServiceError` when there is no answer. `verify=True` has an answer
    checked, and `model="base"` asks the base model, where the service has loaded it.

    Args:
        base_url: where the service is, for instance http://localhost:8000.
        api_key: sent as `Authorization: Bearer`.
        timeout: seconds to wait for a connection, and between two parts of a response.
        retries: how often a question is asked again.
        batch_size: most questions in one request of the `_many` methods; by default as many as the service takes.

    Raises:
        LetterwiseError: `base_url` is not an address.

    Example:
        >>> from letterwise.client import Client
        >>> with Client("http://localhost:8000") as client:
        ...     answer = client.count("strawberry", "r", verify=True)
        ...     words = client.spell_many(["banana", "rhythm"])
        >>> answer.letter, answer.expected, answer.correct == (answer.count == 3)
        ('r', 3, True)
        >>> [answer.word for answer in words]
        ['banana', 'rhythm']
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def spell(self, text: str, **options: Unpack[Options]) -> schemas.SpellingAnswer:
        """Spell a word, or the word that a question such as "How do you spell 'algorithm'?" asks about."""
        return self._ask(_SPELL, {"text": text, **options}, schemas.SpellingAnswer)

    def spell_many(self, texts: Iterable[str], **options: Unpack[Options]) -> list[schemas.SpellingAnswer]:
        """Spell several words; answers come in their order."""
        return self._ask_many(_SPELL, ({"text": text, **options} for text in texts), schemas.SpellingAnswer)

    def check(self, word: str) -> schemas.SpellCheckAnswer:
        """Say whether a word is spelled correctly, and which was probably meant."""
        return self._ask(_CHECK, {"word": word}, schemas.SpellCheckAnswer)

    def check_many(self, words: Iterable[str]) -> list[schemas.SpellCheckAnswer]:
        """Check several words; answers come in their order."""
        return self._ask_many(_CHECK, ({"word": word} for word in words), schemas.SpellCheckAnswer)

    def count(
        self, word: str, letter: str, mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> schemas.LetterCountAnswer:
        """Count a letter in a word; without `mode` the service takes its most accurate one."""
        return self._ask(_COUNT, {"word": word, "letter": letter, "mode": mode, **options}, schemas.LetterCountAnswer)

    def count_many(
        self, questions: Iterable[tuple[str, str]], mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> list[schemas.LetterCountAnswer]:
        """Answer several (word, letter) questions, in their order."""
        items = ({"word": word, "letter": letter, "mode": mode, **options} for word, letter in questions)
        return self._ask_many(_COUNT, items, schemas.LetterCountAnswer)

    def letter_at(
        self, word: str, position: int, mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> schemas.LetterPositionAnswer:
        """Name the letter at a position, 1 being the first; without `mode` the service takes its most accurate one."""
        return self._ask(
            _POSITION, {"word": word, "position": position, "mode": mode, **options}, schemas.LetterPositionAnswer
        )

    def letter_at_many(
        self, questions: Iterable[tuple[str, int]], mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> list[schemas.LetterPositionAnswer]:
        """Answer several (word, position) questions, in their order."""
        items = ({"word": word, "position": position, "mode": mode, **options} for word, position in questions)
        return self._ask_many(_POSITION, items, schemas.LetterPositionAnswer)

    def health(self) -> schemas.Health:
        """Say that the process is alive."""
        return self._ask("health", None, schemas.Health)

    def ready(self) -> schemas.Readiness:
        """Say which model answers; raises `ServiceError` with status 503 before it does."""
        return self._ask("ready", None, schemas.Readiness)

    def metrics(self) -> schemas.Metrics:
        """Give the model's accuracy, as its evaluation measured it and live."""
        return self._ask("metrics", None, schemas.Metrics)

    @cached_property
    def _http(self) -> httpx2.Client:
        return httpx2.Client(**self._options)

    def _ask_many(self, path: str, items: Iterable[Body], kind: type[AnyAnswer]) -> list[AnyAnswer]:
        self._batch_size = self._batch_size or self.ready().max_batch_size
        return [answer for batch in self._batches(path, items, kind) for answer in self._ask(*batch).results]

    def _ask(self, path: str, body: Body | None, kind: type[AnyAnswer]) -> AnyAnswer:
        for attempt in itertools.count():
            try:
                response = self._http.request("POST" if body else "GET", path, json=body)
            except httpx2.TransportError as error:
                problem = _failure(error)
            else:
                if response.is_success:
                    return _read(response, kind)
                problem = _refusal(response)
            time.sleep(self._pause(problem, attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")


class AsyncClient(_ClientBase):
    """`Client` for asyncio: the same arguments, methods and errors; each method is awaited.

    Example:
        >>> import asyncio
        >>> from letterwise.client import AsyncClient
        >>> async def ask():
        ...     async with AsyncClient("http://localhost:8000") as client:
        ...         return await asyncio.gather(client.check("rhythm"), client.letter_at("rhythm", 2))
        >>> [answer.word for answer in asyncio.run(ask())]
        ['rhythm', 'rhythm']
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def spell(self, text: str, **options: Unpack[Options]) -> schemas.SpellingAnswer:
        """As `Client.spell`."""
        return await self._ask(_SPELL, {"text": text, **options}, schemas.SpellingAnswer)

    async def spell_many(self, texts: Iterable[str], **options: Unpack[Options]) -> list[schemas.SpellingAnswer]:
        """As `Client.spell_many`."""
        return await self._ask_many(_SPELL, ({"text": text, **options} for text in texts), schemas.SpellingAnswer)

    async def check(self, word: str) -> schemas.SpellCheckAnswer:
        """As `Client.check`."""
        return await self._ask(_CHECK, {"word": word}, schemas.SpellCheckAnswer)

    async def check_many(self, words: Iterable[str]) -> list[schemas.SpellCheckAnswer]:
        """As `Client.check_many`."""
        return await self._ask_many(_CHECK, ({"word": word} for word in words), schemas.SpellCheckAnswer)

    async def count(
        self, word: str, letter: str, mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> schemas.LetterCountAnswer:
        """As `Client.count`."""
        return await self._ask(
            _COUNT, {"word": word, "letter": letter, "mode": mode, **options}, schemas.LetterCountAnswer
        )

    async def count_many(
        self, questions: Iterable[tuple[str, str]], mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> list[schemas.LetterCountAnswer]:
        """As `Client.count_many`."""
        items = ({"word": word, "letter": letter, "mode": mode, **options} for word, letter in questions)
        return await self._ask_many(_COUNT, items, schemas.LetterCountAnswer)

    async def letter_at(
        self, word: str, position: int, mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> schemas.LetterPositionAnswer:
        """As `Client.letter_at`."""
        return await self._ask(
            _POSITION, {"word": word, "position": position, "mode": mode, **options}, schemas.LetterPositionAnswer
        )

    async def letter_at_many(
        self, questions: Iterable[tuple[str, int]], mode: AnswerMode | None = None, **options: Unpack[Options]
    ) -> list[schemas.LetterPositionAnswer]:
        """As `Client.letter_at_many`."""
        items = ({"word": word, "position": position, "mode": mode, **options} for word, position in questions)
        return await self._ask_many(_POSITION, items, schemas.LetterPositionAnswer)

    async def health(self) -> schemas.Health:
        """As `Client.health`."""
        return await self._ask("health", None, schemas.Health)

    async def ready(self) -> schemas.Readiness:
        """As `Client.ready`."""
        return await self._ask("ready", None, schemas.Readiness)

    async def metrics(self) -> schemas.Metrics:
        """As `Client.metrics`."""
        return await self._ask("metrics", None, schemas.Metrics)

    @cached_property
    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**self._options)

    async def _ask_many(self, path: str, items: Iterable[Body], kind: type[AnyAnswer]) -> list[AnyAnswer]:
        self._batch_size = self._batch_size or (await self.ready()).max_batch_size
        return [answer for batch in self._batches(path, items, kind) for answer in (await self._ask(*batch)).results]

    async def _ask(self, path: str, body: Body | None, kind: type[AnyAnswer]) -> AnyAnswer:
        for attempt in itertools.count():
            try:
                response = await self._http.request("POST" if body else "GET", path, json=body)
            except httpx2.TransportError as error:
                problem = _failure(error)
            else:
                if response.is_success:
                    return _read(response, kind)
                problem = _refusal(response)
            await asyncio.sleep(self._pause(problem, attempt))
        raise AssertionError("unreachable: the last attempt returns or raises")


def _read(response: httpx2.Response, kind: type[AnyAnswer]) -> AnyAnswer:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        details = f"this is not a {kind.__name__}; check that the address is that of a letterwise service"
        raise ServiceError(response.status_code, "Unexpected answer", details) from error


def _failure(error: httpx2.TransportError) -> ServiceError:
    reason = str(error) or type(error).__name__
    problem = ServiceError(None, "No answer from the service", f"{reason}; check its address and that it runs")
    problem.__cause__ = error
    return problem


def _refusal(response: httpx2.Response) -> ServiceError:
    header = response.headers.get("Retry-After", "")
    wait = float(header) if header.isdecimal() else None
    try:
        body = schemas.Problem.model_validate_json(response.content)
    except ValidationError:  # not from the service itself, but from a proxy before it
        details = f"the address answered with status {response.status_code}"
        return ServiceError(response.status_code, response.reason_phrase, details, retry_after=wait)
    return ServiceError(response.status_code, body.error, body.details, body.request_id, wait)
