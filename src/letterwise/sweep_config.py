"""What a sweep varies and how: one YAML file around that of an experiment.

Knows which settings of an experiment may vary and which values they take; knows nothing about how values are chosen or
trials are run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from letterwise.config import ExperimentConfig, describe_error, load_config, read_settings
from letterwise.data_config import Section, WordsConfig
from letterwise.errors import LetterwiseError
from letterwise.tasks.template_mix import template_groups

Metric = Literal["spelling_accuracy", "character_level_accuracy", "letter_count_accuracy", "letter_position_accuracy"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]

Overrides = dict[str, Any]
"""Dotted path of a setting → its value."""

FIXED = {
    "run_name": "trials have names of their own",
    "results_folder": "all trials of a study lie together",
    "checkpoints_folder": "all trials of a study lie together",
    "revision": "name another base_model instead",
    "seed": "trials are repeated by study.seeds_per_trial, on the same words and data",
    "further_seeds": "trials are repeated by study.seeds_per_trial",
    "controls_of_further_seeds": "study.control says whether trials have a control",
    "training.controls": "study.control says whether trials have a control",
    "training.seed": "trials are repeated by study.seeds_per_trial",
    **dict.fromkeys(
        [f"words.{name}" for name in WordsConfig.model_fields if name != "extra_training_words"],
        "trials are compared on the same validation words",
    ),
    "data.count_questions": "trials are compared on the same questions",
    "data.position_questions": "trials are compared on the same questions",
    "training.evaluation_words": "trials are compared on the same validation words",
    "evaluation": "trials are compared by the evaluations during training",
    "tracking": "all trials of a study are tracked alike",
}
"""Settings that may not vary, and why."""


class PrunerSection(Section):
    """When a trial that goes badly is given up."""

    kind: Literal["none", "median", "successive_halving"] = "median"
    """'median' gives up what is worse than the median of other trials at the same step, 'successive_halving' all but
    the best quarter at each rung."""
    startup_trials: int = Field(5, ge=0)
    """'median' only: trials to finish before any is given up."""
    warmup_steps: int = Field(0, ge=0)
    """Training steps before which no trial is given up."""


class StudySection(Section):
    """How many trials, on what they are compared, and where the study is kept."""

    name: Name
    """Names the folders results/<name> and checkpoints/<name>, and the W&B group."""
    metric: Metric = "spelling_accuracy"
    """Accuracy on validation words to raise: the mean over the seeds, each at the step whose adapter was kept."""
    trials: int | None = Field(None, ge=1)
    """Trials to finish; null with 'variants' and with the sampler 'grid', which are as many as they are."""
    seeds_per_trial: int = Field(1, ge=1, le=100)
    """Trainings of each trial, with training seeds from the experiment's seed on; words and data stay the same."""
    control: bool = False
    """Also train the control adapter of each seed, on shuffled letters."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How values are chosen: the tree-structured Parzen estimator (Bergstra et al., 2011), at random, or every
    combination of choices once."""
    pruner: PrunerSection = PrunerSection()
    timeout_minutes: float | None = Field(None, gt=0)
    """A worker that has worked this long begins no further trial; null: no limit."""
    storage: Path | None = None
    """Folder of the study's journal, which all workers must reach; null: in the study's results folder."""


class Dimension(Section):
    """The values of one setting: a list of choices, or a range from low to high."""

    choices: list[Any] | None = Field(None, min_length=1)
    """Written as a plain list."""
    low: float | None = None
    """Smallest value."""
    high: float | None = None
    """Largest value."""
    step: float | None = Field(None, gt=0)
    """Distance between values."""
    log: bool = False
    """Choose by magnitude, as learning rates want it."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, dict | Dimension):
            return value
        return {"choices": value if isinstance(value, list) else [value]}

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if self.choices is None:
            if self.low is None or self.high is None:
                raise ValueError("a list of choices is wanted, or low and high")
            if self.low > self.high:
                raise ValueError("low must not be larger than high")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError("log wants a low above 0 and no step")
        return self


class SweepConfig(Section):
    """A study: what is varied around one experiment."""

    study: StudySection
    experiment: ExperimentConfig
    """What trials have in common: settings as in an experiment's file, or the path of one beside this file."""
    space: dict[str, Dimension] = Field(default_factory=dict)
    """Dotted path of a setting → its choices or range; the sampler chooses."""
    variants: dict[Name, Overrides] = Field(default_factory=dict)
    """Name → settings that differ, by dotted path; each is one trial. Instead of 'space'."""

    @model_validator(mode="after")
    def _complete(self) -> SweepConfig:
        if bool(self.space) == bool(self.variants):
            raise ValueError("either 'space' or 'variants' is wanted, with something in it")
        for path, dimension in self.space.items():
            _check_dimension(self.experiment, path, dimension)
        for overrides in self.variants.values():
            for path in overrides:
                _field_type(path)
            vary(self.experiment, overrides)
        grid = bool(self.space) and self.study.sampler == "grid"
        if grid and any(dimension.choices is None for dimension in self.space.values()):
            raise ValueError("the sampler 'grid' wants a list of choices for each setting")
        if (grid or self.variants) and self.study.trials is not None:
            raise ValueError("'study.trials' is for a sampled space; leave it out")
        if not (grid or self.variants) and self.study.trials is None:
            raise ValueError("'study.trials' is missing: how many trials to finish")
        return self

    @property
    def folder(self) -> Path:
        """Where the study's results go."""
        return self.experiment.results_folder / self.study.name

    @property
    def storage_folder(self) -> Path:
        """Where the study's journal and locks are."""
        return self.study.storage or self.folder / "study"

    @property
    def seeds(self) -> list[int]:
        """Training seeds of each trial."""
        return [self.experiment.seed + place for place in range(self.study.seeds_per_trial)]

    def choices(self, path: str) -> dict[str | int | float | bool | None, Any]:
        """The choices of a setting as the experiment takes them, by labels that a journal can hold."""
        values = [setting(vary(self.experiment, {path: value}), path) for value in self.space[path].choices or []]
        return {value if isinstance(value, str | int | float | None) else json.dumps(value): value for value in values}

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of choices, by label."""
        labels = [self.choices(path) for path in self.space]
        return [dict(zip(self.space, combination, strict=True)) for combination in product(*labels)]

    def trial_config(self, trial: str, overrides: Mapping[str, Any], seed: int) -> ExperimentConfig:
        """The experiment of one trial and seed."""
        tracking = self.experiment.tracking
        return vary(
            self.experiment,
            {
                **overrides,
                "run_name": f"{trial}-seed-{seed}",
                "results_folder": self.folder / "trials",
                "checkpoints_folder": self.experiment.checkpoints_folder / self.study.name,
                "training.seed": seed,
                "further_seeds": [],
                "controls_of_further_seeds": None,
                "tracking.group": tracking.group or self.study.name,
            },
        )


def load_sweep(path: Path) -> SweepConfig:
    """Read and check a sweep's YAML file, and that of its experiment if it names one.

    Raises:
        LetterwiseError: a file is missing, is not YAML, has an unknown setting or a value out of range.
    """
    raw = read_settings(path)
    experiment = raw.get("experiment")
    if isinstance(experiment, str):
        raw["experiment"] = load_config(path.parent / experiment)
    elif isinstance(experiment, dict):
        raw["experiment"] = {"run_name": "trial", **experiment}
    try:
        return SweepConfig.model_validate(raw)
    except ValidationError as error:
        raise LetterwiseError(f"{path}: {describe_error(error)}.") from error


def vary(experiment: ExperimentConfig, overrides: Mapping[str, Any]) -> ExperimentConfig:
    """The experiment with some settings replaced, by dotted path, checked again, and that its texts have templates.

    Raises:
        ValueError: a value is not allowed.
    """
    values: dict[str, Any] = experiment.model_dump()
    for path, value in overrides.items():
        section, _, name = path.rpartition(".")
        (values[section] if section else values)[name] = value
    try:
        varied = ExperimentConfig.model_validate(values)
        template_groups(varied.data)
    except ValidationError as error:
        raise ValueError(describe_error(error)) from error
    except LetterwiseError as error:
        raise ValueError(str(error).rstrip(".")) from error
    return varied


def setting(experiment: ExperimentConfig, path: str) -> Any:
    """The value of a setting, by dotted path."""
    value: Any = experiment
    for part in path.split("."):
        value = getattr(value, part)
    return value


def is_integer(path: str) -> bool:
    """Whether a range of this setting is one of whole numbers."""
    return _field_type(path) is int


def _paths() -> dict[str, Any]:
    """Dotted path of each setting → its type, without null."""
    found: dict[str, Any] = {}
    for name, field in ExperimentConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {f"{name}.{inner}": each.annotation for inner, each in kind.model_fields.items()}
        else:
            found[name] = kind
    return {path: _without_null(kind) for path, kind in found.items()}


def _without_null(kind: Any) -> Any:
    kinds = [each for each in get_args(kind) if each is not NoneType]
    return kinds[0] if NoneType in get_args(kind) and len(kinds) == 1 else kind


def _field_type(path: str) -> Any:
    paths = _paths()
    if path not in paths:
        near = get_close_matches(path, paths, 1, 0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"an experiment has no setting '{path}'{hint}")
    if reason := FIXED.get(path) or FIXED.get(path.partition(".")[0]):
        raise ValueError(f"'{path}' may not vary: {reason}")
    return paths[path]


def _check_dimension(experiment: ExperimentConfig, path: str, dimension: Dimension) -> None:
    kind = _field_type(path)
    values = dimension.choices
    if values is None:
        if kind not in (int, float):
            raise ValueError(f"'{path}' has no range: list its choices")
        bounds = (dimension.low, dimension.high, dimension.step or 1)
        if kind is int and any(float(bound or 0) % 1 for bound in bounds):
            raise ValueError(f"'{path}' takes whole numbers: low, high and step must be whole")
        values = [dimension.low, dimension.high]
    for value in values:
        vary(experiment, {path: value})
