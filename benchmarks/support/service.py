"""A service of its own process for a benchmark: started, waited for, stopped.

Knows how to start it and its settings; knows nothing about what is asked.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 300
STOP_SECONDS = 60


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def wait_until_ready(self) -> None:
        """Return once `/ready` answers 200."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"The service ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise SystemExit(f"The service was not ready after {START_SECONDS} s; see {self.log}.")

    def stop(self) -> int:
        """Send SIGTERM; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


def start_service(model: str, log: Path, port: int, **settings: object) -> Service:
    """Start `letterwise serve`; it need not be ready yet.

    Args:
        model: as MODEL_PATH.
        log: file that its output is added to.
        port: to listen on.
        settings: environment variables.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "letterwise", "serve", "--model", model, "--host", HOST, "--port", str(port)],
            env=os.environ | {name: str(value) for name, value in settings.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Service(process, port, log)


def start_plain_service(model: Path, log: Path, port: int) -> Service:
    """Start the plain stack (support/plain_service.py) with a stand-alone model; it need not be ready yet."""
    server = ["uvicorn", "support.plain_service:app", "--app-dir", str(Path(__file__).parents[1])]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *server, "--host", HOST, "--port", str(port), "--no-access-log"],
            env=os.environ | {"MODEL_PATH": str(model)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Service(process, port, log)


@contextmanager
def running_service(model: str, log: Path, **settings: object) -> Iterator[Service]:
    """A ready service; stopped at the end, whatever happens."""
    with running(start_service(model, log, free_port(), **settings)) as service:
        yield service


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """A started service once it is ready; stopped at the end, whatever happens."""
    try:
        service.wait_until_ready()
        yield service
        service.stop()
    finally:
        service.process.kill()
        service.process.wait()
