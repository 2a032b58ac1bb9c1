"""The figures of a model's quality, as gauges and as the API reports them.

Knows their names; knows nothing about how they are measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from prometheus_client import Metric
from prometheus_client.registry import Collector

from letterwise.api.schemas import MetricsReport, PositionCountMetrics, SpellingMetrics, TransferMetrics
from letterwise.config import AnswerMode

Source = Literal["evaluation", "canary"]

_POOLED = "position_count"
"""Question type of a figure over both kinds of questions together."""


REPORTED_MODE: AnswerMode = "direct"
"""Answer mode of the figures in the JSON report: the only one that speaks of transfer inside the model."""


@dataclass(frozen=True)
class Figures:
    """How well the model does, from one source; None, or no entry for a mode or type of question, for none.

    Figures on questions are kept for each answer mode, because those of two modes cannot be compared.
    """

    spelling_accuracy: float | None = None
    character_level_accuracy: float | None = None
    levenshtein_distance: float | None = None
    letter_count_accuracy: Mapping[AnswerMode, float] = field(default_factory=dict)
    letter_position_accuracy: Mapping[AnswerMode, float] = field(default_factory=dict)
    generalization: float | None = None
    correlation: Mapping[AnswerMode, Mapping[str, float]] = field(default_factory=dict)
    item_phi: Mapping[AnswerMode, Mapping[str, float]] = field(default_factory=dict)
    transfer_efficiency: Mapping[str, float] = field(default_factory=dict)
    control_adjusted_gain: Mapping[str, float] = field(default_factory=dict)

    def report(self) -> MetricsReport:
        """The figures as the API gives them: in mode `direct`, and of the transfer over both kinds of questions."""
        return MetricsReport(
            spelling=SpellingMetrics(
                accuracy=self.spelling_accuracy,
                character_level_accuracy=self.character_level_accuracy,
                levenshtein_distance=self.levenshtein_distance,
            ),
            position_count=PositionCountMetrics(
                letter_count_accuracy=self.letter_count_accuracy.get(REPORTED_MODE),
                letter_position_accuracy=self.letter_position_accuracy.get(REPORTED_MODE),
            ),
            transfer_learning=TransferMetrics(
                correlation=self.correlation.get(REPORTED_MODE, {}).get(_POOLED),
                transfer_efficiency=self.transfer_efficiency.get(_POOLED),
            ),
        )


_FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "spelling_accuracy": ("Share of held-out words spelled exactly.", ()),
    "character_level_accuracy": ("Mean share of letters that are right at their place.", ()),
    "levenshtein_distance": ("Mean normalized Levenshtein distance of spellings, 0 best, 1 worst.", ()),
    "letter_count_accuracy": ("Share of letter-count questions answered right.", ("mode",)),
    "letter_position_accuracy": ("Share of letter-position questions answered right.", ("mode",)),
    "generalization": ("Spelling accuracy on held-out words divided by that on training tokens.", ()),
    "correlation": (
        "Of spelling and answering: evaluation: Spearman over the training checkpoints; "
        "canary: phi over the words of the window, to be compared with item_phi.",
        ("mode", "question_type"),
    ),
    "item_phi": ("Phi of spelling a word and answering about it, in the evaluation.", ("mode", "question_type")),
    "transfer_efficiency": (
        "Gain on questions over headroom there, divided by the same of spelling; mode direct.",
        ("question_type",),
    ),
    "control_adjusted_gain": (
        "Accuracy minus that of an adapter trained on shuffled letters; mode direct.",
        ("question_type",),
    ),
}
"""Figure → what it is, and its labels besides the source, outermost first."""


class FiguresCollector(Collector):
    """Gauges for the figures that there are: one without a figure is absent, never 0 or NaN."""

    def __init__(self) -> None:
        self.figures: dict[Source, Figures] = {"evaluation": Figures(), "canary": Figures()}

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        for name, (documentation, labels) in _FIGURES.items():
            metric = Metric(f"letterwise_{name}", documentation, "gauge")
            for source, figures in self.figures.items():
                for labelled, value in _samples(getattr(figures, name), labels):
                    metric.add_sample(metric.name, {"source": source, **labelled}, value)
            yield metric


def _samples(value: Any, labels: tuple[str, ...]) -> Iterator[tuple[dict[str, str], float]]:
    """The numbers of a figure, each with its labels."""
    if labels:
        for key, inner in value.items():
            for others, number in _samples(inner, labels[1:]):
                yield {labels[0]: key, **others}, number
    elif value is not None:
        yield {}, value
