"""The real process: started, asked, replaced and stopped as an operator would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COUNT = "/api/position_count/letter_count"
Start = Callable[..., tuple[subprocess.Popen[str], httpx.Client]]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "letterwise", "serve", *map(str, arguments)]


def environment(**given: object) -> dict[str, str]:
    quiet = {
        "TASK_TYPE": "position_count",
        "CANARY_INTERVAL_SECONDS": "0",
        "RATE_LIMIT": "off",
        "MAX_QUEUE_MS": "60000",
    }
    return os.environ | quiet | {name: str(value) for name, value in given.items()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a service and wait until it is ready."""
    running: list[tuple[subprocess.Popen[str], httpx.Client]] = []

    def run(model: Path, **given: object) -> tuple[subprocess.Popen[str], httpx.Client]:
        port = free_port()
        process = subprocess.Popen(
            command("--model", model, "--port", port),
            env=environment(**given),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        running.append((process, client))
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            try:
                if client.get("/ready").status_code == 200:
                    return process, client
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    yield run
    for process, client in running:
        client.close()
        process.kill()
        process.communicate()


def words(count: int) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        f"word{letters[number // 676 % 26]}{letters[number // 26 % 26]}{letters[number % 26]}"
        for number in range(count)
    ]


def test_a_stopping_service_finishes_what_is_in_flight(start: Start, tiny_llama: Path) -> None:
    process, client = start(tiny_llama, MAX_BATCH_SIZE=1024, QUEUE_SIZE=4096)
    items = [{"word": word, "letter": "w", "mode": "computed"} for word in words(1000)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, f"{COUNT}/batch", json={"items": items})
        time.sleep(0.3)
        assert not answer.done()
        process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert len(answer.result().json()["results"]) == 1000
    assert process.wait(30) == 0
    lines = process.stdout.read().splitlines() if process.stdout else []
    assert lines
    for line in lines:
        assert {"timestamp", "level", "message", "request_id", "component"} <= json.loads(line).keys()


def test_an_idle_connection_is_kept_for_longer_than_uvicorn_would(start: Start, tiny_llama: Path) -> None:
    _, client = start(tiny_llama)
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as connection:
        for pause in (7, 0):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                received = connection.recv(65536)
                assert received, "closed"
                answer += received
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(pause)


def test_the_model_is_replaced_without_losing_a_request(
    start: Start, tiny_llama: Path, tiny_gpt2: Path, tmp_path: Path
) -> None:
    current = tmp_path / "current"
    current.symlink_to(tiny_llama)
    process, client = start(current)
    before = client.get("/ready").json()["revision"]
    stop = False

    def ask(mode: str) -> list[int]:
        statuses = []
        for word in words(17_576):  # each a new one, so that the model goes on writing while the other one is loaded
            body = {"word": word, "letter": "w", "mode": mode}
            statuses.append(client.post(COUNT, json=body).status_code)
            if stop:
                break
        return statuses

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, mode) for mode in ("direct", "spell_first", "computed", "computed")]
        current.unlink()
        current.symlink_to(tiny_gpt2)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while client.get("/ready").json()["revision"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        stop = True
        statuses = [status for one in asking for status in one.result()]
    assert set(statuses) == {200}

    # A broken model does not replace one that works.
    after = client.get("/ready").json()["revision"]
    current.unlink()
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert client.get("/ready").json()["revision"] == after != before
    assert client.post(COUNT, json={"word": "letter", "letter": "t", "mode": "direct"}).status_code == 200


def refused(*arguments: object, **given: object) -> str:
    """What a service that does not start says."""
    done = subprocess.run(
        command(*arguments), env=environment(**given), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_what_cannot_be_served_is_one_sentence(tiny_llama: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused("--model", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "neither an adapter" in refused("--model", tmp_path / "empty")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_llama, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be loaded" in refused("--model", broken, "--port", free_port())


def test_a_wrong_setting_is_one_sentence(tiny_llama: Path) -> None:
    for variable, value in [("MAX_BATCH_SIZE", "none"), ("TASK_TYPE", "counting"), ("RATE_LIMIT", "often")]:
        assert variable in refused("--model", tiny_llama, **{variable: value})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refused("--model", tiny_llama, "--port", port)
