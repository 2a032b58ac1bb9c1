"""Limitations seen and recommendations: rules on a run's figures, each of which speaks only where its figures do.

Knows what a figure means for the next experiment or for a service; writes nothing that a figure does not support.
"""

from __future__ import annotations

from collections.abc import Iterator

from statsmodels.stats.proportion import proportion_confint

from letterwise.reporting.report_errors import FIRST_LETTER
from letterwise.reporting.report_findings import (
    HEADLINES,
    capital,
    carried_over,
    change_of,
    headline_changes,
    position_classes,
)
from letterwise.reporting.report_model import ErrorAnalysis, Recommendation
from letterwise.reporting.report_record import RunRecord
from letterwise.reporting.summary import (
    best_baseline,
    difference_text,
    find_difference,
    number_text,
    share_text,
    standing,
)
from letterwise.results import QUESTION_TYPES, EvaluationResults, QuestionType

MUCH = 0.1
"""From here on a share of unreadable answers or a calibration error is worth a word."""
WIDE = 0.05
"""Half the width of an interval that is too wide to tell models of this size apart."""
FEW = 30
"""Groups with fewer items are not compared."""
ONE_SIDED = 0.4
"""A single answer to this share of balanced questions is a habit, not an answer."""


def limitations(record: RunRecord, errors: ErrorAnalysis) -> list[str]:
    """What the figures of this run do not allow to say, and where they are weak."""
    results = record.results
    return [
        *_of_design(record),
        *(text for question_type in QUESTION_TYPES for text in _of_questions(results, errors, question_type)),
        *_of_word_length(results),
        *_of_written_answers(results),
        *_of_confidence(results),
        *_of_correlation(record),
    ]


def recommendations(record: RunRecord) -> list[Recommendation]:
    """What to do next, most urgent first."""
    return [
        Recommendation(advice=advice, because=because)
        for advice, because in (*_for_use(record.results), *_for_experiments(record))
    ]


def _of_design(record: RunRecord) -> Iterator[str]:
    results = record.results
    seeds = ", ".join(map(str, record.seeds))
    number = len(record.seeds)
    trainings = f"One training (seed {seeds})" if number == 1 else f"{number} trainings (seeds {seeds})"
    yield (
        f"{trainings} of one base model ({results.base_model.id}). The intervals cover the choice of words and "
        "questions, not of seeds."
    )
    tests = sum(entry.p_value is not None for entries in results.significance.values() for entry in entries)
    if tests > 1:
        yield (
            f"{tests} p-values were computed and not corrected for their number: where nothing changed at all, one in "
            "twenty still falls below 0.05."
        )
    if results.split == "validation":
        yield "The figures are of the validation split, on which choices were made, and are therefore too good."
    if results.control_model is None:
        yield "No control was evaluated: a gain may be due to the form of the training texts alone."
    if record.audit.length_sentences:
        yield (
            "Training texts mentioned how many letters words have (`data.length_sentences`): training was not on "
            "spelling alone."
        )
    wide = [
        f"`{metric}` ({share_text(model.metrics[metric], interval)}, n = {model.n.get(metric, 0):,})"
        for model in [results.finetuned_model]
        if model
        for metric in HEADLINES
        if metric in model.metrics
        and (interval := model.intervals.get(metric))
        and interval[1] - interval[0] > 2 * WIDE
    ]
    if wide:
        yield f"Too few items to see small effects: {', '.join(wide)}."


def _of_questions(results: EvaluationResults, errors: ErrorAnalysis, question_type: QuestionType) -> Iterator[str]:
    metric = f"{question_type}_accuracy"
    tuned = results.finetuned_model
    if tuned is None or metric not in tuned.metrics:
        return
    best = best_baseline(results, metric)
    value, interval = tuned.metrics[metric], tuned.intervals.get(metric)
    if best and (where := standing(value, interval, best[1].value)) != "above":
        yield (
            f"In {HEADLINES[metric]} the tuned model is {where} the {best[0]} baseline, which never sees the word's "
            f"letters: {share_text(value, interval)} against {share_text(best[1].value)}."
        )
    for found in errors.questions:
        if found.question_type != question_type:
            continue
        if found.favourite_answers > ONE_SIDED * found.n:
            yield (
                f"The tuned model answers `{found.favourite_answer}` to {found.favourite_answers:,} of {found.n:,} "
                f"questions about {HEADLINES[metric]}: mostly a habit, whatever the word."
            )
        first, before = (found.kinds.get(role, {}).get(FIRST_LETTER, 0) / found.n for role in ("finetuned", "base"))
        if first > ONE_SIDED:
            yield (
                f"Asked for another letter, the tuned model names the word's first one in {share_text(first)} of the "
                f"{found.n:,} questions about {HEADLINES[metric]} ({share_text(before)} before): it does not index."
            )
    gain = find_difference(results, "base_to_control", metric)
    if gain and change_of(results, metric, "base_to_control") == "better":
        yield (
            f"The control improved in {HEADLINES[metric]} too ({difference_text(gain)} points): that part of a gain is "
            "due to the form of the texts."
        )
    if question_type == "letter_position":
        lost = [change for change in position_classes(results).values() if change.direction == "worse"]
        if lost:
            yield f"Positions are not understood as such. Worse than before: {'; '.join(map(str, lost))}."


def _of_word_length(results: EvaluationResults) -> Iterator[str]:
    tuned = results.finetuned_model
    groups = tuned.breakdowns.get("spelling_accuracy", {}) if tuned else {}
    shares, sizes = groups.get("word_length", {}), groups.get("word_length_n", {})
    lengths = [length for length in sorted(shares, key=int) if sizes.get(length, 0) >= FEW]
    if len(lengths) < 2:
        return
    short, long = (
        (
            length,
            shares[length],
            tuple(proportion_confint(shares[length] * sizes[length], sizes[length], method="wilson")),
        )
        for length in (lengths[0], lengths[-1])
    )
    if long[2][1] < short[2][0]:
        yield (
            f"Spelling gets worse with length: words of {short[0]} letters {share_text(short[1], short[2])} right, of "
            f"{long[0]} letters {share_text(long[1], long[2])}."
        )


def _of_written_answers(results: EvaluationResults) -> Iterator[str]:
    tuned = results.answer_modes["direct"].get("finetuned")
    for question_type in QUESTION_TYPES:
        failures = tuned.metrics.get(f"{question_type}_format_failures_generated", 0.0) if tuned else 0.0
        if failures > MUCH:
            yield (
                f"The figures of {HEADLINES[f'{question_type}_accuracy']} hold for choosing among valid answers only: "
                f"of those that the tuned model writes itself, {share_text(failures)} cannot be read."
            )


def _of_confidence(results: EvaluationResults) -> Iterator[str]:
    bad = [
        f"`{name}` {number_text(error.uncalibrated)} ({number_text(error.calibrated)} calibrated)"
        for name, error in results.calibration.items()
        if error.uncalibrated > MUCH
    ]
    if bad:
        yield (
            "The model's own confidence is misleading without calibration; expected calibration error: "
            f"{', '.join(bad)}."
        )


def _of_correlation(record: RunRecord) -> Iterator[str]:
    known = [estimate for estimate in record.transfer.correlation.values() if estimate.value is not None]
    if known:
        of = "one training" if len(record.seeds) == 1 else f"{len(record.seeds)} trainings"
        yield (
            f"`correlation` is computed over {known[0].n} checkpoints of {of}, which are not independent, each "
            f"evaluated on {record.config.training.evaluation_words} words: its interval is too narrow."
        )
    missing = {estimate.reason for estimate in record.transfer.correlation.values() if estimate.reason}
    for reason in sorted(missing):
        yield f"There is no `correlation`: {reason}"


def _for_use(results: EvaluationResults) -> Iterator[tuple[str, str]]:
    for change in headline_changes(results):
        if change.direction == "worse":
            yield f"Do not use the adapter for {change.what}; ask the base model.", f"{change} got significantly worse."
    computed = results.answer_modes.get("computed", {}).get("finetuned")
    direct = results.answer_modes["direct"].get("finetuned")
    for question_type in QUESTION_TYPES:
        metric = f"{question_type}_accuracy"
        if not (computed and direct and metric in computed.metrics and metric in direct.metrics):
            continue
        by_mode = [share_text(mode.metrics[metric], mode.intervals.get(metric)) for mode in (computed, direct)]
        if computed.intervals[metric][0] > direct.intervals[metric][1]:
            yield (
                f"Where right answers matter, let a program work on the model's spelling for {HEADLINES[metric]} (mode "
                "computed).",
                f"Mode computed answers {by_mode[0]} correctly, mode direct {by_mode[1]}.",
            )
    unreadable = {
        HEADLINES[f"{question_type}_accuracy"]: failures
        for question_type in QUESTION_TYPES
        if direct and (failures := direct.metrics.get(f"{question_type}_format_failures_generated", 0.0)) > MUCH
    }
    if unreadable:
        shares = ", ".join(f"{share_text(share)} of answers about {what}" for what, share in unreadable.items())
        yield (
            "Read direct answers by scoring the valid ones, not from text that the model writes.",
            f"Not readable: {shares}.",
        )
    if any(error.uncalibrated - error.calibrated > MUCH for error in results.calibration.values()):
        name = max(results.calibration, key=lambda key: results.calibration[key].uncalibrated)
        error = results.calibration[name]
        yield (
            "Show calibrated confidence only.",
            f"Calibration brought the error of `{name}` from {number_text(error.uncalibrated)} to "
            f"{number_text(error.calibrated)}.",
        )


def _for_experiments(record: RunRecord) -> Iterator[tuple[str, str]]:
    results = record.results
    training = record.training("finetuned")
    best = training.best if training else None
    if training and best and best.evaluation and len(training.evaluations) > 1:
        spelled = share_text(best.evaluation["spelling_accuracy"])
        if best.step == training.evaluations[-1].step:
            before = (training.evaluations[-2].evaluation or {}).get("spelling_accuracy", 0.0)
            yield (
                "Train longer: more steps may still help.",
                f"Spelling on validation words was best at the last evaluation, step {best.step} ({spelled}; "
                f"{share_text(before)} at the one before).",
            )
        else:
            yield (
                "Do not train longer with these settings.",
                f"Spelling on validation words was best at step {best.step} of {training.steps} ({spelled}), and the "
                "adapter was kept as it was there.",
            )
    spelling_rose = change_of(results, "spelling_accuracy") == "better"
    if not spelling_rose:
        yield (
            "Settle spelling first; nothing can carry over before.",
            "Spelling accuracy on held-out words did not improve significantly.",
        )
    verdicts = {kind: carried_over(results, kind) for kind in QUESTION_TYPES}
    missing = [HEADLINES[f"{kind}_accuracy"] for kind, verdict in verdicts.items() if verdict is False]
    if spelling_rose and missing:
        yield (
            f"To learn whether {' and '.join(missing)} need a larger model, repeat the run on one (`--base-model`).",
            f"Spelling improved here and did not carry over to {' and '.join(missing)}.",
        )
    classes = position_classes(results)
    if verdicts["letter_position"] and any(change.direction != "better" for change in classes.values()):
        yield (
            "Report letter positions by first, inner and last letter, never as one figure.",
            capital("; ".join(map(str, classes.values()))) + ".",
        )
    if results.control_model is None:
        yield (
            "Train the control (`letterwise train --control shuffled`).",
            "Without it no gain can be put down to spelling.",
        )
    yield (
        "Repeat with two more seeds before relying on a difference (`--seed`, `--run-name`).",
        f"Every figure here is of seed {record.config.seed} alone.",
    )
