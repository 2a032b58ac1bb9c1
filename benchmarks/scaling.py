"""How training and evaluation grow: with the rows in a batch, and with the number of processes on this machine.

Training: tokens a second of the uncompiled step by packed rows in a batch, each batch size in a process of its own, in
turns, with its peak memory; and by the number of processes that `torchrun` starts, which share the cores. Evaluation:
seconds for each word more, by the number of processes, from two runs of the command that differ in nothing but the
number of words, so that loading is not counted. Words are validation words. Writes benchmarks/results/scaling.json.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
from turns import Variant

from letterwise import hardware
from letterwise.config import EvaluationConfig, ExperimentConfig, TrainingConfig, dump_config
from letterwise.data_config import DataConfig, WordsConfig
from letterwise.files import write_json, write_text
from letterwise.models import resolve_base
from letterwise.results import read_training_log
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "scaling.json"
FEW_WORDS = 20
STEPS = 12
WARM_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch size in each round, at least")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--words", type=int, default=120, help="of the larger evaluation; the smaller one has 20")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--variant", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        from training_variants import run_variant

        run_variant(options.variant)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = write_config(options, folder, options.words)
        for step in ("words", "data"):
            letterwise(1, step, folder)
        found = {
            "training_by_rows": by_rows(options, config),
            **by_processes(options, folder),
        }
    environment = describe_environment(config, resolve_base(config.base_model)).model_dump()
    write_json(options.output, {"environment": environment, "rounds": options.rounds, "steps": STEPS, **found})
    print(f"Written to {options.output}")


def write_config(options: argparse.Namespace, folder: Path, words: int) -> ExperimentConfig:
    """A small experiment below the folder, and its file."""
    config = ExperimentConfig(
        run_name="scaling",
        base_model=options.base_model,
        results_folder=folder / "results",
        checkpoints_folder=folder / "checkpoints",
        words=WordsConfig(validation_words=options.words, test_words=options.words),
        data=DataConfig(train_examples=4000, count_questions=options.words, position_questions=options.words),
        training=TrainingConfig(
            max_steps=STEPS, batch_size=4, evaluate_every=STEPS, evaluation_words=1, compile=False, warmup_steps=2
        ),
        evaluation=EvaluationConfig(split="validation", limit=words, training_tokens=1, bootstrap_samples=100),
    )
    write_text(folder / "experiment.yaml", dump_config(config))
    return config


def letterwise(processes: int, step: str, folder: Path) -> float:
    """Seconds that a command takes with so many processes, which share the cores evenly."""
    threads = max(1, hardware.cpu_cores() // processes)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "letterwise", step]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--config", str(folder / "experiment.yaml")], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def by_rows(options: argparse.Namespace, config: ExperimentConfig) -> list[dict[str, Any]]:
    """Speed and memory of the uncompiled step by rows in a batch."""
    variants = {}
    for rows in options.rows:
        settings = config.training.model_copy(update={"batch_size": rows}).model_dump()
        folder, data = resolve_base(config.base_model).folder, config.run_folder / "data"
        spec = {"stack": "letterwise", "base": str(folder), "data": str(data), "settings": settings}
        variants[rows] = Variant(Path(__file__), spec)
        variants[rows].ready()
        variants[rows].ask(tokens=1)  # the first step is slower than those to come
    rates: dict[int, list[float]] = {rows: [] for rows in variants}
    memory = {}
    for _ in range(options.rounds):
        for rows, variant in variants.items():
            figures = variant.ask(tokens=options.tokens)
            rates[rows].append(figures["tokens"] / figures["seconds"])
            memory[rows] = figures["peak_rss_mib"]
            print(f"{rows} rows: {rates[rows][-1]:,.0f} tokens/s", flush=True)
    for variant in variants.values():
        variant.stop()
    return [
        {"rows": rows, "tokens_per_second": statistics.median(values), "peak_rss_mib": memory[rows]}
        for rows, values in rates.items()
    ]


def by_processes(options: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Speed of training, and time of evaluation for each word more, by processes."""
    rates: dict[int, list[float]] = {processes: [] for processes in options.processes}
    per_word: dict[int, list[float]] = {processes: [] for processes in options.processes}
    for _ in range(options.rounds):
        for processes in options.processes:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # or there is nothing left to train
            letterwise(processes, "train", folder)
            log = read_training_log(folder / "results" / "scaling" / "training_log.jsonl")
            speeds = [entry.tokens_per_second for entry in log if entry.tokens_per_second]
            rates[processes].append(statistics.median(speeds[WARM_STEPS:]))
            seconds = []
            for words in (FEW_WORDS, options.words):
                write_config(options, folder, words)
                seconds.append(letterwise(processes, "evaluate", folder))
            per_word[processes].append((seconds[1] - seconds[0]) / (options.words - FEW_WORDS))
            print(
                f"{processes} processes: {rates[processes][-1]:,.0f} tokens/s, {per_word[processes][-1]:.2f} s a word",
                flush=True,
            )
    return {
        "training_by_processes": [
            {"processes": processes, "tokens_per_second": statistics.median(values)}
            for processes, values in rates.items()
        ],
        "evaluation_by_processes": [
            {"processes": processes, "seconds_per_word": statistics.median(values)}
            for processes, values in per_word.items()
        ],
    }


if __name__ == "__main__":
    main()
