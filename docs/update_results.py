"""Copy the small results of a finished run to docs/results/, from which `make docs` generates tables and figures.

    python docs/update_results.py results/standard
    python docs/update_results.py --small results/gemma

Beside the run's own results come its analyses, as far as they are there: items, retention, probes and the findings of
its report; its log of evaluations and how long its steps took, where it has them; and of each of its further seeds what
the tables over seeds need, in a folder of its own. What is bulky is left out or made small by these rules, and nothing
else is changed:

- JSON is written without indentation, figures with 64 colours.
- A training log of more than 100 KB keeps its evaluated entries, which include the last one.
- Of probes the accuracies by letter are left out, of the report everything but error analysis and conclusion.
- With --small, analyses are left out, and all figures but the one that stands below a run's table: of a run of which
  the documents show no more.
- Of further seeds there are evaluation, transfer analysis, environment, both logs and seconds, and of their evaluation
  the breakdowns and confusion tables are left out.

Knows the layout of a run folder; knows nothing about what the documents make of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE, ItemAnalysis
from letterwise.config import load_config
from letterwise.errors import LetterwiseError
from letterwise.evaluation_log import EVALUATION_LOG, read_evaluation_log
from letterwise.files import atomic_path, read_json, sha256_file, write_text
from letterwise.probe_results import PROBES_FIGURE, PROBES_FILE
from letterwise.reporting.over_seeds import differ_in_seed_alone
from letterwise.reporting.report_model import FinalReport
from letterwise.reporting.report_record import read_probes, read_retention
from letterwise.results import (
    MODEL_ROLES,
    OTHER_CONTROLS,
    DataAudit,
    EvaluationResults,
    ResultsModel,
    TransferResults,
    read_results,
    read_training_log,
)

RESULTS = Path(__file__).parent / "results"

STEPS = ("words", "data", "train-finetuned", "train-control", "evaluate", "transfer")
LOG = "training_log.jsonl"
EVALUATION, TRANSFER, ENVIRONMENT = "evaluation_results.json", "transfer.json", "environment.json"
TABLE_FIGURE = "position_count/figures/model_bars.png"
OTHER_FIGURES = ("position_count/figures/answer_modes.png", "spelling/figures/learning_curves.png")
FILES = ("config.yaml", ENVIRONMENT, "data_audit.json", LOG, EVALUATION, TRANSFER, TABLE_FIGURE, *OTHER_FIGURES)
SECONDS_FILE = "seconds.json"
AFTERWARDS = ("probe", "retention")
"""Steps that `letterwise run` does not do."""
REPORT, FINDINGS_FILE = "final_report.json", "findings.json"
SEED_FILES = (EVALUATION, TRANSFER, ENVIRONMENT, LOG)
MOST_LOG_BYTES = 100_000
COLOURS = 64
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
    results = read_results(run_folder / EVALUATION, EvaluationResults)
    evaluated = {"train-finetuned": results.finetuned_model, "train-control": results.control_model}
    for role, control in results.other_controls.items():
        step = f"train-{role}"
        evaluated[step] = control
        record = run_folder / ".steps" / f"{step}.json"
        adapters[step] = read_json(record)["outputs"].get(ADAPTER, "") if record.is_file() else ""
    for step, model in evaluated.items():
        if model is None or not adapters[step].startswith(model.revision):
            raise LetterwiseError(f"{run_folder} was evaluated without the adapter of step {step}; {remedy}.")
    transfer = read_results(run_folder / TRANSFER, TransferResults)
    gains = {entry.metric: entry.difference for entry in results.significance["control_to_finetuned"]}
    if any(gain.value != gains.get(GAINS[key]) for key, gain in transfer.control_adjusted_gain.items()):
        raise LetterwiseError(f"{run_folder / TRANSFER} is not of the last evaluation; {remedy}.")


def read_analyses(run_folder: Path) -> dict[str, dict[str, Any]]:
    """The analyses that a finished run has, by the name under which each is recorded, without what is left out.

    Raises:
        LetterwiseError: one is of other adapters or of another evaluation than the run's.
    """
    results = read_results(run_folder / EVALUATION, EvaluationResults)
    found: dict[str, dict[str, Any]] = {}
    if (items := run_folder / ITEM_ANALYSIS_FILE).is_file():
        found[ITEM_ANALYSIS_FILE] = read_results(items, ItemAnalysis).model_dump(mode="json")
    if (path := run_folder / RETENTION_FILE).is_file():
        found[RETENTION_FILE] = _current(read_retention(path, results), path, "retention").model_dump(mode="json")
    if (path := run_folder / PROBES_FILE).is_file():
        probes = _current(read_probes(path, results), path, "probe").model_dump(mode="json")
        for place in (place for model in probes["models"].values() for place in model["places"]):
            place["letters"] = {}
        found[PROBES_FILE] = probes
    if (path := run_folder / REPORT).is_file():
        report = read_results(path, FinalReport)
        of_this = report if report.evaluation_results == results else None
        found[FINDINGS_FILE] = _current(of_this, path, "report").model_dump(
            mode="json", include={"error_analysis", "conclusion"}
        )
    return found


def _current(found: ResultsModel | None, path: Path, command: str) -> ResultsModel:
    if found is None:
        raise LetterwiseError(f"{path} is not of the models that were evaluated; run `letterwise {command}` again.")
    return found


def further_seeds(run_folder: Path) -> dict[int, Path]:
    """The folders of a run's further seeds, each finished, on the same words and data and trained alike.

    Raises:
        LetterwiseError: one is not.
    """
    config = load_config(run_folder / "config.yaml")
    data = read_results(run_folder / "data_audit.json", DataAudit).checksums
    found = {}
    for seed in config.further_seeds:
        folder = run_folder.parent / config.with_seed(seed).run_name
        check_finished(folder)
        same_data = read_results(folder / "data_audit.json", DataAudit).checksums == data
        if not same_data or not differ_in_seed_alone(config, load_config(folder / "config.yaml")):
            raise LetterwiseError(
                f"{folder} differs from {run_folder} in more than the seed of its training; run `letterwise run` for "
                f"{run_folder.name} again."
            )
        found[seed] = folder
    return found


def copy_results(run_folder: Path, results: Path = RESULTS, *, small: bool = False) -> Path:
    """Copy what the documents need to `results`/<name of the run>, all of it or nothing; return that folder.

    Args:
        run_folder: of a finished run.
        results: where recorded runs are kept.
        small: whether analyses are left out, and all figures but `TABLE_FIGURE`.

    Raises:
        LetterwiseError: the run, its analyses or a further seed are not finished or not of one evaluation, or the files
            cannot be written.
    """
    run_folder = run_folder.resolve()
    check_finished(run_folder)
    analyses, seeds = {} if small else read_analyses(run_folder), further_seeds(run_folder)
    pooled = {point["seed"] for point in read_results(run_folder / TRANSFER, TransferResults).checkpoints}
    if not seeds.keys() <= pooled:  # it was made before they were there
        raise LetterwiseError(
            f"{run_folder / TRANSFER} is not of all seeds; run `letterwise run` for {run_folder} to its end."
        )
    target = results / run_folder.name
    with atomic_path(target) as temporary:
        temporary.mkdir()
        for name in FILES:
            if not small or name not in OTHER_FIGURES:
                _copy(run_folder / name, temporary / Path(name).name)
        _record_what_was_done(run_folder, temporary)
        for name, found in analyses.items():
            write_compact(temporary / name, found)
        if PROBES_FILE in analyses:
            _copy(run_folder / PROBES_FIGURE, temporary / Path(PROBES_FIGURE).name)
        for seed, folder in seeds.items():
            for name in SEED_FILES:
                _copy(folder / name, temporary / f"seed-{seed}" / name)
            _record_what_was_done(folder, temporary / f"seed-{seed}")
            _without_breakdowns(temporary / f"seed-{seed}" / EVALUATION)
    return target


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if source.suffix == ".json":
        write_compact(target, read_json(source))
    elif source.suffix == ".png":
        copy_small(source, target)
    elif source.name == LOG and source.stat().st_size > MOST_LOG_BYTES:
        evaluated = [entry for entry in read_training_log(source) if entry.evaluation]
        target.write_text("".join(f"{entry.model_dump_json()}\n" for entry in evaluated), encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def _record_what_was_done(run_folder: Path, target: Path) -> None:
    """How long each step of `letterwise run` took, where all their records say it, and the log of evaluations."""
    records = {path.stem: read_json(path) for path in sorted((run_folder / ".steps").glob("*.json"))}
    seconds = {step: record.get("seconds") for step, record in records.items() if step not in AFTERWARDS}
    if None not in seconds.values():
        write_compact(target / SECONDS_FILE, seconds)
    if read_evaluation_log(run_folder):
        shutil.copyfile(run_folder / EVALUATION_LOG, target / EVALUATION_LOG)


def _without_breakdowns(path: Path) -> None:
    results = read_results(path, EvaluationResults)
    for model in filter(None, map(results.model, (*MODEL_ROLES, *OTHER_CONTROLS))):
        model.breakdowns, model.confusion = {}, {}
    write_compact(path, results.model_dump(mode="json"))


def copy_small(source: Path, target: Path) -> None:
    """Copy a figure with few colours; `target` may be `source`."""
    with Image.open(source) as figure:
        small = figure.convert("RGB").quantize(COLOURS)
    small.save(target, optimize=True)


def write_compact(path: Path, value: Any) -> None:
    """Write `value` as JSON in one line, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def main() -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description="Copy a finished run's small results to docs/results/.")
    parser.add_argument("run_folder", type=Path, help="such as results/quick")
    parser.add_argument("--small", action="store_true", help="leave analyses out, and figures but the table's")
    asked = parser.parse_args()
    try:
        copied = copy_results(asked.run_folder, small=asked.small)
        print(f"Written to {copied}; now run `make docs`.")
    except LetterwiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
