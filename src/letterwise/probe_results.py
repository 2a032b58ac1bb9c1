"""Typed model of ``probes.json``: probing writes it, figure and report read it.

Knows the names and shapes of what probes found; knows nothing about how they are fitted.
"""

from __future__ import annotations

from typing import Literal

from letterwise.results import SCHEMA_VERSION, Interval, ModelRole, ResultsModel

PROBES_FILE = "probes.json"
PROBES_FIGURE = "figures/probes.png"

ProbeQuestion = Literal["contains_letter", "first_letter", "last_letter"]
PROBE_QUESTIONS: tuple[ProbeQuestion, ...] = ("contains_letter", "first_letter", "last_letter")
EMBEDDING = "embedding"
"""The first place that is probed; the others are 'layer_1' and so on."""


class ProbeAccuracy(ResultsModel):
    """The share of right answers about test tokens."""

    value: float
    interval: Interval
    """95%: bootstrap over word families; of a single letter Wilson's."""
    n: int
    """Answers: pairs of a token and a letter, or tokens."""


class PlaceProbes(ResultsModel):
    """What is told by the representations at one place of a model."""

    place: str
    """'embedding', or 'layer_k': what the k-th layer gives; the last one after the model's final normalization."""
    accuracy: dict[ProbeQuestion, ProbeAccuracy]
    """Of 'contains_letter' the mean over the letters."""
    letters: dict[str, ProbeAccuracy]
    """Of 'contains_letter', by letter."""


class ProbedModel(ResultsModel):
    """The places of one model, from the embedding upwards."""

    id: str
    revision: str
    """As in ``evaluation_results.json``."""
    places: list[PlaceProbes]


class ProbeBaseline(ResultsModel):
    """What the same questions come to without a model's representation of the token."""

    accuracy: dict[ProbeQuestion, ProbeAccuracy]
    description: str


class ProbeDifference(ResultsModel):
    """Two models at the same place, on the same tokens."""

    place: str
    question: ProbeQuestion
    first: ModelRole
    second: ModelRole
    difference: float
    """second minus first."""
    interval: Interval
    """95% paired bootstrap over word families."""
    n: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


class ProbeResults(ResultsModel):
    """``probes.json``: what linear probes read off each place of each model."""

    schema_version: str = SCHEMA_VERSION
    seed: int
    prefix: str
    """The one token before the probed one."""
    tokens: dict[str, int]
    """Tokens that probes were fitted on, validated on and tested on: keys 'fit', 'validation', 'test'."""
    families: dict[str, int]
    """Word families, same keys; none has tokens in two of them."""
    letters_left_out: list[str]
    """Letters too rare among the tokens for a probe."""
    computed_on: str
    models: dict[ModelRole, ProbedModel]
    baselines: dict[str, ProbeBaseline]
    """'majority_class', 'shuffled_tokens', 'appearance'."""
    differences: dict[str, list[ProbeDifference]]
    """'base_to_finetuned', 'base_to_control', 'control_to_finetuned', an entry for each place and question."""
