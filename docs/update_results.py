"""Copy the small results of a finished run to docs/results/, from which `make docs` generates tables and figures.

    python docs/update_results.py results/quick

Knows the layout of a run folder; knows nothing about what the documents make of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, read_json, sha256_file
from letterwise.results import EvaluationResults, TransferResults, read_results, read_training_log

RESULTS = Path(__file__).parent / "results"

STEPS = ("words", "data", "train-finetuned", "train-control", "evaluate", "transfer")
LOG = "training_log.jsonl"
FILES = (
    *("config.yaml", "environment.json", "data_audit.json", LOG, "evaluation_results.json", "transfer.json"),
    *("position_count/figures/model_bars.png", "position_count/figures/answer_modes.png"),
    "spelling/figures/learning_curves.png",
)
MOST_LOG_BYTES = 100_000
ADAPTER = "adapter_model.safetensors"
GAINS = {
    "spelling": "spelling_accuracy",
    "letter_count": "letter_count_accuracy",
    "letter_position": "letter_position_accuracy",
}
"""Keys of `control_adjusted_gain` and the metrics whose difference to the control each repeats."""


def check_finished(run_folder: Path) -> None:
    """Make sure that every step is done and that no file is older than what it was made from.

    Raises:
        LetterwiseError: something is missing, was changed since, or is of an earlier adapter or evaluation.
    """
    remedy = f"run `letterwise run` for {run_folder} to its end"
    adapters = {}
    for step in STEPS:
        record = run_folder / ".steps" / f"{step}.json"
        if not record.is_file():
            raise LetterwiseError(f"{run_folder} is not a finished run, step {step} is missing; {remedy}.")
        outputs = dict(read_json(record)["outputs"])
        if ADAPTER in outputs:  # lies in the folder of checkpoints
            adapters[step] = outputs.pop(ADAPTER)
        for name, checksum in outputs.items():
            path = run_folder / name
            if not path.is_file() or sha256_file(path) != checksum:
                raise LetterwiseError(f"{path} is missing or was changed after step {step}; {remedy}.")
    for name in FILES:
        if not (run_folder / name).is_file():
            raise LetterwiseError(f"{run_folder / name} is missing; {remedy}.")
    results = read_results(run_folder / "evaluation_results.json", EvaluationResults)
    evaluated = {"train-finetuned": results.finetuned_model, "train-control": results.control_model}
    for role, control in results.other_controls.items():
        step = f"train-{role}"
        evaluated[step] = control
        record = run_folder / ".steps" / f"{step}.json"
        adapters[step] = read_json(record)["outputs"].get(ADAPTER, "") if record.is_file() else ""
    for step, model in evaluated.items():
        if model is None or not adapters[step].startswith(model.revision):
            raise LetterwiseError(f"{run_folder} was evaluated without the adapter of step {step}; {remedy}.")
    transfer = read_results(run_folder / "transfer.json", TransferResults)
    gains = {entry.metric: entry.difference for entry in results.significance["control_to_finetuned"]}
    if any(gain.value != gains.get(GAINS[key]) for key, gain in transfer.control_adjusted_gain.items()):
        raise LetterwiseError(f"{run_folder / 'transfer.json'} is not of the last evaluation; {remedy}.")


def copy_results(run_folder: Path, results: Path = RESULTS) -> Path:
    """Copy what the documents need to `results`/<name of the run>, all of it or nothing; return that folder.

    A training log of more than 100 KB is thinned to its evaluated entries, which include the last one.

    Raises:
        LetterwiseError: the run is not finished, or the files cannot be written.
    """
    check_finished(run_folder)
    target = results / run_folder.resolve().name
    with atomic_path(target) as temporary:
        temporary.mkdir()
        for name in FILES:
            shutil.copyfile(run_folder / name, temporary / Path(name).name)
        log = temporary / LOG
        if log.stat().st_size > MOST_LOG_BYTES:
            evaluated = [entry for entry in read_training_log(log) if entry.evaluation]
            log.write_text("".join(f"{entry.model_dump_json()}\n" for entry in evaluated), encoding="utf-8")
    return target


def main() -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description="Copy a finished run's small results to docs/results/.")
    parser.add_argument("run_folder", type=Path, help="such as results/quick")
    try:
        print(f"Written to {copy_results(parser.parse_args().run_folder)}; now run `make docs`.")
    except LetterwiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
