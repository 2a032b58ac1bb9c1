"""Memory and time of evaluating ever more words, beside what the model needs.

The engine is scripted, so that what is measured is asking, keeping, merging and summarising: two models, three answer
modes, as many questions as words. Each size is a process of its own. Writes benchmarks/results/evaluation_memory.json.

    python benchmarks/evaluation_memory.py
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent / "support"))
from scripted_evaluation import ScriptedEngine, write_run

from letterwise import evaluation_steps
from letterwise.config import EvaluationConfig, ExperimentConfig
from letterwise.evaluation_steps import evaluate_step
from letterwise.files import write_json
from letterwise.models import resolve_base
from letterwise.results import EvaluationResults, read_results
from letterwise.run_environment import describe_environment
from letterwise.run_folder import Run

RESULTS = Path(__file__).parent / "results" / "evaluation_memory.json"
WORDS = (2_500, 25_000, 125_000)
ROWS_PER_WORD = 8
"""A spelling of each of two models, and an answer of each in three modes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded", help="its tokenizer is used, and no more")
    parser.add_argument("--evaluate", type=int, metavar="WORDS", help="evaluate once here, and print what it took")
    options = parser.parse_args()
    if options.evaluate:
        print(json.dumps(measure(options.base_model, options.evaluate)))
        return
    rows = []
    for words in WORDS:
        command = [sys.executable, __file__, "--base-model", options.base_model, "--evaluate", str(words)]
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model)
    environment = describe_environment(config, resolve_base(config.base_model)).model_dump()
    first, last = rows[0], rows[-1]
    more = {name: last[name] - first[name] for name in ("rows", "asking_peak_mib", "peak_mib", "seconds")}
    write_json(
        RESULTS,
        {
            "environment": environment,
            "rows": rows,
            "bytes_per_row_asking": round(more["asking_peak_mib"] * 2**20 / more["rows"], 1),
            "bytes_per_row_in_all": round(more["peak_mib"] * 2**20 / more["rows"], 1),
            "microseconds_per_row": round(1e6 * more["seconds"] / more["rows"], 1),
        },
    )


def measure(base_model: str, words: int) -> dict[str, float]:
    """Evaluate once; the peak of asking is that before anything is summarised."""
    peaks: dict[str, float] = {}
    merge = evaluation_steps.write_table

    def noting(*arguments: object) -> None:
        peaks.setdefault("asking", peak_mib())
        merge(*arguments)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = ExperimentConfig(
            run_name="many",
            base_model=base_model,
            results_folder=folder,
            checkpoints_folder=folder,
            evaluation=EvaluationConfig(training_tokens=1, bootstrap_samples=1000),
        )
        write_run(config.run_folder, folder / "adapter", words)
        run = Run(config)
        before = peak_mib()
        started = time.perf_counter()
        with (
            patch.object(evaluation_steps, "TransformersEngine", ScriptedEngine),
            patch.object(evaluation_steps, "load_for_inference", lambda *_: None),
            patch.object(evaluation_steps, "write_table", noting),
        ):
            run.execute(evaluate_step(run, {"base": None, "finetuned": folder / "adapter"}))
        seconds = time.perf_counter() - started
        results = read_results(config.run_folder / "evaluation_results.json", EvaluationResults)
    assert results.base_model.n["spelling_accuracy"] == words
    return {
        "words": words,
        "rows": ROWS_PER_WORD * words,
        "seconds": round(seconds, 2),
        "peak_mib_before": round(before, 1),
        "asking_peak_mib": round(peaks["asking"], 1),
        "peak_mib": round(peak_mib(), 1),
    }


def peak_mib() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
