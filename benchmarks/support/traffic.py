"""Requests to every route of the service, right and wrong ones, and what may come back.

Knows the API; knows nothing about connections, or how often anything is asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from letterwise.api import schemas

MODES = ("direct", "spell_first", "computed")
TOO_MUCH = frozenset({429, 503})
"""What a right request may get when there is too much to do."""


@dataclass(frozen=True)
class Ask:
    """One request, and what its answer must be like."""

    name: str
    method: str
    path: str
    statuses: frozenset[int]
    body: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    keyed: bool = True
    """Whether it carries a valid key."""
    model: type[BaseModel] | None = None
    """What the body of a 200 is."""
    agrees: Callable[[Any], bool] = lambda answer: True
    """Whether a 200 answers what was asked."""


def wrong(ask: Ask, status: int, headers: Any, content: bytes, request_id: str) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    if status not in ask.statuses:
        return f"{ask.name}: status {status}: {content[:200]!r}"
    if headers.get("X-Request-ID") != request_id:
        return f"{ask.name}: the request id {request_id} came back as {headers.get('X-Request-ID')}"
    try:
        if status >= 400:
            problem = schemas.Problem.model_validate_json(content)
            if problem.request_id != request_id:
                return f"{ask.name}: the body's request id is {problem.request_id}"
            if status in TOO_MUCH and "Retry-After" not in headers:
                return f"{ask.name}: {status} without Retry-After"
        elif ask.model and not ask.agrees(ask.model.model_validate_json(content)):
            return f"{ask.name}: answers something else: {content[:200]!r}"
    except ValidationError as error:
        return f"{ask.name}: {status} with a body of another form: {error.errors()[0]}"
    return None


class Traffic:
    """A mix of requests, reproducible from its seed."""

    def __init__(self, seed: int, words: Sequence[str], max_batch_size: int, max_body_bytes: int) -> None:
        self.random = random.Random(seed)
        self.words = words
        self.max_batch_size = max_batch_size
        self.max_body_bytes = max_body_bytes
        self._kinds = [self.count, self.position, self.spelling, self.check, self.operation, self.mistake]
        self._weights = [5, 5, 3, 2, 2, 3]

    def next(self) -> Ask:
        """The next request."""
        (kind,) = self.random.choices(self._kinds, self._weights)
        return kind()

    def _word(self) -> str:
        return self.random.choice(self.words)

    def _asked(
        self,
        path: str,
        bodies: Callable[[], dict[str, Any]],
        one: type[BaseModel],
        many: type[BaseModel],
        asked: str = "word",
        answered: str = "word",
    ) -> Ask:
        """A request for one answer or, now and then, for a batch; the field `asked` comes back as `answered`."""
        allowed = TOO_MUCH | {200}
        if self.random.random() < 0.2:
            items = [bodies() for _ in range(self.random.randint(1, min(8, self.max_batch_size)))]
            batch = [item[asked] for item in items]
            return Ask(
                f"{path}/batch",
                "POST",
                f"{path}/batch",
                allowed,
                {"items": items},
                model=many,
                agrees=lambda answer: [getattr(each, answered) for each in answer.results] == batch,
            )
        body = bodies()
        name = f"{path} {body['mode']}" if "mode" in body else path
        single = body[asked]
        return Ask(
            name, "POST", path, allowed, body, model=one, agrees=lambda answer: getattr(answer, answered) == single
        )

    def count(self) -> Ask:
        def body() -> dict[str, Any]:
            word = self._word()
            return {
                "word": word,
                "letter": self.random.choice(word),
                "mode": self.random.choice(MODES),
                "verify": self.random.random() < 0.5,
            }

        path = "/api/position_count/letter_count"
        return self._asked(path, body, schemas.LetterCountAnswer, schemas.LetterCountAnswers)

    def position(self) -> Ask:
        def body() -> dict[str, Any]:
            word = self._word()
            return {"word": word, "position": self.random.randint(1, len(word)), "mode": self.random.choice(MODES)}

        path = "/api/position_count/letter_position"
        return self._asked(path, body, schemas.LetterPositionAnswer, schemas.LetterPositionAnswers)

    def spelling(self) -> Ask:
        def body() -> dict[str, Any]:
            return {"text": f"How do you spell '{self._word().title()}'?", "verify": True}

        answer = ("/api/spelling/predict", body, schemas.SpellingAnswer, schemas.SpellingAnswers)
        return self._asked(*answer, asked="text", answered="input")

    def check(self) -> Ask:
        def body() -> dict[str, Any]:
            word = self._word()
            place = self.random.randrange(len(word))
            return {"word": word if self.random.random() < 0.5 else word[:place] + "x" + word[place:]}

        return self._asked("/api/spelling/check", body, schemas.SpellCheckAnswer, schemas.SpellCheckAnswers)

    def operation(self) -> Ask:
        """What needs no key."""
        path, statuses, model = self.random.choice(
            [
                ("/health", {200}, schemas.Health),
                ("/ready", {200, 503}, schemas.Readiness),
                ("/metrics", {200}, None),
                ("/", {200}, None),
                ("/docs", {200}, None),
                ("/openapi.json", {200}, None),
                ("/static/playground.js", {200}, None),
            ]
        )
        return Ask(path, "GET", path, frozenset(statuses), keyed=False, model=model)

    def mistake(self) -> Ask:
        """What must be refused, each in its way."""
        path, word = "/api/position_count/letter_count", self._word()
        right = {"word": word, "letter": word[0], "mode": "direct"}
        json_type = {"Content-Type": "application/json"}
        big = b'{"word": "' + b"x" * self.max_body_bytes + b'"}'
        bad = frozenset({400, 429, 503})
        return self.random.choice(
            [
                Ask("no key", "POST", path, frozenset({401, 503}), right, keyed=False),
                Ask(
                    "wrong key", "POST", path, frozenset({401, 503}), right, headers={"X-API-Key": "wrong"}, keyed=False
                ),
                Ask("no such path", "GET", f"/nothing/{word}", frozenset({404})),
                Ask("wrong method", "DELETE", path, frozenset({405})),
                Ask("not a word", "POST", path, bad, {**right, "word": "b4nana\u0000"}),
                Ask("10 kB word", "POST", path, bad, {**right, "word": "x" * 10_000}),
                Ask("no JSON", "POST", path, bad, content=b'{"word": ', headers=json_type),
                Ask("deep JSON", "POST", path, bad, content=b"[" * 5_000 + b"]" * 5_000, headers=json_type),
                Ask("half a surrogate", "POST", path, bad, content=b'{"word": "\\ud800"}', headers=json_type),
                Ask("not UTF-8", "POST", path, bad, content=b'{"word": "\xff"}', headers=json_type),
                Ask("not a number", "POST", path, bad, content=b'{"word": NaN}', headers=json_type),
                Ask("oversized", "POST", path, frozenset({413, 503}), content=big, headers=json_type),
            ]
        )
