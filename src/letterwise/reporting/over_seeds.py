"""One experiment trained with several seeds: each figure's mean, and what each seed came to.

Knows the evaluations of its runs, which ask the same; computes no metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statsmodels.stats.proportion import proportion_confint

from letterwise.config import ANSWER_MODES, NO_PART_OF_TRAINING, AnswerMode, ExperimentConfig, load_config
from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.report_model import SeedFigure
from letterwise.reporting.summary import (
    NOTHING,
    QUESTION_METRICS,
    find_difference,
    find_estimate,
    in_mode,
    share_text,
    signed_text,
)
from letterwise.results import (
    DataAudit,
    Difference,
    EvaluationResults,
    Interval,
    ModelRole,
    read_results,
)

SeedResults = Mapping[int, EvaluationResults]
"""Seed of a training → what its run measured."""
FIGURES: tuple[tuple[str, AnswerMode | None], ...] = (
    ("spelling_accuracy", None),
    *((metric, mode) for mode in ANSWER_MODES for metric in QUESTION_METRICS),
)
"""The accuracies that a run is about, in each answer mode."""
INTERVAL_NOTE = (
    "The interval of a mean is Wilson's 95% with one seed's n: it speaks of words and questions, and the spread of the "
    "seeds of trainings."
)
SEED_NOTE = (
    f"Every seed trains anew, on the same words and data, and is asked the same. {INTERVAL_NOTE} Gains over the "
    "control are in percentage points; each seed's has a paired bootstrap interval, their mean has none."
)


@dataclass(frozen=True)
class OverSeeds:
    """One accuracy of one model."""

    values: dict[int, float]
    """By seed."""
    n: int
    """Of each seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.values.values()) / len(self.values)

    @property
    def interval(self) -> Interval:
        """Wilson's, of the mean, with one seed's n."""
        low, high = proportion_confint(round(self.mean * self.n), self.n, method="wilson")
        return float(low), float(high)


def seed_folders(folder: Path, config: ExperimentConfig) -> dict[int, Path]:
    """A run's folder and those of its further seeds that were analysed, of the same data and trained alike, by seed.

    Raises:
        LetterwiseError: a file is missing or broken.
    """
    found = {config.training_seed: folder}
    wanted = [folder.parent / config.with_seed(seed).run_name for seed in config.further_seeds]
    data = read_results(folder / "data_audit.json", DataAudit).checksums if wanted else {}
    for seed, other in zip(config.further_seeds, wanted, strict=True):
        if not all((other / name).is_file() for name in ("evaluation_results.json", "transfer.json")):
            continue
        same_data = read_results(other / "data_audit.json", DataAudit).checksums == data
        if same_data and differ_in_seed_alone(config, load_config(other / "config.yaml")):
            found[seed] = other
    return found


def read_seeds(folder: Path, config: ExperimentConfig) -> dict[int, EvaluationResults]:
    """What a run measured, and those of its further seeds that are there (`seed_folders`).

    Raises:
        LetterwiseError: a file is broken.
    """
    return {
        seed: read_results(each / "evaluation_results.json", EvaluationResults)
        for seed, each in seed_folders(folder, config).items()
    }


def differ_in_seed_alone(one: ExperimentConfig, other: ExperimentConfig) -> bool:
    """Whether two runs are alike in all that their figures hang on, save the seed of the training and the controls."""
    return _compared(one) == _compared(other)


def _compared(config: ExperimentConfig) -> dict[str, Any]:
    sections = {"base_model", "revision", "seed", "words", "data", "lora", "training", "evaluation"}
    settings = config.model_dump(mode="json", include=sections)
    for name in (*NO_PART_OF_TRAINING, "seed"):
        settings["training"].pop(name)
    return settings


def accuracy(found: SeedResults, metric: str, mode: AnswerMode | None, role: ModelRole) -> OverSeeds | None:
    """One accuracy of one model, of the seeds that have it; None where none has."""
    estimates = {seed: find_estimate(results, metric, mode, role) for seed, results in found.items()}
    measured = {seed: each for seed, each in estimates.items() if each and each.value is not None and each.n}
    if not measured:
        return None
    values = {seed: each.value for seed, each in measured.items() if each.value is not None}
    return OverSeeds(values, min(each.n or 0 for each in measured.values()))


def gains(found: SeedResults, metric: str, mode: AnswerMode | None) -> dict[int, Difference]:
    """By seed, how much more of it the tuned model has right than the control."""
    differences = {
        seed: find_difference(results, "control_to_finetuned", in_mode(metric, mode)) for seed, results in found.items()
    }
    return {seed: difference for seed, difference in differences.items() if difference}


def seed_figures(found: SeedResults) -> list[SeedFigure]:
    """Every accuracy of the trained models, each followed by the gain over the control."""
    figures = []
    for metric, mode in FIGURES:
        for role in NAMES:
            if role != "base" and (shares := accuracy(found, metric, mode, role)):
                figures.append(
                    SeedFigure(
                        metric=metric,
                        mode=mode,
                        model=role,
                        gain_over_control=False,
                        mean=shares.mean,
                        interval=shares.interval,
                        values=shares.values,
                        n=shares.n,
                    )
                )
        if over_control := gains(found, metric, mode):
            figures.append(
                SeedFigure(
                    metric=metric,
                    mode=mode,
                    model="finetuned",
                    gain_over_control=True,
                    mean=sum(each.difference for each in over_control.values()) / len(over_control),
                    interval=None,
                    values={seed: each.difference for seed, each in over_control.items()},
                    intervals={seed: each.interval for seed, each in over_control.items()},
                    n=min(each.n for each in over_control.values()),
                )
            )
    return figures


def seed_rows(found: SeedResults) -> list[list[str]]:
    """Rows of figure, model, mean, each seed and n: the trained models, then the gain over the control."""
    return [_row(figure, list(found)) for figure in seed_figures(found)]


def _row(figure: SeedFigure, seeds: Sequence[int]) -> list[str]:
    name = figure.metric + (f" ({figure.mode})" if figure.mode else "")
    if figure.gain_over_control:
        model, mean = "tuned − control", signed_text(figure.mean)
        each = {seed: signed_text(value, figure.intervals[seed]) for seed, value in figure.values.items()}
    else:
        model, mean = NAMES[figure.model], share_text(figure.mean, figure.interval)
        each = {seed: share_text(value) for seed, value in figure.values.items()}
    return [name, model, mean, *(each.get(seed, NOTHING) for seed in seeds), f"{figure.n:,}"]


def seed_columns(found: SeedResults) -> list[str]:
    """The header of `seed_rows`."""
    return ["figure", "model", "mean", *(f"seed {seed}" for seed in found), "n"]
