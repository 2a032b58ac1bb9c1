"""Overload: what becomes of the service when ten times as much is asked of it as it can answer.

The service runs in a process of its own and is asked letter-count questions in mode direct. First one request at a
time, with pauses: the unloaded latency. Then 32 users who ask again as soon as they are answered: the capacity. Then
requests arrive at random at ten times that rate, whether or not earlier ones were answered (an open loop); latency
counts from the moment a request was due, so that a generator held up does not hide it. Last, one at a time again.
Writes benchmarks/results/serve_overload.json.

    python benchmarks/serve_overload.py --model embedded --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from support.service import HOST, running_service

from letterwise.config import ExperimentConfig
from letterwise.files import write_json
from letterwise.models import resolve_base
from letterwise.run_environment import describe_environment
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "serve_overload.json"
PATH = "/api/position_count/letter_count"
USERS = 32
MAX_CONNECTIONS = 2000
PAUSE_SECONDS = 0.05


@dataclass
class Record:
    """What happened to the requests of one phase."""

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    """Status → latency of each request, in seconds."""
    unsent: int = 0
    """Requests that were due while all connections of the generator were in use."""
    broken: int = 0
    """Requests whose connection ended without an answer."""

    def add(self, status: int, seconds: float) -> None:
        self.latencies.setdefault(status, []).append(seconds)

    def report(self) -> dict[str, Any]:
        sent = sum(map(len, self.latencies.values())) + self.broken
        answered = self.latencies.get(200, [])
        return {
            "seconds": round(self.seconds, 2),
            "requests": sent,
            "offered_per_second": round(sent / self.seconds, 1),
            "answered_per_second": round(len(answered) / self.seconds, 1),
            "statuses": dict(Counter({str(status): len(times) for status, times in sorted(self.latencies.items())})),
            "broken": self.broken,
            "unsent": self.unsent,
            "answered_ms": milliseconds(answered),
            "refused_ms": milliseconds(
                [one for status, times in self.latencies.items() if status != 200 for one in times]
            ),
        }


def milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    """Percentiles."""
    if not seconds:
        return None
    values = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100])
    return {name: round(float(value), 1) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)}


class Connection(asyncio.Protocol):
    """One keep-alive connection. As cheap as can be, because the generator shares the processor with the service."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.answer: asyncio.Future[int] | None = None
        self.buffer = b""
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self.answer and not self.answer.done():
            self.answer.set_result(0)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        self.buffer = b""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, body = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        headers = head.lower()
        length = int(headers.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length and self.answer and not self.answer.done():
            if b"connection: close" in headers:
                self.open = False
            self.answer.set_result(int(head[9:12]))


class Generator:
    """Asks the service, over as many connections as it takes."""

    def __init__(self, port: int, words: Sequence[str]) -> None:
        self.port = port
        self.random = random.Random(0)
        self.idle: list[Connection] = []
        self.connections = 0
        self.requests = [self._request(word) for word in words]

    def _request(self, word: str) -> bytes:
        body = json.dumps({"word": word, "letter": self.random.choice(word), "mode": "direct"})
        return (
            f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def ask(self, record: Record, due: float) -> int:
        """One request; `due` is when it should have been sent. Gives the status, 0 where there is none."""
        while self.idle and not self.idle[-1].open:
            self.idle.pop()
            self.connections -= 1
        if self.idle:
            connection = self.idle.pop()
        elif self.connections < MAX_CONNECTIONS:
            self.connections += 1
            try:
                _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, self.port)
            except OSError:
                self.connections -= 1
                record.broken += 1
                return 0
        else:
            record.unsent += 1
            return 0
        status = await connection.ask(self.random.choice(self.requests))
        if status:
            record.add(status, time.perf_counter() - due)
        else:
            record.broken += 1
        self.idle.append(connection)
        return status

    async def one_at_a_time(self, seconds: float) -> Record:
        record, started = Record(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            await self.ask(record, time.perf_counter())
            await asyncio.sleep(PAUSE_SECONDS)
        record.seconds = time.perf_counter() - started
        return record

    async def closed_loop(self, users: int, seconds: float) -> Record:
        record, started = Record(), time.perf_counter()

        async def user() -> None:
            while time.perf_counter() - started < seconds:
                if await self.ask(record, time.perf_counter()) != 200:
                    await asyncio.sleep(1)  # as Retry-After says

        await asyncio.gather(*(user() for _ in range(users)))
        record.seconds = time.perf_counter() - started
        return record

    async def open_loop(self, rate: float, seconds: float) -> Record:
        record, started = Record(), time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        due = started
        while due - started < seconds:
            due += self.random.expovariate(rate)
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            task = asyncio.create_task(self.ask(record, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        record.seconds = time.perf_counter() - started
        await asyncio.gather(*tasks)
        return record


async def measure(port: int, seconds: float, factor: float, words: Sequence[str]) -> dict[str, Any]:
    generator = Generator(port, words)
    await generator.closed_loop(USERS, 3)  # so that everything has been done once
    await asyncio.sleep(1)
    unloaded = await generator.one_at_a_time(seconds / 2)
    capacity = await generator.closed_loop(USERS, seconds / 2)
    await asyncio.sleep(1)
    if not capacity.latencies.get(200):
        raise SystemExit("Nothing was answered; the service's log may say why.")
    rate = factor * len(capacity.latencies[200]) / capacity.seconds
    overload = await generator.open_loop(rate, seconds)
    await asyncio.sleep(1)
    after = await generator.one_at_a_time(seconds / 2)
    phases = {
        "unloaded": unloaded.report(),
        f"capacity, {USERS} users": capacity.report(),
        f"overload, {factor:g} times capacity": overload.report(),
        "unloaded, after": after.report(),
    }
    p95 = {name: phase["answered_ms"]["p95"] if phase["answered_ms"] else None for name, phase in phases.items()}
    alone, full, loaded, _ = p95.values()
    return {
        "phases": phases,
        "p95_ratio_to_unloaded": round(loaded / alone, 2) if loaded and alone else None,
        "p95_ratio_to_capacity": round(loaded / full, 2) if loaded and full else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="as MODEL_PATH")
    parser.add_argument("--seconds", type=float, default=30, help="of overload; each other phase takes half")
    parser.add_argument("--factor", type=float, default=10, help="offered rate ÷ capacity")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    words = random.Random(0).sample(sorted(dictionary_words(4, 14, 3.0)), 1000)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        settings = {"TASK_TYPE": "position_count", "RATE_LIMIT": "off", "CANARY_INTERVAL_SECONDS": "0"}
        with running_service(options.model, log, **settings) as service:
            result = uvloop.run(measure(service.port, options.seconds, options.factor, words))
    base = resolve_base("embedded")
    environment = describe_environment(ExperimentConfig(run_name="benchmark"), base).model_dump()
    result = {"model": options.model, "settings": settings, "environment": environment, **result}
    write_json(options.output, result)
    print(json.dumps({name: value for name, value in result.items() if name != "environment"}, indent=2))
    print(f"Written to {options.output}.")


if __name__ == "__main__":
    main()
