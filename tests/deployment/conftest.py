"""The whole of monitoring, running on tiny models: two services, users, Prometheus, Alertmanager."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import httpx2 as httpx
import pytest
import uvicorn
from live_monitoring import (
    Prometheus,
    Receivers,
    UnevenEngine,
    Users,
    alertmanager,
    free_port,
    node_exporter,
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


@contextmanager
def scripted_service(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """The application around scripted answers, served from a thread, with an evaluation to compare its canary with."""
    results = read_results(RECORDED / "evaluation_results.json", EvaluationResults)
    transfer = read_results(RECORDED / "transfer.json", TransferResults)
    model = replace(served(tokenizer, UnevenEngine()), results=results, transfer=transfer)
    address = f"127.0.0.1:{free_port()}"
    settings = ServiceSettings(
        canary_interval_seconds=0.1, canary_window=30, rate_limit="off", log_level="error", max_queue_ms=60_000
    )
    app, port = create_app(settings, lambda _: model), int(address.rpartition(":")[2])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: httpx.get(f"http://{address}/ready").status_code == 200, "service", 120)
        yield address
    finally:
        server.should_exit = True
        thread.join(30)


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
def watching(
    tiny_llama: Path, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus, which has seen both services asked for a while."""
    prometheus_program = program("prometheus", "Debian: prometheus")
    alertmanager_program = program("prometheus-alertmanager", "Debian: prometheus-alertmanager")
    exporter = program("prometheus-node-exporter", "Debian: prometheus-node-exporter")
    folder = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        # Logging belongs to the whole process, and other tests look at it.
        stack.enter_context(patch("letterwise.api.app.configure_logging"))
        real = stack.enter_context(real_process(tiny_llama, folder))
        scripted = stack.enter_context(scripted_service(tiny_tokenizer))
        manager = stack.enter_context(
            alertmanager(folder, alertmanager_program, stack.enter_context(Receivers().listening()))
        )
        node = stack.enter_context(node_exporter(folder, exporter))
        targets = {"letterwise": [scripted, real], "alertmanager": [manager], "node": [node]}
        watching = stack.enter_context(prometheus(folder, prometheus_program, targets))
        stack.enter_context(Users(f"http://{scripted}").asking())
        stack.enter_context(Users(f"http://{real}").asking(pause=0.2))
        wait_for(lambda: watching.query("instance:letterwise_canary_probes:sum > 30"), "canary")
        time.sleep(5)  # two looks at least at everything that the rules have made of it
        yield watching
