"""What it costs to build and audit data: time and memory for 10,000 to 1,000,000 training texts.

Each build is a process of its own, so that its peak memory is its own, and the sizes take turns, so that a change of
the machine's speed hits all alike. The target is 30,000 training texts and 10,000 held-out words with as many questions
of each type, words and data together. That size is also built as one would with `datasets` alone, with the same words,
templates and checks: row by row or a thousand rows at a time, in one process or in as many as there are cores. Writes
benchmarks/results/data_building.json.

    python benchmarks/data_building.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
import numpy as np
from plain_data import build_plainly

from letterwise import hardware
from letterwise.config import DataConfig, ExperimentConfig, WordsConfig
from letterwise.data.build import build_data
from letterwise.data.word_lists import build_words
from letterwise.files import write_json
from letterwise.models import load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "data_building.json"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
TARGET = 30_000
HELD_OUT = 5_000
"""Words, and questions of each type, in validation and as many in test."""
CORES = hardware.cpu_cores()
PEERS = {
    "datasets, row by row": {"batched": False, "processes": 1},
    "datasets, batched": {"batched": True, "processes": 1},
    **({f"datasets, batched, {CORES} processes": {"batched": True, "processes": CORES}} if CORES > 1 else {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build", type=int, metavar="TEXTS", help="build once in this process, and print its cost")
    parser.add_argument("--peer", choices=PEERS, help="with --build: build as this peer does")
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build(options.base_model, options.build, options.peer)))
        return
    found: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    peers: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for _ in range(options.rounds):
        for size in SIZES:
            found[size].append(in_a_process(options.base_model, size))
            print(f"{size:,} texts: {found[size][-1]}", flush=True)
        for peer, costs in peers.items():
            costs.append(in_a_process(options.base_model, TARGET, peer))
            print(f"{TARGET:,} texts, {peer}: {costs[-1]}", flush=True)
    rows = [{"texts": size, **median(costs)} for size, costs in found.items()]
    slope, start = np.polyfit([row["texts"] for row in rows], [row["data_seconds"] for row in rows], 1)
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model)
    target = next(row for row in rows if row["texts"] == TARGET)
    write_json(
        RESULTS,
        {
            "environment": describe_environment(config, resolve_base(config.base_model)).model_dump(),
            "rounds": options.rounds,
            "held_out_words": 2 * HELD_OUT,
            "questions": 4 * HELD_OUT,
            "rows": rows,
            "all": {str(size): costs for size, costs in found.items()},
            "peers": {peer: median(costs) for peer, costs in peers.items()},
            "all_peers": peers,
            "target_texts": TARGET,
            "target_seconds": round(target["words_seconds"] + target["data_seconds"], 2),
            "seconds_per_thousand_texts": round(1000 * float(slope), 4),
            "seconds_without_texts": round(float(start), 2),
            "largest_deviation_from_the_line": round(
                max(abs(start + slope * row["texts"] - row["data_seconds"]) / row["data_seconds"] for row in rows), 3
            ),
        },
    )


def in_a_process(base_model: str, texts: int, peer: str | None = None) -> dict[str, float]:
    """The cost of a build in a process of its own."""
    command = [sys.executable, __file__, "--base-model", base_model, "--build", str(texts)]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*command, *(["--peer", peer] if peer else [])], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def build(base_model: str, texts: int, peer: str | None = None) -> dict[str, float]:
    """Build once, as letterwise or a peer does."""
    tokenizer = load_tokenizer(resolve_base(base_model))
    before = peak_mib()
    words = WordsConfig(validation_words=HELD_OUT, test_words=HELD_OUT)
    data = DataConfig(train_examples=texts, count_questions=HELD_OUT, position_questions=HELD_OUT)
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        build_words(words, tokenizer, 0, Path(scratch) / "words")
        between = time.perf_counter()
        if peer:
            build_plainly(data, tokenizer, 0, Path(scratch) / "words", Path(scratch) / "data", **PEERS[peer])
        else:
            assert build_data(data, tokenizer, 0, Path(scratch) / "words", Path(scratch) / "data").passed
        ended = time.perf_counter()
    return {
        "words_seconds": round(between - started, 3),
        "data_seconds": round(ended - between, 3),
        "peak_mib": round(peak_mib(), 1),
        "peak_mib_before": round(before, 1),
    }


def peak_mib() -> float:
    """Most memory that this process, and the largest that it started, have had."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def median(costs: list[dict[str, float]]) -> dict[str, Any]:
    return {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}


if __name__ == "__main__":
    main()
