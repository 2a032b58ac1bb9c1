"""What comes over a connection before there is a request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from letterwise.api.utils import connections


async def answering(scope: object, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connections, "MAX_HEAD_BYTES", 1000)
    config = uvicorn.Config(
        answering, port=0, http=connections.GuardedProtocol, lifespan="off", log_config=None, timeout_keep_alive=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join()


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    number: int = server.servers[0].sockets[0].getsockname()[1]
    return number


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
        except ConnectionError:
            pass
        answer = b""
        while True:
            try:
                data = client.recv(65536)
            except ConnectionError:
                return answer
            if not data:
                return answer
            answer += data


def problem(answer: bytes, status: int) -> dict[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    problem: dict[str, str] = json.loads(body)
    assert problem.keys() == {"error", "details", "request_id"}
    assert f"x-request-id: {problem['request_id']}" in head.decode().lower()
    return problem


def test_a_request_is_answered_and_another_one_on_the_same_connection(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert talk(port, request, last, pause=0.2).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("noise", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n: x\r\n\r\n"])
def test_what_is_not_http_is_told_so(port: int, noise: bytes) -> None:
    assert problem(talk(port, noise), 400)["error"] == "Invalid request"


def test_who_says_nothing_or_dribbles_is_not_waited_for(port: int) -> None:
    began = time.monotonic()
    assert problem(talk(port), 408)["error"] == "Timeout"
    dribbled = [b"GET / HTTP/1.1\r\n", *[b"X-More: more\r\n"] * 30]
    assert problem(talk(port, *dribbled, pause=0.05), 408)["error"] == "Timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_has_a_size_whether_or_not_it_ends(port: int, end: bytes) -> None:
    parts = [b"GET / HTTP/1.1\r\nX-Large: ", b"x" * 600, b"x" * 600, end]
    assert problem(talk(port, *parts, pause=0.02), 431)["error"] == "Headers too large"


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-Large: %s", b"GET /%s HTTP/1.1\r\nHost: x"])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nok"])
def test_a_head_has_a_size_even_if_it_comes_in_one_piece(port: int, head: bytes, end: bytes) -> None:
    assert problem(talk(port, head % (b"x" * 1200) + end), 431)["error"] == "Headers too large"


def test_a_body_that_comes_with_its_head_does_not_count_as_head(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"
    assert talk(port, head + b"x" * 5000).startswith(b"HTTP/1.1 200 OK")


def test_a_stopping_server_answers_what_still_comes_in(
    port: int, server: uvicorn.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LAST_CALL_SECONDS", 2)
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request)
        assert client.recv(65536).endswith(b"ok")
        server.should_exit = True
        while server.servers[0].is_serving():
            time.sleep(0.01)
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert answer.endswith(b"ok")


def test_a_stopping_server_lets_an_idle_connection_go(port: int, server: uvicorn.Server) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536).endswith(b"ok")
        began = time.monotonic()
        server.should_exit = True
        assert client.recv(1) == b""
        assert time.monotonic() - began < 1.5  # sooner than the two seconds of any idle connection
