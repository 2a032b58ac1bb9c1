"""What a reader has to be told first: whether tuning made anything worse, and then what came out.

Knows which differences are significant; computes no metric.
"""

from __future__ import annotations

from letterwise.reporting.summary import SIGNIFICANCE_LEVEL, conclusion
from letterwise.results import Difference, EvaluationResults, TransferResults

ACCURACIES = {
    "spelling_accuracy": "spelling",
    "letter_count_accuracy": "letter counts",
    "letter_position_accuracy": "letter positions",
}
PARTS = {
    "letter_position_accuracy_first": "first letters",
    "letter_position_accuracy_inner": "inner letters",
    "letter_position_accuracy_last": "last letters",
}
"""Parts of the position questions, which an unchanged or better whole can hide."""
MODE_NAMES = {"": "", "_spell_first": " after spelling the word", "_computed": " computed from its spelling"}


def worsened(results: EvaluationResults) -> list[Difference]:
    """The accuracies, in any answer mode, that are significantly lower after tuning than before."""
    names = {f"{metric}{suffix}" for metric in ACCURACIES for suffix in MODE_NAMES}
    return [
        difference
        for difference in results.significance.get("base_to_finetuned", [])
        if difference.metric in names
        and difference.interval[1] < 0
        and (difference.p_value is None or difference.p_value < SIGNIFICANCE_LEVEL)
    ]


def worsened_parts(results: EvaluationResults) -> list[str]:
    """The parts of the position questions at which the tuned model's whole interval lies below the base model's."""
    before, after = results.base_model.intervals, (results.finetuned_model or results.base_model).intervals
    return [name for name in PARTS if name in before and name in after and after[name][1] < before[name][0]]


def opening(results: EvaluationResults, transfer: TransferResults | None) -> str:
    """The first paragraph about a run: what got worse, then the sentences of `conclusion`."""
    worse = [_name(difference.metric) for difference in worsened(results)]
    worse += [PARTS[part] for part in worsened_parts(results)]
    warning = f"**Tuning made the model worse at {_listed(worse)}.** " if worse else ""
    return warning + conclusion(results, transfer)


def _name(metric: str) -> str:
    base = next(name for name in ACCURACIES if metric.startswith(name))
    return ACCURACIES[base] + MODE_NAMES[metric.removeprefix(base)]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
