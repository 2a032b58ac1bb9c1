"""Applications around a scripted model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from scripted_model import ScriptedEngine, Serve, served
from starlette.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from letterwise.api.app import create_app
from letterwise.api.services.spell_checking import SpellChecker
from letterwise.api.settings import ServiceSettings
from letterwise.engines.engine import Engine
from letterwise.results import Calibration


def wait_until_ready(client: TestClient) -> None:
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
def serve(
    tiny_tokenizer: PreTrainedTokenizerBase,
    settings: Callable[..., ServiceSettings],
    spell_checker: SpellChecker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Serve]:
    """Start an application around an engine; it is ready when this returns."""
    monkeypatch.setattr("letterwise.api.lifecycle.SpellChecker", lambda: spell_checker)
    # Logging belongs to the whole process, and other tests look at it.
    monkeypatch.setattr("letterwise.api.app.configure_logging", lambda level: None)
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
