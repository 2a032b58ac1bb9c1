"""The service beside the plain stack: requests per second and latency, on the same machine in one run.

Both run in processes of their own, one after the other in turns, with the same model and the same questions; the load
generator is the same. First one user who asks again as soon as the answer is there, then 32 of them. The plain stack is
FastAPI with `generate` of transformers, one request at a time (support/plain_service.py); it knows mode direct only.
Every question is about another word, so that no answer is remembered. Writes benchmarks/results/serve.json.

    python benchmarks/serve.py --model checkpoints/quick/finetuned/best
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from support.load import Generator, Record, post
from support.service import Service, free_port, running, start_plain_service, start_service

from letterwise.adapters import merge_adapter
from letterwise.config import ExperimentConfig
from letterwise.files import write_json
from letterwise.models import resolve_base
from letterwise.reporting.console import Terminal
from letterwise.run_environment import describe_environment
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "serve.json"
COUNT, POSITION = "letter_count", "letter_position"
USERS = (1, 32)
OURS, PLAIN = "letterwise", "FastAPI + transformers generate"
SETTINGS = {"TASK_TYPE": "position_count", "RATE_LIMIT": "off", "CANARY_INTERVAL_SECONDS": "0"}


def requests(route: str, mode: str, seed: int) -> list[bytes]:
    """Questions about as many words as there are."""
    rng = random.Random(f"{seed} {route} {mode}")
    words = dictionary_words(4, 14, 2.0)
    rng.shuffle(words)
    path = f"/api/position_count/{route}"
    if route == COUNT:
        return [post(path, {"word": word, "letter": rng.choice(word), "mode": mode}) for word in words]
    return [post(path, {"word": word, "position": rng.randint(1, len(word)), "mode": mode}) for word in words]


async def load(port: int, asked: Sequence[bytes], users: int, seconds: float) -> Record:
    generator = Generator(port, asked)
    await generator.closed_loop(users, min(3.0, seconds / 2))  # so that everything has been done once
    return await generator.closed_loop(users, seconds)


def measure(service: Service, stack: str, modes: Sequence[str], seconds: float, turn: int) -> list[dict[str, Any]]:
    rows = []
    for mode in modes:
        for route in (COUNT, POSITION):
            for users in USERS:
                report = uvloop.run(load(service.port, requests(route, mode, turn), users, seconds)).report()
                times = report["answered_ms"] or {}
                rows.append(
                    {
                        "stack": stack,
                        "route": route,
                        "mode": mode,
                        "users": users,
                        "requests_per_second": report["answered_per_second"],
                        "p50_ms": times.get("p50"),
                        "p95_ms": times.get("p95"),
                        "p99_ms": times.get("p99"),
                        "errors": report["requests"] - report["statuses"].get("200", 0),
                    }
                )
    return rows


def summarise(turns: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The median over the turns of each figure; the sum of the errors."""
    rows = []
    for same in zip(*turns, strict=True):
        row = dict(same[0])
        for name in ("requests_per_second", "p50_ms", "p95_ms", "p99_ms"):
            values = [each[name] for each in same if each[name] is not None]
            row[name] = round(median(values), 1) if values else None
        row["errors"] = sum(each["errors"] for each in same)
        rows.append(row)
    return rows


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Against the plain stack: throughput with many users, and the latency of a single one."""
    by_key = {(row["stack"], row["route"], row["mode"], row["users"]): row for row in rows}
    found = []
    for route in (COUNT, POSITION):
        (one, many), (plain_one, plain_many) = (
            [by_key[stack, route, "direct", users] for users in USERS] for stack in (OURS, PLAIN)
        )
        found.append(
            {
                "route": route,
                f"requests_per_second_with_{USERS[1]}_users": round(
                    many["requests_per_second"] / plain_many["requests_per_second"], 2
                ),
                "p50_of_one_user": round(one["p50_ms"] / plain_one["p50_ms"], 3),
                f"p95_ms_with_{USERS[1]}_users": many["p95_ms"],
                "errors": many["errors"] + one["errors"],
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of an adapter on the embedded model")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--turns", type=int, default=3, help="how often each stack is started and measured")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    terminal = Terminal()
    base = resolve_base("embedded")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        merged, log = folder / "merged", folder / "service.log"
        merge_adapter(base, options.model, merged)
        stacks: dict[str, tuple[Callable[[], Service], Sequence[str]]] = {
            OURS: (
                lambda: start_service(str(options.model), log, free_port(), **SETTINGS),
                ("direct", "spell_first", "computed"),
            ),
            PLAIN: (lambda: start_plain_service(merged, log, free_port()), ("direct",)),
        }
        turns: dict[str, list[list[dict[str, Any]]]] = {stack: [] for stack in stacks}
        with terminal.track("measuring", options.turns * len(stacks)) as advance:
            for turn in range(options.turns):
                for stack, (start, modes) in stacks.items():
                    with running(start()) as service:
                        turns[stack].append(measure(service, stack, modes, options.seconds, turn))
                    advance(1, stack)

    rows = [row for stack in stacks for row in summarise(turns[stack])]
    environment = describe_environment(ExperimentConfig(run_name="benchmark"), base).model_dump()
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "environment": environment,
        "settings": SETTINGS,
        "seconds": options.seconds,
        "turns": options.turns,
        "rows": rows,
        "ratios_to_plain_stack": ratios(rows),
    }
    write_json(options.output, result)
    for row in rows:
        terminal.say(
            f"{row['stack']}: {row['route']}, {row['mode']}, {row['users']} users: "
            f"{row['requests_per_second']} requests/s, p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms, "
            f"{row['errors']} errors"
        )
    terminal.say(f"Ratios to the plain stack: {result['ratios_to_plain_stack']}")
    terminal.say(f"Written to {options.output}.")


if __name__ == "__main__":
    main()
