"""What a run left, read into one place for the report.

Knows the layout of a run folder; knows nothing about what is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE, ItemAnalysis, Retention
from letterwise.config import ExperimentConfig, load_config
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.probe_results import PROBES_FIGURE, PROBES_FILE, ProbeResults
from letterwise.publication import Publication, read_publication
from letterwise.reporting.over_seeds import read_seeds
from letterwise.reporting.summary import find_difference
from letterwise.results import (
    MODEL_ROLES,
    TASKS,
    Calibration,
    DataAudit,
    Environment,
    EvaluationResults,
    ModelRole,
    TrainingLogEntry,
    TransferResults,
    read_results,
    read_training_log,
)

GAINS = ("spelling", "letter_count", "letter_position")
"""Keys of `control_adjusted_gain`; each repeats a difference of the evaluation."""
RECORD_FILES = (
    "config.yaml",
    "environment.json",
    "data_audit.json",
    "training_log.jsonl",
    "evaluation_results.json",
    "transfer.json",
    *(f"{task}/predictions.parquet" for task in TASKS),
)
"""What a finished run holds and the report cannot do without."""
FURTHER_FILES = (ITEM_ANALYSIS_FILE, RETENTION_FILE)
"""What a run may hold: the report shows it where it is there."""
FIGURES = {
    "token_distribution": "words/token_distribution.png",
    **{name: f"spelling/figures/{name}.png" for name in ("training_loss", "learning_curves")},
    **{
        name: f"position_count/figures/{name}.png"
        for name in (
            *("model_bars", "answer_modes", "accuracy_by_word_length", "accuracy_by_n_tokens", "accuracy_by_position"),
            *("confusion", "item_table"),
        )
    },
    "probes": PROBES_FIGURE,
}


@dataclass(frozen=True)
class TrainingSummary:
    """One adapter's training in figures."""

    steps: int
    tokens: int
    seconds: float
    first_loss: float | None
    last_loss: float | None
    evaluations: list[TrainingLogEntry] = field(default_factory=list)

    @property
    def best(self) -> TrainingLogEntry | None:
        """The evaluation at which spelling was best; the first of equals."""
        metric = "spelling_accuracy"
        scored = [entry for entry in self.evaluations if entry.evaluation and metric in entry.evaluation]
        return max(scored, key=lambda entry: (entry.evaluation or {})[metric], default=None)


@dataclass(frozen=True)
class RunRecord:
    """A finished run."""

    folder: Path
    config: ExperimentConfig
    environment: Environment
    audit: DataAudit
    log: list[TrainingLogEntry]
    results: EvaluationResults
    seeds: dict[int, EvaluationResults]
    """Seed of the training → what it came to: this run first, then the runs of its further seeds."""
    transfer: TransferResults
    predictions: dict[str, pd.DataFrame]
    item_analysis: ItemAnalysis | None
    retention: Retention | None
    """None also where it was measured of other adapters than those that were evaluated."""
    calibration: Calibration | None
    publication: Publication
    probes: ProbeResults | None
    """Those of the models that were evaluated."""
    figures: dict[str, Path]
    """Those that the run drew."""
    checksums: dict[str, str]
    """SHA-256 of what the report was made from."""
    adapter_bytes: int | None
    """Size of the tuned adapter's weights; None where the adapter is not at hand."""

    def training(self, role: ModelRole) -> TrainingSummary | None:
        """How one adapter was trained; None if it was not."""
        entries = [entry for entry in self.log if entry.model == role]
        if not entries:
            return None
        losses = [entry.loss for entry in entries if entry.loss is not None]
        evaluations = {entry.step: entry for entry in entries if entry.evaluation}
        return TrainingSummary(
            steps=max(entry.step for entry in entries),
            tokens=max(entry.tokens for entry in entries),
            seconds=max(entry.seconds for entry in entries),
            first_loss=losses[0] if losses else None,
            last_loss=losses[-1] if losses else None,
            evaluations=list(evaluations.values()),
        )


def check_finished(folder: Path) -> None:
    """Make sure that a run left everything that the report cannot do without.

    Raises:
        LetterwiseError: a file is missing.
    """
    for name in RECORD_FILES:
        if not (folder / name).is_file():
            raise LetterwiseError(f"{folder / name} does not exist; run `letterwise run` to its end first.")


def read_record(folder: Path, adapter: Path | None = None) -> RunRecord:
    """Read everything that the report is made from.

    Args:
        folder: the run folder.
        adapter: folder of the tuned adapter, for its calibration and its size.

    Raises:
        LetterwiseError: a file is missing, broken or older than the evaluation, or no tuned model was evaluated in mode
            `direct`.
    """
    check_finished(folder)
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    if results.finetuned_model is None or "direct" not in results.answer_modes:
        raise LetterwiseError(f"{folder} has no tuned model's answers in mode direct; evaluate it with that mode.")
    transfer = read_results(folder / "transfer.json", TransferResults)
    if not _belong_together(results, transfer):
        raise LetterwiseError(f"{folder / 'transfer.json'} is not of the last evaluation; run `letterwise transfer`.")
    calibration = adapter / "calibration.json" if adapter else None
    weights = adapter / "adapter_model.safetensors" if adapter else None
    config = load_config(folder / "config.yaml")
    seeds = read_seeds(folder, config)
    if {point["seed"] for point in transfer.checkpoints} | {config.training_seed} != seeds.keys():
        raise LetterwiseError(f"{folder / 'transfer.json'} is not of all seeds; run `letterwise transfer`.")
    items = folder / ITEM_ANALYSIS_FILE
    further = [name for name in FURTHER_FILES if (folder / name).is_file()]
    return RunRecord(
        folder=folder,
        config=config,
        environment=read_results(folder / "environment.json", Environment),
        audit=read_results(folder / "data_audit.json", DataAudit),
        log=read_training_log(folder / "training_log.jsonl"),
        results=results,
        seeds=seeds,
        transfer=transfer,
        predictions={task: pd.read_parquet(folder / task / "predictions.parquet") for task in TASKS},
        item_analysis=read_results(items, ItemAnalysis) if items.is_file() else None,
        retention=read_retention(folder / RETENTION_FILE, results),
        calibration=read_results(calibration, Calibration) if calibration and calibration.is_file() else None,
        publication=read_publication(folder),
        probes=read_probes(folder / PROBES_FILE, results),
        figures={name: path for name, place in FIGURES.items() if (path := folder / place).is_file()},
        checksums={name: sha256_file(folder / name) for name in (*RECORD_FILES, *further)},
        adapter_bytes=weights.stat().st_size if weights and weights.is_file() else None,
    )


def read_probes(path: Path, results: EvaluationResults) -> ProbeResults | None:
    """What probes found, unless a model that they were fitted on was trained or chosen anew since."""
    if not path.is_file():
        return None
    probes = read_results(path, ProbeResults)
    evaluated = {role: results.model(role) for role in probes.models}
    same = all(model and model.revision == probes.models[role].revision for role, model in evaluated.items())
    return probes if same else None


def configuration(record: RunRecord) -> dict[str, Any]:
    """``config.yaml`` as it stands."""
    settings: dict[str, Any] = yaml.safe_load((record.folder / "config.yaml").read_text(encoding="utf-8"))
    return settings


def read_retention(path: Path, results: EvaluationResults) -> Retention | None:
    """What was left of the base model's English, unless it was measured of other models than those evaluated."""
    retention = read_results(path, Retention) if path.is_file() else None
    evaluated = {role: model.revision for role in MODEL_ROLES if (model := results.model(role))}
    return retention if retention and retention.revisions.items() <= evaluated.items() else None


def _belong_together(results: EvaluationResults, transfer: TransferResults) -> bool:
    """Whether the gains over the control are the differences that the evaluation found."""
    differences = (find_difference(results, "control_to_finetuned", f"{key}_accuracy") for key in GAINS)
    found = {key: entry.difference for key, entry in zip(GAINS, differences, strict=True) if entry}
    gains = {key: gain.value for key, gain in transfer.control_adjusted_gain.items() if gain.value is not None}
    return all(found.get(key) == gain for key, gain in gains.items())
