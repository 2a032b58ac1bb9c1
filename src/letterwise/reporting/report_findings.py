"""What changed by tuning: better, worse or neither, what carried over, and the report's first paragraph.

Judges by intervals and p-values only; knows nothing about how a report is laid out. Nothing that got worse is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.reporting.summary import find_difference, is_significant, number_text, share_text
from letterwise.results import (
    POSITION_CLASSES,
    QUESTION_TYPES,
    Difference,
    EvaluationResults,
    Interval,
    ModelResults,
    ModeResults,
    QuestionType,
)

LOWER_IS_BETTER = ("levenshtein_distance", "letter_count_mae", "letter_count_format", "letter_position_format")
"""What the names of these metrics begin with."""
HEADLINES = {
    "spelling_accuracy": "spelling",
    "letter_count_accuracy": "letter counts",
    "letter_position_accuracy": "letter positions",
}
"""The metrics that the summary opens with, in plain words."""
PLAIN_NUMBERS = {
    "character_level_accuracy": "agreement letter by letter",
    "levenshtein_distance": "the distance between written and true spelling",
    "letter_count_mae": "the mean error of letter counts",
}

Direction = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Change:
    """How one figure differs between the base and the tuned model."""

    what: str
    before: str
    after: str
    direction: Direction

    def __str__(self) -> str:
        return f"{self.what} ({self.before} before, {self.after} after)"


def change_of(results: EvaluationResults, metric: str, comparison: str = "base_to_finetuned") -> Direction:
    """Whether the second model of a comparison is significantly better or worse than the first."""
    difference = find_difference(results, comparison, metric)
    return _direction(difference) if difference else "same"


def headline_changes(results: EvaluationResults) -> list[Change]:
    """The three headline accuracies, as far as they were measured."""
    base, tuned = results.base_model.metrics, results.finetuned_model.metrics if results.finetuned_model else {}
    return [
        Change(words, share_text(base[metric]), share_text(tuned[metric]), change_of(results, metric))
        for metric, words in HEADLINES.items()
        if metric in base and metric in tuned
    ]


def other_changes(results: EvaluationResults) -> list[Change]:
    """Everything else that was measured of both models: first what was compared in pairs, then by intervals.

    Where there is no paired comparison, a figure has changed if the two intervals have nothing in common.
    """
    return [*_paired_changes(results), *_interval_changes(results)]


def made_worse(results: EvaluationResults) -> list[Change]:
    """Everything measured that tuning made significantly worse, headlines first."""
    changes = headline_changes(results) + other_changes(results)
    return [change for change in changes if change.direction == "worse"]


def carried_over(results: EvaluationResults, question_type: QuestionType) -> bool | None:
    """Whether knowing the spelling made answers better; None without a control to tell.

    It did where spelling improved and the tuned model beats both the base model and the control, significantly.
    """
    if results.control_model is None:
        return None
    metric = f"{question_type}_accuracy"
    better = [
        change_of(results, "spelling_accuracy"),
        change_of(results, metric),
        change_of(results, metric, "control_to_finetuned"),
    ]
    return all(direction == "better" for direction in better)


def position_classes(results: EvaluationResults) -> dict[str, Change]:
    """How answers about the first, an inner and the last letter changed, in mode `direct`."""
    found: dict[str, Change] = {}
    for place in POSITION_CLASSES:
        article = "an inner" if place == "inner" else f"the {place}"
        change = _by_interval(
            f"questions about {article} letter",
            f"letter_position_accuracy_{place}",
            results.base_model,
            results.finetuned_model,
        )
        if change:
            found[place] = change
    return found


def first_paragraph(results: EvaluationResults) -> str:
    """What came out, in plain words; opens with what got worse where that is one of the headlines."""
    headlines = headline_changes(results)
    worse = [change for change in headlines if change.direction == "worse"]
    sentences = []
    if worse:
        listed = _listed([f"{change.what}, from {change.before} right to {change.after}" for change in worse])
        sentences.append(f"Tuning made these worse: {listed}.")
    sentences += [_headline_sentence(change) for change in headlines if change.direction != "worse"]
    sentences.append(_transfer_sentence(results))
    side_effects = [*_paired_changes(results), *position_classes(results).values()]
    if lost := [str(change) for change in side_effects if change.direction == "worse"]:
        sentences.append(f"Tuning {'also ' if worse else ''}made worse: {_listed(lost)}.")
    sentences.append(_written_sentence(results))
    return " ".join(sentence for sentence in sentences if sentence)


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def _headline_sentence(change: Change) -> str:
    if change.direction == "same":
        return (
            f"{capital(change.what)} did not change significantly: {change.before} right before, {change.after} after."
        )
    return f"{capital(change.what)} improved from {change.before} right to {change.after}."


def _transfer_sentence(results: EvaluationResults) -> str:
    """Says of which questions the gain is due to knowing the spelling."""
    verdicts = {question_type: carried_over(results, question_type) for question_type in QUESTION_TYPES}
    if None in verdicts.values():
        return "No control was evaluated, so nobody can tell whether a gain is due to knowing the spelling."
    names = {True: [], False: []}  # type: dict[bool, list[str]]
    for question_type, verdict in verdicts.items():
        names[bool(verdict)].append(HEADLINES[f"{question_type}_accuracy"])
    if not names[True]:
        return "Knowing how words are spelled did not carry over to questions about their letters."
    sentence = f"Knowing how words are spelled carried over to {_listed(names[True])}"
    if names[False]:
        sentence += f", not to {_listed(names[False])}"
    classes = position_classes(results)
    better = [place for place, change in classes.items() if change.direction == "better"]
    if verdicts["letter_position"] and better and len(better) < len(classes):
        rest = [place for place in classes if place not in better]
        sentence += f"; in positions it is the {_listed(better)} letter that gained, not the {_listed(rest)} one"
    return sentence + "."


def _written_sentence(results: EvaluationResults) -> str:
    """Says so where the tuned model no longer writes answers that can be read."""
    lost = []
    for question_type in QUESTION_TYPES:
        change = _written_change(results, question_type, "format_failures", "direct")
        if change and change.direction == "worse":
            lost.append(
                f"{change.after} of its answers about {HEADLINES[f'{question_type}_accuracy']} ({change.before})"
            )
    if not lost:
        return ""
    return (
        "Left to write an answer instead of choosing among the valid ones, the tuned model writes what cannot be read "
        f"as one: {_listed(lost)}; in brackets, before."
    )


def _paired_changes(results: EvaluationResults) -> Iterator[Change]:
    tuned = results.finetuned_model
    for metric, words in PLAIN_NUMBERS.items():
        if tuned and metric in tuned.metrics and metric in results.base_model.metrics:
            shown = share_text if metric == "character_level_accuracy" else number_text
            before, after = (shown(model.metrics[metric]) for model in (results.base_model, tuned))
            yield Change(words, before, after, change_of(results, metric))
    for mode in ANSWER_MODES[1:]:
        models = results.answer_modes.get(mode, {})
        for question_type in QUESTION_TYPES:
            metric = f"{question_type}_accuracy"
            if all(metric in models[role].metrics for role in ("base", "finetuned") if role in models) and models:
                before, after = (share_text(models[role].metrics[metric]) for role in ("base", "finetuned"))
                words = f"{HEADLINES[metric]} in mode {mode}"
                yield Change(words, before, after, change_of(results, f"{metric}_{mode}"))


def _interval_changes(results: EvaluationResults) -> Iterator[Change]:
    yield from position_classes(results).values()
    for mode in ANSWER_MODES[:2]:
        for question_type in QUESTION_TYPES:
            for reading in ("accuracy", "format_failures"):
                if change := _written_change(results, question_type, reading, mode):
                    yield change


def _written_change(
    results: EvaluationResults, question_type: QuestionType, reading: str, mode: AnswerMode
) -> Change | None:
    """How answers that the model writes itself changed: how many are right, or how many cannot be read."""
    models = results.answer_modes.get(mode, {})
    meaning = "right" if reading == "accuracy" else "not readable"
    what = f"written answers about {HEADLINES[f'{question_type}_accuracy']}, mode {mode}: {meaning}"
    metric = f"{question_type}_{reading}_generated"
    return _by_interval(what, metric, models.get("base"), models.get("finetuned"))


def _by_interval(
    what: str, metric: str, base: ModelResults | ModeResults | None, tuned: ModelResults | ModeResults | None
) -> Change | None:
    if base is None or tuned is None or not (metric in base.metrics and metric in tuned.metrics):
        return None
    one, other = base.intervals.get(metric), tuned.intervals.get(metric)
    direction = _apart(metric, one, other) if one and other else "same"
    return Change(what, share_text(base.metrics[metric]), share_text(tuned.metrics[metric]), direction)


def _apart(metric: str, before: Interval, after: Interval) -> Direction:
    if before[0] <= after[1] and after[0] <= before[1]:
        return "same"
    rose = after[0] > before[1]
    return "better" if rose is not metric.startswith(LOWER_IS_BETTER) else "worse"


def _direction(difference: Difference) -> Direction:
    if not is_significant(difference):
        return "same"
    rose = difference.difference > 0
    return "better" if rose is not difference.metric.startswith(LOWER_IS_BETTER) else "worse"


def _listed(parts: list[str]) -> str:
    """'a', 'a and b', 'a; b; and c' where the parts hold commas or brackets."""
    separator = "; " if any("," in part or "(" in part for part in parts) else ", "
    if len(parts) < 3:
        return (" and " if separator == ", " else "; and ").join(parts)
    return f"{separator.join(parts[:-1])}{separator}and {parts[-1]}"
