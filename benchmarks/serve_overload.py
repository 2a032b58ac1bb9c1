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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from support.load import Generator, post
from support.service import running_service

from letterwise.config import ExperimentConfig
from letterwise.files import write_json
from letterwise.models import resolve_base
from letterwise.run_environment import describe_environment
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "serve_overload.json"
PATH = "/api/position_count/letter_count"
USERS = 32


async def measure(port: int, seconds: float, factor: float, requests: Sequence[bytes]) -> dict[str, Any]:
    generator = Generator(port, requests)
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

    rng = random.Random(0)
    words = rng.sample(sorted(dictionary_words(4, 14, 3.0)), 1000)
    requests = [post(PATH, {"word": word, "letter": rng.choice(word), "mode": "direct"}) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "service.log"
        settings = {"TASK_TYPE": "position_count", "RATE_LIMIT": "off", "CANARY_INTERVAL_SECONDS": "0"}
        with running_service(options.model, log, **settings) as service:
            result = uvloop.run(measure(service.port, options.seconds, options.factor, requests))
    base = resolve_base("embedded")
    environment = describe_environment(ExperimentConfig(run_name="benchmark"), base).model_dump()
    result = {"model": options.model, "settings": settings, "environment": environment, **result}
    write_json(options.output, result)
    print(json.dumps({name: value for name, value in result.items() if name != "environment"}, indent=2))
    print(f"Written to {options.output}.")


if __name__ == "__main__":
    main()
