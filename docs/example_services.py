"""Start the services that docs/api.md has examples of, and send them requests as they stand there.

Knows processes and HTTP; knows nothing about what is asked.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx2

from letterwise.api.settings import ServiceSettings

ROOT = Path(__file__).parents[1]
PATIENT = {
    "LOG_LEVEL": "error",
    "REQUEST_TIMEOUT_SECONDS": "120",
    "MAX_QUEUE_MS": "60000",
    "CANARY_INTERVAL_SECONDS": "0",
}
"""Where an example does not say otherwise: for machines that are busy otherwise; no answer depends on it."""
PATIENCE = 300
"""Seconds that a service may take to become ready."""
AT_ONCE = 3
"""Requests that are sent together for one that is refused because of the others: more than wait and are worked at."""


@contextmanager
def running(environment: Mapping[str, str], command: str) -> Iterator[httpx2.Client]:
    """Start a service with these variables and no other ones of its own; it is alive, but may still be loading."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    own = {name.upper() for name in ServiceSettings.model_fields}
    variables = {name: value for name, value in os.environ.items() if name not in own}
    process = subprocess.Popen(
        [sys.executable, "-m", *command.split(), "--port", str(port)],
        cwd=ROOT,
        env=variables | PATIENT | dict(environment),
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(client, "/health", process)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_for(client: httpx2.Client, path: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Ask until the answer is 200."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process and process.poll() is not None:
            raise SystemExit("The service ended; see above.")
        try:
            if client.get(path).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{path} did not become 200 within {PATIENCE} s.")


def send(
    client: httpx2.Client, method: str, path: str, headers: Mapping[str, str], body: str, ends: bool = True
) -> httpx2.Response:
    """Send a request, its long headers written out, and wait for the response.

    Args:
        client: knows the address.
        method: of HTTP, or not.
        path: where to.
        headers: with values such as `<1000 times x>`.
        body: empty for none.
        ends: whether the blank line after the headers, and with it the request's end, is sent.
    """
    written = {
        name: re.sub(r"<(\d+) times (.)>", lambda found: found[2] * int(found[1]), value)
        for name, value in headers.items()
    }
    if ends:
        return client.request(method, path, headers=written, content=body or None)
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in written.items())]
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), PATIENCE) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answer = HTTPResponse(connection)
        answer.begin()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def refused(client: httpx2.Client, method: str, path: str, headers: Mapping[str, str], body: str) -> httpx2.Response:
    """Send a request several times at once, and give the answer of one that had no room beside the others."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(send, client, method, path, headers, body) for _ in range(AT_ONCE)]
        responses = [one.result() for one in sent]
    return min(responses, key=lambda response: "Overloaded" not in response.text)
