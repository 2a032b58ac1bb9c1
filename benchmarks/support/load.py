"""A load generator: keep-alive connections, closed and open loops, latencies.

Knows sockets and time; knows nothing about what is asked. As cheap as can be, because it shares the processor with the
service.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from support.service import HOST

MAX_CONNECTIONS = 2000
PAUSE_SECONDS = 0.05


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n{content}"
    ).encode()


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
    """One keep-alive connection."""

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

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.port = port
        self.random = random.Random(0)
        self.idle: list[Connection] = []
        self.connections = 0
        self.requests = requests

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
        """One user, with pauses."""
        record, started = Record(), time.perf_counter()
        while time.perf_counter() - started < seconds:
            await self.ask(record, time.perf_counter())
            await asyncio.sleep(PAUSE_SECONDS)
        record.seconds = time.perf_counter() - started
        return record

    async def closed_loop(self, users: int, seconds: float) -> Record:
        """Users who ask again as soon as they are answered."""
        record, started = Record(), time.perf_counter()

        async def user() -> None:
            while time.perf_counter() - started < seconds:
                if await self.ask(record, time.perf_counter()) != 200:
                    await asyncio.sleep(1)  # as Retry-After says

        await asyncio.gather(*(user() for _ in range(users)))
        record.seconds = time.perf_counter() - started
        return record

    async def open_loop(self, rate: float, seconds: float) -> Record:
        """Requests at random times, whether or not earlier ones were answered."""
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
