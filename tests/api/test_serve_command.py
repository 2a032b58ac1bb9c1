"""`letterwise serve` from its start to its exit code, in this process and around a scripted model."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
from scripted_model import ScriptedEngine, served
from transformers import PreTrainedTokenizerBase
from typer.testing import CliRunner

from letterwise.api import server
from letterwise.api.settings import ServiceSettings
from letterwise.cli import app

pytestmark = pytest.mark.timeout(300)

COUNT = "/api/position_count/letter_count"
QUESTION = {"word": "tree", "letter": "e", "mode": "direct"}
Live = Callable[..., int]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def live(tiny_llama: Path, tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Runs the command while a user, in a thread, is with it; then SIGTERM. Gives its exit code."""
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    interval = sys.getswitchinterval()
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    # Logging belongs to the whole process, and other tests look at it.
    monkeypatch.setattr("letterwise.api.app.configure_logging", lambda level: None)
    monkeypatch.setattr(server, "configure_logging", lambda level: None)

    def run(user: Callable[[httpx.Client], None], engine: ScriptedEngine, **variables: str) -> int:
        port = free_port()
        model = served(tiny_tokenizer, engine)
        monkeypatch.setattr(server, "load_served", lambda settings, source: model)
        quiet = {"TASK_TYPE": "position_count", "CANARY_INTERVAL_SECONDS": "0", "RATE_LIMIT": "off"}
        for name, value in {**quiet, **variables}.items():
            monkeypatch.setenv(name, value)

        def visit() -> None:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                    wait_until_ready(client)
                    user(client)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        with ThreadPoolExecutor(1) as pool:
            visiting = pool.submit(visit)
            result = CliRunner().invoke(app, ["serve", "--model", str(tiny_llama), "--port", str(port)])
            visiting.result()
        return result.exit_code

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    sys.setswitchinterval(interval)


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("the service does not become ready")


def test_a_redis_that_is_down_stops_neither_the_start_nor_anybody(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    statuses: list[int] = []
    storage = f"redis://:secret@127.0.0.1:{free_port()}"

    def user(client: httpx.Client) -> None:
        statuses.extend(client.post(COUNT, json=QUESTION).status_code for _ in range(3))

    code = live(user, ScriptedEngine(answer="2"), RATE_LIMIT="1/hour", RATE_LIMIT_STORAGE=storage)
    assert (code, statuses) == (0, [200, 200, 200])
    (warning,) = [record.message for record in caplog.records if "Redis" in record.message]
    assert warning.startswith("Rate limits are off while Redis at 127.0.0.1:")
    assert "secret" not in caplog.text


def test_who_outlasts_the_drain_is_told_so_and_the_service_still_ends_well(live: Live) -> None:
    engine = ScriptedEngine(answer="2")
    responses: list[httpx.Response] = []
    drained: list[float] = []

    def user(client: httpx.Client) -> None:
        engine.batches.clear()
        engine.gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, COUNT, json=QUESTION)
            while not engine.batches:
                time.sleep(0.01)
            began = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                responses.append(asked.result())  # before the model has answered: it waits for the gate
                drained.append(time.monotonic() - began)
            finally:
                engine.gate.set()

    assert live(user, engine, DRAIN_SECONDS="1") == 0
    (response,) = responses
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert response.json().keys() == {"error", "details", "request_id"}
    assert response.json()["error"] == "Not ready"
    assert drained[0] >= 1


def test_who_is_answered_within_the_drain_gets_the_answer(live: Live) -> None:
    engine = ScriptedEngine(answer="2")
    statuses: list[int] = []

    def user(client: httpx.Client) -> None:
        engine.batches.clear()
        engine.gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, COUNT, json=QUESTION)
            while not engine.batches:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            engine.gate.set()
            statuses.append(asked.result().status_code)

    assert live(user, engine, DRAIN_SECONDS="20") == 0
    assert statuses == [200]
