"""The service on the embedded model with an adapter, in a process of its own that can be broken, and what watches it.

Knows how to break and to mend it; knows nothing about which alert should tell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import breakable_service
import httpx2 as httpx
from breakable_service import Faults
from live_monitoring import (
    USER_WORDS,
    Hurry,
    Prometheus,
    Receivers,
    Users,
    alertmanager,
    free_port,
    node_exporter,
    prometheus,
    set_targets,
    wait_for,
)
from programs import ROOT, program
from taught_adapter import CANARY_WORDS, make_adapters

from letterwise.adapters import ADAPTER_WEIGHTS
from letterwise.api.settings import ServiceSettings
from letterwise.files import sha256_file
from letterwise.models import EMBEDDED, resolve_base

HURRY = Hurry(look_seconds=2, for_seconds=4, range_seconds=20, offset_seconds=40, silence_seconds=15)
QUEUE_SIZE, BATCH = 20, 4
SETTINGS = {
    # Each word once: as long as nothing changes, no figure does.
    "CANARY_WINDOW": str(CANARY_WORDS),
    "CANARY_INTERVAL_SECONDS": "0.1",
    "QUEUE_SIZE": str(QUEUE_SIZE),
    "MAX_BATCH_SIZE": str(BATCH),
    # Nothing is refused or given up: a hanging model shows in the queue alone.
    "MAX_QUEUE_MS": "600000",
    "REQUEST_TIMEOUT_SECONDS": "600",
    "RATE_LIMIT": "off",
    "LOG_LEVEL": "warning",
    "DRAIN_SECONDS": "5",
}
START_SECONDS = 600
"""How long loading a model may take on a busy machine."""


@dataclass
class BreakableService:
    """The service, in a process of its own."""

    folder: Path
    adapters: Mapping[str, Path]
    address: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def break_(self, faults: Faults) -> None:
        """From now on this is broken, and nothing else."""
        faults.write(self.folder / "faults.json")

    def start(self) -> None:
        """Start the service; it is ready some time later."""
        known = {name.upper() for name in ServiceSettings.model_fields}
        environment = {name: value for name, value in os.environ.items() if name.upper() not in known}
        environment |= {**SETTINGS, "MODEL_PATH": str(self.folder / "model"), "PORT": self.address.rpartition(":")[2]}
        command = [sys.executable, breakable_service.__file__, str(self.folder / "faults.json")]
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        """Stop the service, whatever it is doing."""
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def revision(self) -> str:
        """Of the model that is served; "" where none is."""
        answer = httpx.get(f"{self.url}/ready", timeout=20)
        return str(answer.json()["revision"]) if answer.status_code == 200 else ""

    def serve(self, adapter: str) -> None:
        """Put an adapter in the place of the one that is served, and wait until it is."""
        self.link(adapter)
        self.reload()
        self.wait_until_served(adapter)

    def reload(self) -> None:
        """Have what MODEL_PATH is now loaded in the background."""
        assert self.process
        self.process.send_signal(signal.SIGHUP)

    def link(self, adapter: str) -> None:
        """Let MODEL_PATH be this adapter."""
        link = self.folder / "next"
        link.symlink_to(self.adapters[adapter])
        link.rename(self.folder / "model")

    def wait_until_served(self, adapter: str) -> None:
        """Return once this adapter is served."""
        checksum = sha256_file(self.adapters[adapter] / ADAPTER_WEIGHTS)[:16]
        wait_for(lambda: self.revision().endswith(checksum), f"service with the {adapter} adapter", START_SECONDS)

    def ask_at_once(self, users: int) -> list[threading.Thread]:
        """Let so many users ask one question each; the threads end with the answers."""
        threads = [threading.Thread(target=self._ask_once, args=(place,), daemon=True) for place in range(users)]
        for thread in threads:
            thread.start()
        return threads

    def _ask_once(self, place: int) -> None:
        body = {"word": USER_WORDS[-1 - place], "letter": "u", "mode": "direct"}
        with suppress(httpx.TransportError):
            httpx.post(f"{self.url}/api/position_count/letter_count", json=body, timeout=600)


@dataclass
class Deployment:
    """A running service, and those who watch it and are told."""

    folder: Path
    service: BreakableService
    prometheus: Prometheus
    receivers: Receivers

    def scrape(self, wanted: bool) -> None:
        """Whether Prometheus knows of the service."""
        set_targets(self.folder, "letterwise", [self.service.address] if wanted else [])


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """All of it, running; the adapters are made where there are none yet."""
    names = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
    programs = {name: program(name, f"Debian: {name}") for name in names}
    whole, damaged = make_adapters(resolve_base(EMBEDDED), ROOT / "build" / "monitoring")
    service = BreakableService(folder, {"whole": whole, "damaged": damaged}, f"127.0.0.1:{free_port()}")
    receivers = Receivers()
    with ExitStack() as stack:
        service.break_(Faults())
        service.link("whole")
        stack.callback(service.stop)
        service.start()
        service.wait_until_served("whole")
        stack.enter_context(Users(service.url).asking(pause=0.25, timeout=600))
        url = stack.enter_context(receivers.listening())
        manager = stack.enter_context(alertmanager(folder, programs["prometheus-alertmanager"], url))
        node = stack.enter_context(node_exporter(folder, programs["prometheus-node-exporter"]))
        targets = {"letterwise": [service.address], "alertmanager": [manager], "node": [node]}
        watching = stack.enter_context(prometheus(folder, programs["prometheus"], targets, HURRY))
        yield Deployment(folder, service, watching, receivers)
