"""Ask running services what docs/api.md and the OpenAPI description show, and record requests and responses.

    python docs/record_api_examples.py

The model is the bare base model, so that anyone can repeat it without a training; it is often wrong. For failures it is
one that is faulty on purpose. After it, run `make docs`. Knows what to ask; what is answered is written down as it
comes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import torch
from example_services import PATIENCE, refused, running, send, wait_for

from letterwise import __version__, hardware
from letterwise.api.examples import RECORDING, Exchange, Recording, ServiceExchanges
from letterwise.api.utils.connections import MAX_HEAD_BYTES
from letterwise.files import write_json

SPELL = "/api/spelling/predict"
CHECK = "/api/spelling/check"
COUNT = "/api/position_count/letter_count"
POSITION = "/api/position_count/letter_position"
KEY = "example-key"
SERVE = "letterwise serve"
LIMITS = ("RateLimit-Policy", "RateLimit")
SHOWN_METRICS = re.compile(r"(?:# (?:HELP|TYPE) )?letterwise_(?:model_info|ready|answers_total)[ {].*")
"""Lines of the Prometheus text that are kept: all of them would fill pages."""
PROBES = 5
"""Canary probes to wait for, so that there are live figures to show."""


@dataclass(frozen=True)
class Ask:
    """A request to record, and the status that makes the answer worth recording.

    Of the response's headers, the type and those named are kept.
    """

    name: str
    title: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    status: int = 200

    @property
    def wait(self) -> bool:
        """Whether the model must be ready."""
        return self.path != "/health" and self.status != 503


OPEN_SERVICE = {"MODEL_PATH": "embedded", "CANARY_INTERVAL_SECONDS": "1"}
OPEN_ASKS = [
    Ask("health", "Alive", "GET", "/health"),
    Ask("not_ready", "While the model is being loaded", "GET", "/ready", keep=("Retry-After",), status=503),
    Ask("ready", "Ready", "GET", "/ready"),
    Ask("spelling", "A spelling", "POST", SPELL, {"text": "How do you spell 'window'?", "verify": True}),
    Ask(
        "spellings",
        "Several spellings",
        "POST",
        f"{SPELL}/batch",
        {"items": [{"text": "window"}, {"text": "Spell the word garden", "verify": True}]},
    ),
    Ask("check", "A misspelled word", "POST", CHECK, {"word": "algoritm"}),
    Ask("checks", "Several words", "POST", f"{CHECK}/batch", {"items": [{"word": "recieve"}, {"word": "rhythm"}]}),
    Ask("count", "A count", "POST", COUNT, {"word": "strawberry", "letter": "r", "verify": True}),
    Ask(
        "count_direct",
        "A count in mode direct",
        "POST",
        COUNT,
        {"word": "butter", "letter": "e", "mode": "direct", "verify": True},
    ),
    Ask(
        "counts",
        "Several counts",
        "POST",
        f"{COUNT}/batch",
        {"items": [{"word": "window", "letter": "n"}, {"word": "butter", "letter": "b", "mode": "direct"}]},
    ),
    Ask("position", "A position", "POST", POSITION, {"word": "window", "position": 3, "verify": True}),
    Ask(
        "position_spell_first",
        "A position in mode spell_first",
        "POST",
        POSITION,
        {"word": "window", "position": 2, "mode": "spell_first", "verify": True},
    ),
    Ask(
        "positions",
        "Several positions",
        "POST",
        f"{POSITION}/batch",
        {"items": [{"word": "banana", "position": 1}, {"word": "orange", "position": 1, "mode": "direct"}]},
    ),
    Ask("metrics", "As JSON", "GET", "/metrics", headers={"Accept": "application/json"}),
    Ask("metrics_text", "As Prometheus text; an excerpt", "GET", "/metrics"),
    Ask(
        "not_in_word",
        "A position that the word does not have",
        "POST",
        POSITION,
        {"word": "cat", "position": 5},
        {"X-Request-ID": "my-request-1"},
        ("X-Request-ID",),
        status=400,
    ),
    Ask("not_a_word", "Something else than a word", "POST", COUNT, {"word": "b4nana", "letter": "a"}, status=400),
    Ask("no_base", "A model that is not loaded", "POST", SPELL, {"text": "window", "model": "base"}, status=400),
    Ask("no_path", "A path that there is not", "GET", "/api/spelling", status=404),
    Ask("no_method", "A method that the path does not take", "GET", COUNT, keep=("Allow",), status=405),
    Ask("not_http", "A method that HTTP does not know", "HELLO", "/health", keep=("Connection",), status=400),
    Ask(
        "slow_head",
        "Headers that do not end",
        "GET",
        "/health",
        headers={"Host": "localhost"},
        keep=("Connection",),
        status=408,
    ),
    Ask(
        "large_head",
        "Headers that are too large",
        "GET",
        "/health",
        headers={"X-Large": f"<{MAX_HEAD_BYTES} times x>"},
        keep=("Connection",),
        status=431,
    ),
]
GUARDED_SERVICE = {
    "MODEL_PATH": "embedded",
    "TASK_TYPE": "position_count",
    "API_KEY": KEY,
    "RATE_LIMIT": "2/minute",
    "MAX_BODY_BYTES": "256",
}
BEARER = {"Authorization": f"Bearer {KEY}"}
QUESTION = {"word": "window", "letter": "n"}
GUARDED_ASKS = [
    Ask("other_task", "A route of the other task", "POST", SPELL, {"text": "window"}, BEARER, status=404),
    Ask("no_key", "No key", "POST", COUNT, QUESTION, keep=("WWW-Authenticate",), status=401),
    Ask("bearer", "A key as bearer token", "POST", COUNT, QUESTION, BEARER, LIMITS),
    Ask("api_key", "A key in a header of its own", "POST", COUNT, QUESTION, {"X-API-Key": KEY}, LIMITS),
    Ask("too_many", "One request too many", "POST", COUNT, QUESTION, BEARER, ("Retry-After", *LIMITS), status=429),
    Ask(
        "too_large",
        "A body that is too large",
        "POST",
        f"{COUNT}/batch",
        {"items": [QUESTION] * 8},
        BEARER,
        status=413,
    ),
]
FAULTY_SERVICE = {
    "TASK_TYPE": "position_count",
    "REQUEST_TIMEOUT_SECONDS": "1",
    "MAX_BATCH_SIZE": "1",
    "QUEUE_SIZE": "1",
}
RETRY = ("Retry-After",)
FAULTY_ASKS = [
    Ask("failed", "A model that breaks down", "POST", COUNT, {"word": "crash", "letter": "c"}, status=500),
    Ask("timeout", "A model that is slow", "POST", COUNT, {"word": "slow", "letter": "o"}, keep=RETRY, status=503),
    Ask(
        "overloaded",
        "One of three such requests at once",
        "POST",
        COUNT,
        {"word": "slow", "letter": "w"},
        keep=RETRY,
        status=503,
    ),
]
SERVICES = (
    (OPEN_SERVICE, SERVE, OPEN_ASKS),
    (GUARDED_SERVICE, SERVE, GUARDED_ASKS),
    (FAULTY_SERVICE, "uvicorn --app-dir docs --factory faulty_service:create_app", FAULTY_ASKS),
)


def wait_for_canary(client: httpx2.Client) -> None:
    """Ask until the canary has probed a few times."""
    answered = re.compile(r'^letterwise_canary_probes_total{.*question_type="spelling"} ([\d.]+)', re.MULTILINE)
    deadline = time.monotonic() + PATIENCE
    while sum(map(float, answered.findall(client.get("/metrics").text))) < PROBES:
        if time.monotonic() > deadline:
            raise SystemExit(f"The canary did not probe {PROBES} times within {PATIENCE} s.")
        time.sleep(1)


def record(client: httpx2.Client, ask: Ask) -> Exchange:
    """Send a request and keep what came back."""
    if ask.path == "/metrics":
        wait_for_canary(client)
    headers = {**({"Content-Type": "application/json"} if ask.body is not None else {}), **ask.headers}
    if ask.wait:
        wait_for(client, "/ready")
    body = "" if ask.body is None else json.dumps(ask.body)
    if ask.name == "overloaded":
        response = refused(client, ask.method, ask.path, headers, body)
    else:
        response = send(client, ask.method, ask.path, headers, body, ends=ask.status != 408)
    if response.status_code != ask.status:
        raise SystemExit(f"{ask.name}: {response.status_code} instead of {ask.status}: {response.text}")
    if response.headers["Content-Type"].startswith("application/json"):
        answer: Any = response.json()
    else:
        answer = "\n".join(line for line in response.text.splitlines() if SHOWN_METRICS.fullmatch(line))
    return Exchange(
        name=ask.name,
        title=ask.title,
        method=ask.method,
        path=ask.path,
        headers=headers,
        body=ask.body,
        status=response.status_code,
        response_headers={name: response.headers[name] for name in ("Content-Type", *ask.keep)},
        response=answer,
    )


def main() -> None:
    """Record everything."""
    services = []
    for environment, command, asks in SERVICES:
        with running(environment, command) as client:
            exchanges = [record(client, ask) for ask in asks]
        services.append(ServiceExchanges(environment=environment, command=command, exchanges=exchanges))
    recorded = Recording(
        date=datetime.now(UTC).date().isoformat(),
        version=__version__,
        cpu=hardware.cpu_name(),
        cores=hardware.cpu_cores(),
        dtype=str(hardware.choose_dtype(torch.device("cpu"))).removeprefix("torch."),
        services=services,
    )
    write_json(RECORDING, recorded.model_dump())
    for exchange in recorded.exchanges:
        print(exchange.status, exchange.method, exchange.path, exchange.response)


if __name__ == "__main__":
    main()
