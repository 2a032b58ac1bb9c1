"""Applications around a scripted model."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from scripted_model import ScriptedEngine, Serve, served
from starlette.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from letterwise.api.app import create_app
from letterwise.api.services.spell_checking import SpellChecker
from letterwise.api.settings import ServiceSettings
from letterwise.engines.engine import Engine
from letterwise.results import Calibration


def wait_until_ready(client: httpx2.Client) -> None:
    deadline = time.monotonic() + 60
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline, "the service does not become ready"
        time.sleep(0.02)


def settings_for_tests(patch: pytest.MonkeyPatch) -> Callable[..., ServiceSettings]:
    for name in ServiceSettings.model_fields:
        patch.delenv(name.upper(), raising=False)

    def make(**given: object) -> ServiceSettings:
        return ServiceSettings(**{"canary_interval_seconds": 0, "log_level": "error", "rate_limit": "off", **given})  # type: ignore[arg-type]

    return make


def leave_logging_alone(patch: pytest.MonkeyPatch) -> None:
    """It belongs to the whole process."""
    patch.setattr("letterwise.api.app.configure_logging", lambda level: None)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ServiceSettings]:
    """Settings that do not depend on the environment of the tests."""
    return settings_for_tests(monkeypatch)


@pytest.fixture(scope="session")
def known_words() -> None:
    """The index of spell checkers takes seconds to build, and each garbage collection would look through it again."""
    SpellChecker()
    gc.collect()
    gc.freeze()


@pytest.fixture
def in_tests(known_words: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let applications find their words looked up, and leave logging alone."""
    leave_logging_alone(monkeypatch)


@pytest.fixture(scope="session")
def shared_client(tiny_tokenizer: PreTrainedTokenizerBase, known_words: None) -> Iterator[TestClient]:
    """One application for all tests that look at nothing but the answer to a request of their own."""
    with pytest.MonkeyPatch.context() as patch:
        leave_logging_alone(patch)
        app = create_app(settings_for_tests(patch)(), lambda _: served(tiny_tokenizer, ScriptedEngine()))
        with TestClient(app) as client:
            wait_until_ready(client)
            patch.undo()
            yield client


@pytest.fixture
def listening(
    tiny_tokenizer: PreTrainedTokenizerBase,
    settings: Callable[..., ServiceSettings],
    in_tests: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., str]]:
    """Start an application around an engine on a port of this machine, and give its address; it is ready then."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from playground_app import serving

    with ExitStack() as stack:

        def start(engine: Engine, base: Engine | None = None, **given: object) -> str:
            model = served(tiny_tokenizer, engine, base)
            address: str = stack.enter_context(serving(create_app(settings(**given), lambda _: model)))
            wait_until_ready(stack.enter_context(httpx2.Client(base_url=address)))
            return address

        yield start


@pytest.fixture
def serve(
    tiny_tokenizer: PreTrainedTokenizerBase, settings: Callable[..., ServiceSettings], in_tests: None
) -> Iterator[Serve]:
    """Start an application around an engine; it is ready when this returns."""
    clients: list[TestClient] = []

    def start(
        engine: Engine | None = None,
        *,
        base: Engine | None = None,
        calibration: Calibration | None = None,
        ready: bool = True,
        **given: object,
    ) -> TestClient:
        model = served(tiny_tokenizer, engine or ScriptedEngine(), base, calibration)
        client = TestClient(create_app(settings(**given), lambda _: model))
        clients.append(client)
        client.__enter__()
        if ready:
            wait_until_ready(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)
