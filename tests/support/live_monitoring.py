"""The Prometheus and Alertmanager that watch a service, in a hurry and on loopback, with users and receivers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from letterwise.files import write_text

USER_WORDS = [f"user{''.join(letters)}" for letters in product(ascii_lowercase, repeat=3)]
"""So many that hardly one is answered from what the service remembers; the canary's words are others."""


@dataclass(frozen=True)
class Hurry:
    """How much sooner than in production everything happens; thresholds stay."""

    look_seconds: int = 1
    """Between two scrapes, and between two looks at the rules; 15 in production."""
    for_seconds: int = 2
    """How long a condition has to hold before its alert fires, whatever the rule says."""
    range_seconds: int = 10
    """What rates and averages are taken over, instead of minutes and hours."""
    offset_seconds: int = 15
    """What stands for the same hour yesterday."""
    silence_seconds: int = 6
    """What the canary may be silent for, instead of five minutes."""
    probes: int = 20
    """From how many probes on an accuracy says something, instead of 100."""

    def rules(self, text: str) -> str:
        """The same rules with these times."""
        for slow, fast in (
            (r"for: \w+", f"for: {self.for_seconds}s"),
            (r"\[(5m|1h)\]", f"[{self.range_seconds}s]"),
            ("offset 1d", f"offset {self.offset_seconds}s"),
            ("> 300", f"> {self.silence_seconds}"),
            (">= 100", f">= {self.probes}"),
        ):
            text = re.sub(slow, fast, text)
        return text


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
class UnevenEngine(ScriptedEngine):
    """Spells three words of four right."""

    def _spell(self, word: str) -> Generation:
        if crc32(word.encode()) % 4 == 0:
            self.spellings[word] = "q" * len(word)
        return super()._spell(word)


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
    def asking(self, pause: float = 0.05, timeout: float = 20) -> Iterator[None]:
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=self.url, timeout=timeout) as client:
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
        return self._ask("query", query=expression)

    def range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series over a time, in seconds since 1970."""
        return self._ask("query_range", query=expression, start=start, end=end, step=step)

    def _ask(self, what: str, **asked: str | float) -> list[dict[str, Any]]:
        answer = self.client.get(f"/api/v1/{what}", params=asked).json()
        assert answer["status"] == "success", f"{answer['error']}: {asked['query']}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """Labels, state and more of each alert that is pending or firing."""
        found: list[dict[str, Any]] = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return found


def set_targets(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """Tell the Prometheus of a folder whom to scrape; it reads the file anew by itself."""
    text = yaml.safe_dump([{"targets": list(addresses)}] if addresses else [])
    write_text(folder / "prometheus" / "targets" / f"{name}.yml", text)


@contextmanager
def prometheus(
    folder: Path, program: str, targets: Mapping[str, list[str]], hurry: Hurry | None = None
) -> Iterator[Prometheus]:
    """The repository's configuration and rules, in a hurry; `targets` are by the names of their files."""
    hurry = hurry or Hurry()
    shutil.copytree(MONITORING / "prometheus", folder / "prometheus")
    shutil.copytree(MONITORING / "alerts", folder / "alerts")
    configuration = folder / "prometheus" / "prometheus.yml"
    text = configuration.read_text(encoding="utf-8")
    assert text.count("15s") == 2
    configuration.write_text(text.replace("15s", f"{hurry.look_seconds}s"), encoding="utf-8")
    for path in [folder / "prometheus" / "recording_rules.yml", *(folder / "alerts").glob("*.yml")]:
        path.write_text(hurry.rules(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, addresses in targets.items():
        assert (folder / "prometheus" / "targets" / f"{name}.yml").is_file()
        set_targets(folder, name, addresses)
    address = f"127.0.0.1:{free_port()}"
    options = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with process(program, f"--config.file={configuration}", *options, log=folder / "prometheus.log"):
        running = Prometheus(f"http://{address}")
        wait_for(lambda: running.client.get("/-/ready").status_code == 200, "Prometheus")
        yield running


@dataclass(frozen=True)
class Told:
    """Somebody was told for the first time that an alert fires, or that it is over."""

    receiver: str
    status: str
    """'firing' or 'resolved'."""
    labels: Mapping[str, str]
    runbook: str
    """Address of what to do."""
    at: float
    """On the monotonic clock."""


class Receivers:
    """Everybody who is told of alerts."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.repetitions: list[str] = []
        """What somebody was told who knew it all already."""
        self._known: set[tuple[str, ...]] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._hear(self.path.strip("/"), json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._lock = threading.Lock()

    def _hear(self, receiver: str, notification: dict[str, Any]) -> None:
        """A notification is about a group of alerts, of which something has to be new."""
        with self._lock:
            new = False
            for alert in notification["alerts"]:
                incident = (receiver, alert["status"], alert["fingerprint"], alert["startsAt"])
                if incident not in self._known:
                    self._known.add(incident)
                    runbook = alert["annotations"]["runbook_url"]
                    self.told.append(Told(receiver, alert["status"], alert["labels"], runbook, time.monotonic()))
                    new = True
            if not new:
                self.repetitions.append(f"{receiver}: {notification['groupLabels']} {notification['status']}")

    @contextmanager
    def listening(self) -> Iterator[str]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{self.server.server_port}"
        self.server.shutdown()
        self.server.server_close()

    def of(self, status: str, labels: Mapping[str, str], since: float) -> list[Told]:
        """Who was told of alerts with these labels, once for each incident."""
        return [
            told
            for told in list(self.told)
            if told.status == status and told.at >= since and labels.items() <= told.labels.items()
        ]


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


@contextmanager
def node_exporter(folder: Path, program: str) -> Iterator[str]:
    """What tells of this host's network."""
    address = f"127.0.0.1:{free_port()}"
    options = [f"--web.listen-address={address}", "--collector.disable-defaults", "--collector.netdev"]
    with process(program, *options, log=folder / "node.log"):
        yield address
