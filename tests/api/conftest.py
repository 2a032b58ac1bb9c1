"""Applications around a scripted model."""

from __future__ import annotations

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


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ServiceSettings]:
    """Settings that do not depend on the environment of the tests."""
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**given: object) -> ServiceSettings:
        return ServiceSettings(**{"canary_interval_seconds": 0, "log_level": "error", "rate_limit": "off", **given})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def spell_checker() -> SpellChecker:
    """One for all tests: its index takes seconds to build."""
    return SpellChecker()


@pytest.fixture
def in_tests(spell_checker: SpellChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let applications share the spell checker, and leave logging alone, which belongs to the whole process."""
    monkeypatch.setattr("letterwise.api.lifecycle.SpellChecker", lambda: spell_checker)
    monkeypatch.setattr("letterwise.api.app.configure_logging", lambda level: None)


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
