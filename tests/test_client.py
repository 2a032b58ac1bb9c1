from __future__ import annotations

import asyncio
import doctest
import os
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from letterwise import __version__, client
from letterwise.api import schemas
from letterwise.client import AsyncClient, Client, ServiceError
from letterwise.errors import LetterwiseError

ROOT = Path(__file__).parents[1]

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Any]:
    """The module with the stand-in for the service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "api")
        import playground_app

        yield playground_app


@pytest.fixture(scope="module")
def url(stand_in: Any) -> Iterator[str]:
    with stand_in.serving(stand_in.create_app(max_batch_size=4)) as address:
        yield address


@pytest.fixture
def serve(stand_in: Any) -> Iterator[Serve]:
    """Starts a stand-in of its own, and gives its address."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(stand_in.serving(stand_in.create_app(**options)))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    # Not the modules' own functions: the stand-in's server, in a thread beside, goes on sleeping.
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(client, "asyncio", SimpleNamespace(sleep=note))
    return waited


def test_each_question_gives_its_typed_answer(url: str) -> None:
    with Client(url) as ask:
        assert ask.health().version == __version__
        assert ask.ready().models == ["finetuned", "base"]
        assert ask.metrics().live.spelling.accuracy == 0.5

        spelling = ask.spell("How do you spell 'strawberry'?", verify=True)
        assert isinstance(spelling, schemas.SpellingAnswer)
        assert ("".join(letter.letter for letter in spelling.letters), spelling.correct) == ("strawbery", False)
        assert ask.check("algoritm").suggestion == "algorithm"
        assert (ask.count("strawberry", "r").count, ask.count("strawberry", "r").expected) == (2, None)
        assert ask.count("strawberry", "r", "direct").mode == "direct"
        assert ask.count("banana", "e", model="base").model == "base"
        assert ask.letter_at("strawberry", 9, mode="spell_first", verify=True).expected == "r"


def test_many_questions_go_in_batches_and_answers_come_in_order(url: str) -> None:
    words = ["rhythm", "algoritm", "banana", "recieve", "strawberry", "letter"]
    with Client(url, batch_size=4) as ask:
        assert [answer.word for answer in ask.spell_many(words)] == words
        assert [answer.suggestion for answer in ask.check_many(words)] == [
            None, "algorithm", None, "receive", None, None,
        ]  # fmt: skip
        counts = ask.count_many(((word, "r") for word in words), "direct", verify=True)
        assert [(answer.count, answer.expected) for answer in counts] == [
            (1, 1),
            (1, 1),
            (0, 0),
            (1, 1),
            (2, 3),
            (1, 1),
        ]
        assert [answer.letter for answer in ask.letter_at_many([("banana", 1), ("rhythm", 6)])] == ["b", "m"]
        assert ask.spell_many([]) == []
    with Client(url, batch_size=6) as ask, pytest.raises(ServiceError, match="at most 4 items"):
        ask.spell_many(words)


def test_without_a_batch_size_the_service_says_how_many_it_takes(stand_in: Any) -> None:
    words = ["rhythm", "algoritm", "banana", "recieve", "strawberry", "letter"]
    app = stand_in.create_app(max_batch_size=4)

    async def check_twice(address: str) -> list[schemas.SpellCheckAnswer]:
        async with AsyncClient(address) as ask:
            assert await ask.check_many([]) == []
            return await ask.check_many(words) + await ask.check_many(words)

    with stand_in.serving(app) as address:
        with Client(address) as ask:
            assert [answer.word for answer in ask.spell_many(words) + ask.spell_many(words)] == words + words
        assert app.state.requests == {"/ready": 1, "/api/spelling/predict/batch": 4}
        assert [answer.word for answer in asyncio.run(check_twice(address))] == words + words
    assert app.state.requests == {"/ready": 2, "/api/spelling/predict/batch": 4, "/api/spelling/check/batch": 4}


def test_the_asynchronous_client_gives_the_same_answers(url: str) -> None:
    words = ["rhythm", "algoritm", "banana", "recieve", "strawberry", "letter"]

    async def answers() -> list[Any]:
        async with AsyncClient(url, batch_size=4) as ask:
            return await asyncio.gather(
                ask.spell("rhythm"),
                ask.check("recieve"),
                ask.count("strawberry", "r", "direct", verify=True),
                ask.letter_at("strawberry", 9, model="base"),
                ask.spell_many(words),
                ask.check_many(words),
                ask.count_many([("banana", "a")]),
                ask.letter_at_many([("banana", 1)]),
                ask.health(),
                ask.ready(),
                ask.metrics(),
            )

    with Client(url, batch_size=4) as ask:
        assert asyncio.run(answers()) == [
            ask.spell("rhythm"),
            ask.check("recieve"),
            ask.count("strawberry", "r", "direct", verify=True),
            ask.letter_at("strawberry", 9, model="base"),
            ask.spell_many(words),
            ask.check_many(words),
            ask.count_many([("banana", "a")]),
            ask.letter_at_many([("banana", 1)]),
            ask.health(),
            ask.ready(),
            ask.metrics(),
        ]


def test_a_refused_question_says_why_and_can_be_found_in_the_logs(url: str) -> None:
    with Client(url) as ask, pytest.raises(ServiceError) as caught:
        ask.letter_at("cat", 5)
    error = caught.value
    assert (error.status, error.error, error.request_id, error.retry_after) == (400, "Problem 400", "request-1", None)
    assert "position must not be larger than the word's 3 letters" in str(error)
    assert isinstance(error, LetterwiseError)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_the_key_is_sent(serve: Serve) -> None:
    address = serve(api_key="secret")
    with Client(address) as ask, pytest.raises(ServiceError) as caught:
        ask.check("word")
    assert caught.value.status == 401
    with Client(address, api_key="secret\n") as ask:
        assert ask.check("word").is_correct


def test_a_busy_service_is_asked_again_after_the_time_it_names(url: str, pauses: list[float]) -> None:
    with Client(url, retries=3) as ask, pytest.raises(ServiceError) as caught:
        ask.spell("busy")
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)
    for attempt, pause in enumerate(pauses):
        assert 7 + 0.125 * 2**attempt <= pause <= 7 + 0.25 * 2**attempt
    assert len(pauses) == 3


def test_an_overloaded_service_answers_in_the_end(serve: Serve, pauses: list[float]) -> None:
    with Client(serve(refuse_first=2)) as ask:
        assert ask.spell("rhythm").word == "rhythm"
    assert len(pauses) == 2


def test_the_asynchronous_client_asks_again_too(serve: Serve, pauses: list[float]) -> None:
    async def spell(address: str, retries: int) -> schemas.SpellingAnswer:
        async with AsyncClient(address, retries=retries) as ask:
            return await ask.spell("rhythm")

    assert asyncio.run(spell(serve(refuse_first=2), retries=2)).word == "rhythm"
    assert len(pauses) == 2
    with pytest.raises(ServiceError, match="the queue is full"):
        asyncio.run(spell(serve(refuse_first=2), retries=1))


def test_what_another_attempt_would_not_mend_is_not_asked_again(url: str, pauses: list[float]) -> None:
    with Client(url) as ask:
        with pytest.raises(ServiceError, match="Problem 500"):
            ask.spell("broken")
        with pytest.raises(ServiceError, match="Problem 400"):
            ask.spell("two words")
    assert pauses == []


def test_a_long_wait_is_left_to_the_caller(
    url: str, stand_in: Any, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stand_in.REFUSALS, "busy", (429, "3600"))
    with Client(url) as ask, pytest.raises(ServiceError) as caught:
        ask.spell("busy")
    assert caught.value.retry_after == 3600
    assert pauses == []


def test_a_lost_connection_is_tried_again(pauses: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Client(address, retries=2) as ask, pytest.raises(ServiceError, match="check its address") as caught:
        ask.health()
    assert caught.value.status is None
    assert len(pauses) == 2


def test_a_slow_answer_is_not_asked_for_twice(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.1) as ask, pytest.raises(ServiceError, match="No answer from the service"):
            ask.health()
    assert pauses == []


def test_something_else_at_the_address_is_recognised(url: str) -> None:
    with Client(f"{url}/static/favicon.svg?") as ask, pytest.raises(ServiceError) as caught:
        ask.health()
    assert caught.value.error == "Unexpected answer"
    with pytest.raises(LetterwiseError, match="must start with http"):
        Client("localhost:8000")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_examples_of_the_docstrings_run(url: str, kind: type) -> None:
    assert kind.__doc__
    text = kind.__doc__.replace("http://localhost:8000", url)
    example = doctest.DocTestParser().get_doctest(text, {}, kind.__name__, None, None)
    assert len(example.examples) >= 4
    assert doctest.DocTestRunner().run(example).failed == 0


def test_importing_the_client_is_light() -> None:
    heavy = "{'torch', 'transformers', 'fastapi', 'starlette', 'datasets', 'pandas', 'numpy'}"
    command = f"import sys, letterwise.client; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_examples_reach_every_route(serve: Serve) -> None:
    script, address = ROOT / "examples" / "curl.sh", serve(api_key="secret")
    environment = {**os.environ, "BASE_URL": address, "API_KEY": "secret"}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {line.split()[1] for line in done.stdout.splitlines() if line.startswith(("GET /", "POST /"))}
    questions = {"spelling/predict", "spelling/check", "position_count/letter_count", "position_count/letter_position"}
    routes = {f"/api/{question}{batch}" for question in questions for batch in ("", "/batch")}
    assert asked == routes | {"/health", "/ready", "/metrics"}
    assert '"suggestion":"algorithm"' in done.stdout
    assert '"live"' in done.stdout
    assert "# HELP" in done.stdout

    refused = subprocess.run(
        [script], env={**environment, "API_KEY": "old"}, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "Problem 401" in refused.stdout
