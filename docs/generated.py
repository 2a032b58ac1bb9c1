"""What README.md and docs/*.md show of the recorded run: its figures, tables and plots.

Called from cog blocks in those documents and run by `make docs`. Knows the result files in docs/results/; knows nothing
about the text around a block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import generated_settings
from update_results import EVALUATION, SECONDS_FILE

from letterwise.config import load_config
from letterwise.files import read_json
from letterwise.reporting.summary import NOTHING, conclusion, headline_markdown, number_text, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import (
    TRANSFER_FIGURES,
    DataAudit,
    Environment,
    Estimate,
    EvaluationResults,
    TransferResults,
    read_results,
    read_training_log,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
PREFERRED_RUNS = ("standard", "quick")
SECOND_FAMILY = "gemma"
NO_RUN = "*No run recorded yet.*"


def recorded_run() -> Path | None:
    """The folder of the run that the documents speak of: the standard one if it is there, else the quick one."""
    folders = (RESULTS / name for name in PREFERRED_RUNS)
    return next((folder for folder in folders if (folder / EVALUATION).is_file()), None)


def _of_recorded_run(write: Callable[[Path], str]) -> Callable[[], str]:
    """Write about the recorded run, or say that there is none."""

    @wraps(write)
    def written() -> str:
        folder = recorded_run()
        return write(folder) if folder else NO_RUN

    return written


@_of_recorded_run
def headline(folder: Path) -> str:
    """The table of the recorded run, what it shows, its figure, and how to get it."""
    return _headline(folder, ROOT)


def second_family() -> str:
    """As much of the recorded run on another model family, if there is one."""
    folder = RESULTS / SECOND_FAMILY
    return _headline(folder, DOCS) if (folder / EVALUATION).is_file() else NO_RUN


def _headline(folder: Path, page: Path) -> str:
    results = read_results(folder / EVALUATION, EvaluationResults)
    transfer = read_results(folder / "transfer.json", TransferResults)
    environment = read_results(folder / "environment.json", Environment)
    commit = f", its last step at commit {environment.commit[:12]}" if environment.commit else ""
    return "\n".join(
        [
            f"> {conclusion(results, transfer)}\n",
            headline_markdown(folder),
            f"Made by `{_command(folder)}` with letterwise {environment.letterwise}{commit}.",
            f"{_training_time(folder)} {_run_time(folder)}".rstrip() + "\n",
            _figure(folder, "model_bars.png", "Accuracy of base, control and tuned model beside the baselines", page),
        ]
    )


def quick_run_time() -> str:
    """How long training takes in `make run`, if a quick run is recorded."""
    folder = RESULTS / "quick"
    if not (folder / "training_log.jsonl").is_file():
        return "No quick run is recorded yet, so how long it takes is not stated here."
    environment = read_results(folder / "environment.json", Environment)
    where = environment.gpu or f"{environment.cores} cores of {environment.cpu}"
    return f"The last recorded `make run` was on {where}. {_training_time(folder)}"


@_of_recorded_run
def audit_table(folder: Path) -> str:
    """Sizes and leak checks of the recorded run's data."""
    audit = read_results(folder / "data_audit.json", DataAudit)
    shares = audit.template_shares.values()
    rows = [(f"`n.{name}`", f"{value:,}") for name, value in audit.n.items()]
    rows += [(f"`overlaps.{name}`", f"{value:,}") for name, value in audit.overlaps.items()]
    rows += [(f"`purity_violations.{name}`", f"{value:,}") for name, value in audit.purity_violations.items()]
    rows += [(f"`excluded_training_tokens.{name}`", f"{n:,}") for name, n in audit.excluded_training_tokens.items()]
    rows += [(f"`exercise_shares.{name}`", f"{share:.2%}") for name, share in audit.exercise_shares.items()]
    rows.append(("`single_token_held_out_words`", f"{audit.single_token_held_out_words:,}"))
    rows.append(("`template_shares`, lowest to highest", f"{min(shares):.2%} to {max(shares):.2%}"))
    rows.append(("`passed`", str(audit.passed).lower()))
    return markdown_table(("data_audit.json", f"run `{folder.name}`"), rows)


@_of_recorded_run
def audit_summary(folder: Path) -> str:
    """The audit of the recorded run in a few lines."""
    audit = read_results(folder / "data_audit.json", DataAudit)
    n = audit.n
    further = n.get("extra_training_words")
    others = f"and {further:,} further words of several tokens " if further else ""
    return (
        f"In run `{folder.name}`: {n['training_words']:,} training words, {n['training_surface_forms']:,} tokens, "
        f"{others}gave {n['training_texts']:,} texts; {n['validation_words']:,} validation and {n['test_words']:,} "
        f"test words are held out. {sum(audit.overlaps.values())} words are shared between any two of these sets, "
        f"{sum(audit.purity_violations.values())} texts are impure."
    )


@_of_recorded_run
def training_progress(folder: Path) -> str:
    """The recorded run's evaluations on validation words during training, as a table and a figure."""
    entries = [e for e in read_training_log(folder / "training_log.jsonl") if e.model == "finetuned" and e.evaluation]
    metrics = ("spelling_accuracy", "character_level_accuracy", "letter_count_accuracy", "letter_position_accuracy")
    sizes = [(entries[-1].evaluation_n or {}).get(metric) for metric in metrics]
    header = ["step", "tokens", *(f"{metric} (n = {size})" for metric, size in zip(metrics, sizes, strict=True))]
    rows = []
    for entry in entries:
        values = [(entry.evaluation or {}).get(metric) for metric in metrics]
        shares = [NOTHING if value is None else share_text(value) for value in values]
        rows.append((str(entry.step), f"{entry.tokens:,}", *shares))
    figure = _figure(
        folder, "learning_curves.png", "Spelling, count and position accuracy over the training steps", ROOT
    )
    return f"{markdown_table(header, rows)}\n\n{figure}"


@_of_recorded_run
def answer_modes(folder: Path) -> str:
    """The figure of the recorded run's accuracies in each answer mode."""
    return _figure(folder, "answer_modes.png", "Count and position accuracy of each model in each answer mode", ROOT)


@_of_recorded_run
def transfer_table(folder: Path) -> str:
    """Every estimate of the recorded run's transfer.json, the missing ones with their reason."""
    transfer = read_results(folder / "transfer.json", TransferResults)
    rows = [
        _estimate_row(figure, key, estimate)
        for figure in TRANSFER_FIGURES
        for key, estimate in getattr(transfer, figure).items()
    ]
    rows.append(_estimate_row("generalization", "spelling", transfer.generalization))
    return markdown_table(("figure", "of", "value and 95% interval", "n"), rows)


def _figure(folder: Path, name: str, description: str, page: Path) -> str:
    """An image, as a document in the folder `page` has to link to it."""
    return f"![{description}]({(folder / name).relative_to(page).as_posix()})"


def _command(folder: Path) -> str:
    """What to type for the same run."""
    for path in generated_settings.experiments():
        if load_config(path).run_name == folder.name:
            return f"letterwise run --config configs/{path.name}"
    return f"letterwise run --config {(folder / 'config.yaml').relative_to(ROOT).as_posix()}"


def _training_time(folder: Path) -> str:
    last = {entry.model: entry for entry in read_training_log(folder / "training_log.jsonl")}
    parts = [
        f"{name} adapter {entry.seconds / 60:.1f} minutes ({entry.step:,} steps, {entry.tokens:,} tokens)"
        for name, entry in (("tuned", last.get("finetuned")), ("control", last.get("control")))
        if entry
    ]
    return f"Training time, without evaluation: {', '.join(parts)}."


def _run_time(folder: Path) -> str:
    """How long the whole run took with its further seeds; nothing where that is not recorded of each of them."""
    seeds = [folder, *(folder / f"seed-{seed}" for seed in load_config(folder / "config.yaml").further_seeds)]
    if not all((seed / SECONDS_FILE).is_file() for seed in seeds):
        return ""
    steps = [step for seed in seeds for step in read_json(seed / SECONDS_FILE).items()]
    trainings = sum(name.startswith("train-") for name, _ in steps)
    minutes = sum(seconds for _, seconds in steps) / 60
    return f"All steps of the run, {trainings} trainings and their evaluations, add up to {minutes:.0f} minutes."


def _estimate_row(figure: str, key: str, estimate: Estimate) -> tuple[str, ...]:
    value = estimate.reason or NOTHING if estimate.value is None else number_text(estimate.value, estimate.interval)
    return f"`{figure}`", key, value, f"{estimate.n:,}" if estimate.n is not None else NOTHING
