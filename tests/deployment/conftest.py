"""The whole of monitoring, running: service, users, Prometheus, Alertmanager."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2 as httpx
import pytest
import uvicorn
from live_monitoring import (
    BreakableEngine,
    Prometheus,
    Receivers,
    Users,
    alertmanager,
    free_port,
    process,
    prometheus,
    wait_for,
)
from programs import ROOT, program
from scripted_model import served
from transformers import PreTrainedTokenizerBase

from letterwise.api.app import create_app
from letterwise.api.settings import ServiceSettings
from letterwise.results import EvaluationResults, TransferResults, read_results

RECORDED = ROOT / "docs" / "results" / "standard"


@dataclass
class Watched:
    """A service that is watched; its model can be broken."""

    engine: BreakableEngine
    users: Users
    prometheus: Prometheus
    receivers: Receivers
    stop_service: Any
    start_service: Any


class BreakableService:
    """The application, served from a thread; it can be stopped and started."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.engine = BreakableEngine()
        self.port = free_port()
        results = read_results(RECORDED / "evaluation_results.json", EvaluationResults)
        transfer = read_results(RECORDED / "transfer.json", TransferResults)
        self.model = replace(served(tokenizer, self.engine), results=results, transfer=transfer)

    def start(self) -> None:
        settings = ServiceSettings(
            canary_interval_seconds=0.1,
            canary_window=30,
            rate_limit="off",
            log_level="error",
            max_queue_ms=60_000,
            port=self.port,
        )
        app = create_app(settings, lambda _: self.model)
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None, access_log=False))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        url = f"http://127.0.0.1:{self.port}"
        wait_for(lambda: httpx.get(f"{url}/ready").status_code == 200, "service", 120)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)


@contextmanager
def real_process(model: Path, folder: Path) -> Iterator[str]:
    """`letterwise serve` with a tiny model and the recorded evaluation beside it."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"CANARY_INTERVAL_SECONDS": "0.5", "RATE_LIMIT": "off", "MAX_QUEUE_MS": "60000"}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in _SETTINGS} | settings
    command = [sys.executable, "-m", "letterwise", "serve", "--model", model, "--port", address.rpartition(":")[2]]
    with process(*command, log=folder / "service.log", env=environment):
        wait_for(lambda: httpx.get(f"http://{address}/ready").status_code == 200, "process", 120)
        yield address


_SETTINGS = {name.upper() for name in ServiceSettings.model_fields}


@pytest.fixture(scope="module")
def watched(
    tiny_llama: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """Both services have been asked for a while, and Prometheus has seen it."""
    prometheus_program = program("prometheus", "Debian: prometheus")
    alertmanager_program = program("prometheus-alertmanager", "Debian: prometheus-alertmanager")
    exporter = program("prometheus-node-exporter", "Debian: prometheus-node-exporter")
    folder = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        # Logging belongs to the whole process, and other tests look at it.
        stack.enter_context(patch("letterwise.api.app.configure_logging"))
        real = stack.enter_context(real_process(tiny_llama, folder))
        service = BreakableService(tiny_tokenizer)
        service.start()
        stack.callback(service.stop)
        receivers = Receivers()
        manager = stack.enter_context(
            alertmanager(folder, alertmanager_program, stack.enter_context(receivers.listening()))
        )
        node = f"127.0.0.1:{free_port()}"
        stack.enter_context(
            process(
                exporter,
                f"--web.listen-address={node}",
                "--collector.disable-defaults",
                "--collector.netdev",
                log=folder / "node.log",
            )
        )
        targets = {"letterwise": [f"127.0.0.1:{service.port}", real], "alertmanager": [manager], "node": [node]}
        watching = stack.enter_context(prometheus(folder, prometheus_program, targets))
        users = Users(f"http://127.0.0.1:{service.port}")
        stack.enter_context(users.asking())
        stack.enter_context(Users(f"http://{real}").asking(pause=0.2))
        wait_for(lambda: watching.query("instance:letterwise_canary_probes:sum > 30"), "canary")
        time.sleep(5)  # two looks at least at everything that the rules have made of it
        yield Watched(service.engine, users, watching, receivers, service.stop, service.start)
