"""The further controls of a run and its ceiling, beside the tuned model: one row for each that was evaluated.

Knows the results of a run; computes no metric.
"""

from __future__ import annotations

from letterwise.reporting.summary import METRICS_IN_BRIEF, NOTHING, share_text
from letterwise.results import EvaluationResults, ModelRole

COLUMNS = ("model", "trained on", *METRICS_IN_BRIEF)
NAMES: dict[ModelRole, str] = {
    "base": "base",
    "control": "control",
    "format_only": "format only",
    "random_label": "random label",
    "ceiling": "ceiling",
    "finetuned": "tuned",
}
TRAINED_ON: dict[ModelRole, str] = {
    "base": "nothing",
    "control": "the same texts with shuffled letters",
    "format_only": "the same texts with the word repeated instead of spelled",
    "random_label": "the same texts with another word's spelling",
    "ceiling": "the very questions, about training words",
    "finetuned": "spelling",
}


def other_control_rows(results: EvaluationResults) -> list[tuple[str, ...]]:
    """A row for each model, mode `direct`, shares with their 95% intervals; none where there is no other control."""
    if not results.other_controls:
        return []
    models = {role: model for role in NAMES if (model := results.model(role))}
    return [
        (
            NAMES[role],
            TRAINED_ON[role],
            *(
                share_text(model.metrics[metric], model.intervals.get(metric)) if metric in model.metrics else NOTHING
                for metric in METRICS_IN_BRIEF
            ),
        )
        for role, model in models.items()
    ]
