"""A service whose model can be broken on purpose, and the Prometheus and Alertmanager that watch it, on loopback."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from zlib import crc32

import httpx2 as httpx
import yaml
from programs import MONITORING
from scripted_model import ScriptedEngine

from letterwise.engines.engine import Generation
from letterwise.tasks.questions import Prompt

USER_WORDS = [f"user{''.join(letters)}" for letters in product(ascii_lowercase, repeat=3)]
"""So many that hardly one is answered from what the service remembers; the canary's words are others."""
HURRY = (
    (r"for: \w+", "for: 2s"),
    (r"\[(5m|1h)\]", "[10s]"),
    (r"offset 1d", "offset 15s"),
    (r"> 300", "> 6"),
    (r">= 100", ">= 20"),
)
"""The rules' waiting times, for a test that has a minute; their thresholds stay."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx.TransportError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)


@dataclass
class BreakableEngine(ScriptedEngine):
    """Spells three words of four right, until something is broken."""

    wrong: float = 0.25
    """Share of words that it spells wrong."""
    careless: bool = False
    """Misses one letter only: the spelling is wrong and most answers about it are right."""
    failing: bool = False
    """Answers nothing."""
    deaf_to_others: bool = False
    """Answers users only, so that the canary gets nothing."""

    def generate(
        self, prompts: Any, max_new_tokens: int, letter_probabilities: bool = False, drafts: Any = None
    ) -> list[Generation]:
        if self.failing or (self.deaf_to_others and not all(map(_is_of_a_user, prompts))):
            raise RuntimeError("broken on purpose")
        return super().generate(prompts, max_new_tokens, letter_probabilities, drafts)

    def score(self, prompts: Any, candidates: Any) -> list[list[float]]:
        if self.failing:
            raise RuntimeError("broken on purpose")
        return super().score(prompts, candidates)

    def _spell(self, word: str) -> Generation:
        if crc32(word.encode()) % 100 < 100 * self.wrong:
            self.spellings[word] = word[:-1] + "q" if self.careless else "q" * len(word)
        else:
            self.spellings.pop(word, None)
        return super()._spell(word)


def _is_of_a_user(prompt: Prompt) -> bool:
    return bool(re.findall(r"Word: (\w+)", prompt.text)[-1].startswith("user"))


@dataclass
class Users:
    """Ask a service everything, round and round."""

    url: str
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def requests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for word in cycle(USER_WORDS):
            count, position = {"word": word, "letter": word[1]}, {"word": word, "position": 2}
            yield "/api/position_count/letter_count", count
            yield "/api/position_count/letter_position", position
            yield "/api/position_count/letter_count", {**count, "mode": "direct"}
            yield "/api/position_count/letter_count/batch", {"items": [count, count]}
            yield "/api/spelling/predict", {"text": word}
            yield "/api/spelling/check", {"word": word}
            yield "/api/spelling/predict", {"text": ""}

    @contextmanager
    def asking(self, pause: float = 0.05) -> Iterator[None]:
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=self.url, timeout=20) as client:
                for route, body in self.requests():
                    with suppress(httpx.TransportError):
                        self.statuses[client.post(route, json=body).status_code] += 1
                    if stop.wait(pause):
                        return

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join(20)


@contextmanager
def process(*command: object, log: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; what it writes goes to a file."""
    with log.open("wb") as output:
        started = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, env=env)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


class Prometheus:
    """What a running Prometheus knows."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{answer['error']}: {expression}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> set[str]:
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, program: str, targets: Mapping[str, list[str]]) -> Iterator[Prometheus]:
    """The repository's configuration and rules, in a hurry; `targets` are by the names of their files."""
    shutil.copytree(MONITORING / "prometheus", folder / "prometheus")
    shutil.copytree(MONITORING / "alerts", folder / "alerts")
    configuration = folder / "prometheus" / "prometheus.yml"
    text = configuration.read_text(encoding="utf-8")
    assert text.count("15s") == 2
    configuration.write_text(text.replace("15s", "1s"), encoding="utf-8")
    for path in [folder / "prometheus" / "recording_rules.yml", *(folder / "alerts").glob("*.yml")]:
        text = path.read_text(encoding="utf-8")
        for slow, fast in HURRY:
            text = re.sub(slow, fast, text)
        path.write_text(text, encoding="utf-8")
    for name, addresses in targets.items():
        path = folder / "prometheus" / "targets" / f"{name}.yml"
        assert path.is_file()
        path.write_text(yaml.safe_dump([{"targets": addresses}]), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with process(program, f"--config.file={configuration}", *options, log=folder / "prometheus.log"):
        running = Prometheus(f"http://{address}")
        wait_for(lambda: running.client.get("/-/ready").status_code == 200, "Prometheus")
        yield running


class Receivers:
    """Everybody who is told of alerts: keeps who heard what, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, str, str]] = []
        """Time, receiver, alert, and 'firing' or 'resolved'."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in told["alerts"]:
                    name, status = alert["labels"]["alertname"], alert["status"]
                    outer.heard.append((time.monotonic(), self.path.strip("/"), name, status))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @contextmanager
    def listening(self) -> Iterator[str]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{self.server.server_port}"
        self.server.shutdown()
        self.server.server_close()

    def told(self, alert: str, status: str) -> list[str]:
        """The receivers that were told, once for each time."""
        return [receiver for _, receiver, name, state in list(self.heard) if (name, state) == (alert, status)]


@contextmanager
def alertmanager(folder: Path, program: str, receivers_url: str) -> Iterator[str]:
    """The repository's routes and inhibitions, in a hurry, with a webhook in the place of each receiver."""
    given = (MONITORING / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    configuration = yaml.safe_load(re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", given))
    del configuration["global"], configuration["templates"]
    configuration["receivers"] = [
        {"name": each["name"], "webhook_configs": [{"url": f"{receivers_url}/{each['name']}", "send_resolved": True}]}
        for each in configuration["receivers"]
    ]
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = [f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address={address}"]
    options.append("--cluster.listen-address=")
    with process(program, f"--config.file={path}", *options, log=folder / "alertmanager.log"):
        wait_for(lambda: httpx.get(f"http://{address}/-/ready").status_code == 200, "Alertmanager")
        yield address
