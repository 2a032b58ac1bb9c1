"""Typed model of ``sweep.json``: a study writes it, tables and figures read it.

Knows the names and shapes of a sweep's results; knows nothing about how they came about.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from letterwise.results import SCHEMA_VERSION, Environment, Interval, ResultsModel

SWEEP_FILE = "sweep.json"
BEST_CONFIG_FILE = "best_config.yaml"
IMPORTANCE_FIGURE = "importance.png"

TrialState = Literal["waiting", "running", "complete", "pruned", "failed"]


class SeedResult(ResultsModel):
    """One training of a trial, measured on validation words at the step whose adapter was kept."""

    seed: int
    value: float
    """The study's metric."""
    interval: Interval
    """95% Wilson interval: what another draw of words would change; of character_level_accuracy it is too wide."""
    n: int
    """Validation words or questions behind the value."""
    metrics: dict[str, float]
    metrics_n: dict[str, int] = Field(default_factory=dict)
    positions: dict[str, tuple[int, int]] | None = None
    """Position questions by class, 'first', 'inner' or 'last': how many were answered right, and n."""
    untrained: dict[str, float] | None = None
    """The same metrics before the first step: those of the base model."""
    majority_class: dict[str, float] = Field(default_factory=dict)
    """Question type → what always giving the most frequent answer comes to on the same questions."""
    kept_step: int
    steps: int
    tokens: int
    seconds: float
    """Training alone, evaluation left out."""
    control_metrics: dict[str, float] | None = None
    """Of the control adapter after the same number of steps, where the study trains it."""
    environment: Environment


class TrialResult(ResultsModel):
    """One trial."""

    name: str
    state: TrialState
    params: dict[str, Any]
    """Dotted path of each varied setting → its value."""
    value: float | None = None
    """Mean of the metric over the seeds; null unless complete."""
    interval: Interval | None = None
    """95% Wilson interval of the mean for the words of one seed, as all seeds are asked the same words."""
    n: int | None = None
    seeds: list[SeedResult] = Field(default_factory=list)
    intermediate: dict[int, float] = Field(default_factory=dict)
    """Training step → metric, of the first seed: what pruning goes by."""
    tokens: int = 0
    """Of the tuned adapters of all seeds, an unfinished one included."""
    seconds: float = 0.0
    """Of the same trainings, evaluation left out."""
    attempts: int = 0
    """Times a worker took it up."""
    reason: str | None = None
    """Why it failed or was pruned."""


class SweepResults(ResultsModel):
    """``sweep.json``."""

    schema_version: str = SCHEMA_VERSION
    study: str
    metric: str
    seeds: list[int]
    config: dict[str, Any]
    """The sweep's configuration as resolved."""
    trials: list[TrialResult]
    best: str | None
    """Name of the complete trial with the highest value; of equals the first."""
    importance: dict[str, float] | None
    """Setting → share of its importance for reaching the best tenth of the values (PED-ANOVA); sums to 1."""
    importance_reason: str | None = None
    """Why there is no importance."""

    def trial(self, name: str) -> TrialResult:
        """The trial of that name."""
        return next(trial for trial in self.trials if trial.name == name)

    @property
    def finished(self) -> int:
        """Trials that nothing is left to do for."""
        return sum(trial.state in ("complete", "pruned", "failed") for trial in self.trials)
