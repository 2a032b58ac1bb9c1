"""Minutes of mixed load with faults: nothing is lost, nothing is answered wrongly, nothing grows.

Starts the service as a process and asks all routes in all modes from many clients, rightly and wrongly, while others
misbehave: slow, cut off, too large, not HTTP. Whoever is told to come back later does so after the time that the answer
says, but for an eighth of the clients, which ask on at once. Meanwhile the model is replaced by SIGHUP again and again,
and halfway the service is stopped by SIGTERM under load and started anew. It ends with 1 and says why unless

- every answer has a status that its request may get, the form that the API describes, and its request id;
- no request that the service had accepted before SIGTERM is lost, and it exits with 0;
- a misbehaving client is rid of in time, and gets no 5xx but 503;
- memory is flat: while no other model is being loaded, the median of the last quarter of a life is within 5% (and
  20 MiB) of its second quarter's (measured on lives of two minutes or more).

Writes benchmarks/results/serve_soak.json and, if something went wrong, the service's log beside it.

    python benchmarks/serve_soak.py --model checkpoints/quick/finetuned/best --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
from support.faults import ENDS_WITHIN_SECONDS, Faults
from support.memory import MemoryWatch, memory_report
from support.service import HOST, Service, free_port, start_service
from support.traffic import Ask, Traffic, wrong

from letterwise.config import ExperimentConfig
from letterwise.files import write_json, write_text
from letterwise.models import resolve_base
from letterwise.run_environment import describe_environment
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "serve_soak.json"
MAX_REQUESTS = 500_000
MAX_BATCH_SIZE = 32
MAX_BODY_BYTES = 16_384
TIMEOUT_SECONDS = 5
IMPATIENT = 8
"""Of so many clients, one does not wait where it is told to."""
SETTLED_SECONDS = 0.25
"""A request whose last byte was sent so long before SIGTERM was accepted by the service. One sent just then may find
its connection closed, as on any HTTP/1.1 server that stops; clients repeat it."""


@dataclass
class Outcome:
    """All that happened."""

    statuses: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problems: list[str] = field(default_factory=list)
    requests: int = 0
    lost: int = 0
    """Requests accepted before SIGTERM that got no answer."""
    cut_at_sigterm: int = 0
    """Requests that met the closing of their connection, or of the port, at or after SIGTERM."""
    in_flight_at_sigterm: int = 0
    reloads: int = 0
    memory: list[MemoryWatch] = field(default_factory=list)
    """One for each life of the service."""


class Soak:
    """One soak test."""

    def __init__(self, model: str, seconds: float, clients: int, folder: Path) -> None:
        self.seconds, self.clients = seconds, clients
        self.outcome = Outcome()
        self.key = secrets.token_hex(16)
        keys = folder / "keys"
        keys.write_text(f"# the soak test's\n{self.key}\n")
        self.words = random.Random(0).sample(dictionary_words(3, 12, 3.5), 1000)
        port = free_port()
        self.start = lambda: start_service(
            model,
            folder / "service.log",
            port,
            API_KEYS_FILE=keys,
            RATE_LIMIT="60000/minute",
            MAX_BATCH_SIZE=MAX_BATCH_SIZE,
            MAX_BODY_BYTES=MAX_BODY_BYTES,
            REQUEST_TIMEOUT_SECONDS=TIMEOUT_SECONDS,
            CANARY_INTERVAL_SECONDS=5,
        )
        self.service: Service = self.start()
        self.faults = Faults(HOST, port, self.key, 1)
        self.ends = float("inf")
        self.stopped_at = float("inf")
        """When SIGTERM was sent."""
        self.back_at = float("inf")
        """When the service was ready again after it."""
        self.in_flight: set[str] = set()
        """Request ids of what was sent whole and is not answered."""

    @property
    def away(self) -> bool:
        """Whether the service is being stopped and started anew."""
        return self.stopped_at <= time.monotonic() < self.back_at

    @property
    def going(self) -> bool:
        return time.monotonic() < self.ends and self.outcome.requests < MAX_REQUESTS

    async def run(self) -> None:
        await asyncio.to_thread(self.service.wait_until_ready)
        self.ends = time.monotonic() + self.seconds
        traffic = [self._client(number) for number in range(self.clients)]
        misbehaving = [self._misbehave() for _ in range(max(2, self.clients // 2))]
        await asyncio.gather(*traffic, *misbehaving, self._operate(), self._watch_memory())
        self._stop(await asyncio.to_thread(self.service.stop))

    def _stop(self, code: int) -> None:
        if code:
            self.outcome.problems.append(f"The service ended with exit code {code}.")

    async def _operate(self) -> None:
        """Replace the model again and again; halfway, stop the service and start it anew."""
        pause = self.seconds / 12
        for step in range(1, 12):
            await asyncio.sleep(pause)
            if step == 6:
                await self._restart()
            elif self.going:
                self.service.process.send_signal(signal.SIGHUP)
                self.outcome.memory[-1].reload()
                self.outcome.reloads += 1

    async def _restart(self) -> None:
        self.outcome.in_flight_at_sigterm = len(self.in_flight)
        self.stopped_at = time.monotonic()
        left, self.ends = self.ends - self.stopped_at, float("inf")
        self._stop(await asyncio.to_thread(self.service.stop))
        self.service = self.start()
        await asyncio.to_thread(self.service.wait_until_ready)
        self.back_at = time.monotonic()
        self.ends = self.back_at + left

    async def _client(self, number: int) -> None:
        traffic = Traffic(number, self.words, MAX_BATCH_SIZE, MAX_BODY_BYTES)
        limits = httpx.Limits(keepalive_expiry=2)  # sooner than the service closes an idle connection
        async with httpx.AsyncClient(base_url=self.service.url, timeout=60, limits=limits) as client:
            while self.going:
                wait = await self._ask(client, traffic.next())
                told = 0.0 if number % IMPATIENT == 0 else wait * traffic.random.uniform(1, 1.5)
                await asyncio.sleep(told + traffic.random.uniform(0, 0.05))

    async def _ask(self, client: httpx.AsyncClient, ask: Ask) -> float:
        """Ask, and note what came of it; returns after how many seconds the service wants to be asked again."""
        request_id = secrets.token_hex(8)
        key = {"Authorization": f"Bearer {self.key}"} if ask.keyed else {}
        headers = {**key, **ask.headers, "X-Request-ID": request_id}
        content = {"content": ask.content} if ask.content is not None else {"json": ask.body} if ask.body else {}
        sent = float("inf")

        async def trace(event: str, _: Any) -> None:
            nonlocal sent
            if event == "http11.send_request_body.complete":
                sent = time.monotonic()
                self.in_flight.add(request_id)

        self.outcome.requests += 1
        try:
            response = await client.request(
                ask.method, ask.path, headers=headers, extensions={"trace": trace}, **content
            )
        except httpx.TransportError as error:
            self._unanswered(ask, sent, error)
            return 0.2
        finally:
            self.in_flight.discard(request_id)
        self.outcome.statuses[ask.name][str(response.status_code)] += 1
        problem = wrong(ask, response.status_code, response.headers, response.content, request_id)
        if problem and len(self.outcome.problems) < 100:
            self.outcome.problems.append(problem)
        return float(response.headers.get("Retry-After", 0))

    def _unanswered(self, ask: Ask, sent: float, error: httpx.TransportError) -> None:
        if self.away and sent >= self.stopped_at - SETTLED_SECONDS:
            self.outcome.cut_at_sigterm += 1
        elif self.away:
            self.outcome.lost += 1
            self.outcome.problems.append(f"{ask.name}: lost at SIGTERM: {error!r}")
        else:
            self.outcome.problems.append(f"{ask.name}: no answer: {error!r}")

    async def _misbehave(self) -> None:
        while self.going:
            kind = self.faults.random.choice(self.faults.kinds)
            name = f"fault: {kind.__name__}"
            self.outcome.requests += 1
            try:
                line = await _within(kind(), ENDS_WITHIN_SECONDS + 10)
            except TimeoutError:
                self.outcome.problems.append(f"{name}: after {ENDS_WITHIN_SECONDS:g} s the service was not rid of it.")
                continue
            except OSError as error:
                if not self.away:
                    self.outcome.problems.append(f"{name}: {error!r}")
                await asyncio.sleep(0.2)
                continue
            status = line.split(" ")[1] if line.startswith("HTTP/") else "no answer"
            self.outcome.statuses[name][status] += 1
            if status.startswith("5") and status != "503":
                self.outcome.problems.append(f"{name}: {line}")
            await asyncio.sleep(0.05)

    async def _watch_memory(self) -> None:
        while self.going:
            if not self.away and self.service.process.poll() is None:
                if not self.outcome.memory or self.outcome.memory[-1].pid != self.service.process.pid:
                    self.outcome.memory.append(MemoryWatch(self.service.log, self.service.process.pid))
                self.outcome.memory[-1].sample()
            await asyncio.sleep(0.5)


async def _within(work: Awaitable[str], seconds: float) -> str:
    async with asyncio.timeout(seconds):
        return await work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="as MODEL_PATH")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(options.model, options.minutes * 60, options.clients, Path(folder))
        try:
            asyncio.run(soak.run())
        finally:
            soak.service.process.kill()
            soak.service.process.wait()
        log = (Path(folder) / "service.log").read_text(encoding="utf-8")
    outcome = soak.outcome
    if soak.key in log:
        outcome.problems.append("The key is in the logs.")
    if "Traceback" in log:
        outcome.problems.append("The log has a stack trace.")
    memory = [memory_report(life.samples) for life in outcome.memory if life.samples]
    outcome.problems += ["Memory grew." for report in memory if report.get("flat") is False]
    environment = describe_environment(ExperimentConfig(run_name="soak"), resolve_base("embedded"))
    report = {
        "model": options.model,
        "minutes": options.minutes,
        "clients": options.clients,
        "environment": environment.model_dump(),
        "requests": outcome.requests,
        "lost": outcome.lost,
        "in_flight_at_sigterm": outcome.in_flight_at_sigterm,
        "cut_at_sigterm": outcome.cut_at_sigterm,
        "reloads": outcome.reloads,
        "memory_mib": memory,
        "statuses": {name: dict(sorted(counts.items())) for name, counts in sorted(outcome.statuses.items())},
        "problems": outcome.problems,
    }
    write_json(options.output, report)
    if outcome.problems:
        write_text(options.output.with_suffix(".log"), log)
    print(json.dumps({name: value for name, value in report.items() if name != "environment"}, indent=2))
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
