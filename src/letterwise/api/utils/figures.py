"""The figures of a model's quality, as gauges and as the API reports them.

Knows their names; knows nothing about how they are measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Metric
from prometheus_client.registry import Collector

from letterwise.api.schemas import MetricsReport, PositionCountMetrics, SpellingMetrics, TransferMetrics

Source = Literal["evaluation", "canary"]

_POOLED = "position_count"
"""Question type of a figure over both kinds of questions together."""


@dataclass(frozen=True)
class Figures:
    """How well the model does, from one source; None, or no entry for a question type, where there is no figure."""

    spelling_accuracy: float | None = None
    character_level_accuracy: float | None = None
    levenshtein_distance: float | None = None
    letter_count_accuracy: float | None = None
    letter_position_accuracy: float | None = None
    generalization: float | None = None
    correlation: Mapping[str, float] = field(default_factory=dict)
    transfer_efficiency: Mapping[str, float] = field(default_factory=dict)
    control_adjusted_gain: Mapping[str, float] = field(default_factory=dict)

    def report(self) -> MetricsReport:
        """The figures as the API gives them; those of the transfer are over both kinds of questions."""
        return MetricsReport(
            spelling=SpellingMetrics(
                accuracy=self.spelling_accuracy,
                character_level_accuracy=self.character_level_accuracy,
                levenshtein_distance=self.levenshtein_distance,
            ),
            position_count=PositionCountMetrics(
                letter_count_accuracy=self.letter_count_accuracy,
                letter_position_accuracy=self.letter_position_accuracy,
            ),
            transfer_learning=TransferMetrics(
                correlation=self.correlation.get(_POOLED), transfer_efficiency=self.transfer_efficiency.get(_POOLED)
            ),
        )


_FIGURES = {
    "spelling_accuracy": "Share of held-out words spelled exactly.",
    "character_level_accuracy": "Mean share of letters that are right at their place.",
    "levenshtein_distance": "Mean normalized Levenshtein distance of spellings, 0 best, 1 worst.",
    "letter_count_accuracy": "Share of letter-count questions answered right.",
    "letter_position_accuracy": "Share of letter-position questions answered right.",
    "generalization": "Spelling accuracy on held-out words divided by that on training tokens.",
    "correlation": "Of spelling and answering: evaluation: Spearman over the training checkpoints; "
    "canary: phi over the words of the window.",
    "transfer_efficiency": "Gain on questions over headroom there, divided by the same of spelling.",
    "control_adjusted_gain": "Accuracy minus that of an adapter trained on shuffled letters.",
}


class FiguresCollector(Collector):
    """Gauges for the figures that there are: one without a figure is absent, never 0 or NaN."""

    def __init__(self) -> None:
        self.figures: dict[Source, Figures] = {"evaluation": Figures(), "canary": Figures()}

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        for name, documentation in _FIGURES.items():
            metric = Metric(f"letterwise_{name}", documentation, "gauge")
            for source, figures in self.figures.items():
                value = getattr(figures, name)
                if isinstance(value, Mapping):
                    for question_type, of_type in value.items():
                        metric.add_sample(metric.name, {"source": source, "question_type": question_type}, of_type)
                elif value is not None:
                    metric.add_sample(metric.name, {"source": source}, value)
            yield metric
