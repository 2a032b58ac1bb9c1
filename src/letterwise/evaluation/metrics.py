"""From prediction tables to `EvaluationResults`: metrics with their intervals, breakdowns and paired differences.

Knows nothing about how a model was run, and reads and writes no file. A table may have no rows, but has its columns;
what was not measured is absent from the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd
from rapidfuzz.distance import Levenshtein

from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.evaluation.baselines import compute_baselines
from letterwise.evaluation.statistics import (
    Bootstrap,
    mcnemar_p_value,
    mean_interval,
    mean_of_means_interval,
    ratio_of_proportions,
    wilson_interval,
)
from letterwise.evaluation.tables import count_errors, held_out, in_mode, of_model, of_type, pair_items, training_tokens
from letterwise.results import (
    OTHER_CONTROLS,
    POSITION_CLASSES,
    QUESTION_TYPES,
    Difference,
    Estimate,
    EvaluationResults,
    Interval,
    ModelResults,
    ModelRole,
    ModeResults,
)

Results = ModelResults | ModeResults

COMPARISONS: tuple[tuple[ModelRole, ModelRole], ...] = (
    ("base", "finetuned"),
    ("base", "control"),
    ("control", "finetuned"),
    *(pair for role in OTHER_CONTROLS for pair in (("base", role), (role, "finetuned"))),
)


def character_level_accuracy(predicted: str, truth: str) -> float:
    """Positions where the predicted and the true letter agree ÷ the longer length; 1 for two empty strings."""
    longer = max(len(predicted), len(truth))
    return sum(a == b for a, b in zip(predicted, truth, strict=False)) / longer if longer else 1.0


def levenshtein_distance(predicted: str, truth: str) -> float:
    """Levenshtein distance ÷ the longer length (rapidfuzz): 0 for equal strings, 1 where nothing agrees."""
    return float(Levenshtein.normalized_distance(predicted, truth))


def summarise(
    spelling: pd.DataFrame,
    position_count: pd.DataFrame,
    identities: Mapping[ModelRole, tuple[str, str]],
    reference_words: Sequence[str],
    split: Literal["validation", "test"],
    seed: int,
    bootstrap_samples: int,
) -> EvaluationResults:
    """Everything that ``evaluation_results.json`` holds, from the predictions of all models.

    Args:
        spelling: `SPELLING_PREDICTION_COLUMNS`; may have no rows.
        position_count: `POSITION_COUNT_PREDICTION_COLUMNS`; may have no rows.
        identities: Id and revision of each evaluated model; 'base' must be among them.
        reference_words: Lower-case training words, from which the letter-frequency baselines learn.
        split: Which held-out words the tables are about.
        seed: Seed of every bootstrap.
        bootstrap_samples: Resamples of every bootstrap.

    Returns:
        The headline metrics read mode `direct` by scoring. `letter_count_balanced_accuracy` is the mean of the
        accuracies among the true answers 0, 1, 2 and 3+ that were asked. `letter_count_mae` leaves out predictions that
        are not a number. Each breakdown has a second one, '<breakdown>_n', with the sizes of its groups.

    Raises:
        LetterwiseError: two models were not asked the same items.
    """
    bootstrap = Bootstrap(bootstrap_samples, seed)
    direct = in_mode(position_count, "direct")
    models = {
        role: _summarise_model(*identity, of_model(spelling, role), of_model(direct, role), bootstrap)
        for role, identity in identities.items()
    }
    return EvaluationResults(
        split=split,
        base_model=models["base"],
        finetuned_model=models.get("finetuned"),
        control_model=models.get("control"),
        other_controls={role: models[role] for role in OTHER_CONTROLS if role in models},
        baselines=compute_baselines(position_count.drop_duplicates("id"), reference_words),
        significance={
            f"{first}_to_{second}": _differences(spelling, position_count, first, second, bootstrap)
            for first, second in COMPARISONS
            if first in models and second in models
        },
        answer_modes={
            mode: {
                role: _summarise_mode(rows, mode, bootstrap)
                for role in models
                if not (rows := of_model(in_mode(position_count, mode), role)).empty
            }
            for mode in ANSWER_MODES
            if mode in set(position_count["mode"])
        },
    )


def generalization(spelling: pd.DataFrame, bootstrap: Bootstrap) -> Estimate:
    """Spelling accuracy on held-out words ÷ that on training tokens, from the rows of one model."""
    return ratio_of_proportions(
        held_out(spelling)["correct"],
        training_tokens(spelling)["correct"],
        bootstrap,
        denominator_name="Spelling accuracy on training tokens",
    )


def paired_difference(
    table: pd.DataFrame, column: str, metric: str, first: ModelRole, second: ModelRole, bootstrap: Bootstrap
) -> Difference | None:
    """Compare two models on the same items, without those where a value is missing.

    Returns:
        With a McNemar p-value for column 'correct'; None if fewer than two items are left.

    Raises:
        LetterwiseError: the two were not asked the same items.
    """
    pairs = pair_items(table, column, first, second)
    if pairs is None:
        return None
    pairs = pairs.dropna()
    differences = pairs["second"].astype(float) - pairs["first"].astype(float)
    interval = mean_interval(differences, bootstrap)
    if interval is None:
        return None
    return Difference(
        metric=metric,
        first=first,
        second=second,
        difference=float(differences.mean()),
        interval=interval,
        p_value=mcnemar_p_value(pairs["first"], pairs["second"]) if column == "correct" else None,
        n=len(differences),
    )


def _summarise_model(
    model_id: str, revision: str, spelling: pd.DataFrame, questions: pd.DataFrame, bootstrap: Bootstrap
) -> ModelResults:
    """The headline results of one model, from its rows in both tables."""
    results = ModelResults(id=model_id, revision=revision, metrics={})
    words = held_out(spelling)
    _add_proportion(results, "spelling_accuracy", words["correct"])
    _add_proportion(results, "spelling_accuracy_training_tokens", training_tokens(spelling)["correct"])
    for metric in ("character_level_accuracy", "levenshtein_distance"):
        _add_mean(results, metric, words[metric], bootstrap)
    ratio = generalization(spelling, bootstrap)
    if ratio.value is not None:
        _add(results, "generalization", ratio.value, ratio.interval, len(words))
    _add_question_metrics(results, questions, bootstrap)

    counts, positions = of_type(questions, "letter_count"), of_type(questions, "letter_position")
    _add_breakdowns(results, "spelling_accuracy", words)
    _add_breakdowns(results, "letter_count_accuracy", counts, answer=_answer_class(counts))
    _add_breakdowns(results, "letter_position_accuracy", positions, position=positions["position_class"])
    results.confusion = _confusion(counts)
    return results


def _summarise_mode(questions: pd.DataFrame, mode: AnswerMode, bootstrap: Bootstrap) -> ModeResults:
    """One model's results in one answer mode, by scoring and, where the model writes an answer, by generation."""
    results = ModeResults(metrics={})
    _add_question_metrics(results, questions, bootstrap)
    if mode != "computed":
        generated = questions.assign(correct=questions["generated_correct"], predicted=questions["generated_answer"])
        _add_question_metrics(results, generated, bootstrap, suffix="_generated")
        for question_type in QUESTION_TYPES:
            unreadable = of_type(generated, question_type)["predicted"].isna()
            _add_proportion(results, f"{question_type}_format_failures_generated", unreadable)
    return results


def _add_question_metrics(results: Results, questions: pd.DataFrame, bootstrap: Bootstrap, suffix: str = "") -> None:
    counts, positions = of_type(questions, "letter_count"), of_type(questions, "letter_position")
    _add_proportion(results, f"letter_count_accuracy{suffix}", counts["correct"])
    classes = [group.astype(float) for _, group in counts["correct"].groupby(_answer_class(counts))]
    if classes:
        name = f"letter_count_balanced_accuracy{suffix}"
        value = sum(group.mean() for group in classes) / len(classes)
        _add(results, name, value, mean_of_means_interval(classes, bootstrap), len(counts))
    _add_mean(results, f"letter_count_mae{suffix}", count_errors(counts), bootstrap)
    _add_proportion(results, f"letter_position_accuracy{suffix}", positions["correct"])
    for name in POSITION_CLASSES:
        in_class = positions.loc[positions["position_class"] == name, "correct"]
        _add_proportion(results, f"letter_position_accuracy_{name}{suffix}", in_class)


def _differences(
    spelling: pd.DataFrame, position_count: pd.DataFrame, first: ModelRole, second: ModelRole, bootstrap: Bootstrap
) -> list[Difference]:
    words = held_out(spelling)
    direct_counts = of_type(in_mode(position_count, "direct"), "letter_count")
    compared = [
        ("spelling_accuracy", words, "correct"),
        ("character_level_accuracy", words, "character_level_accuracy"),
        ("levenshtein_distance", words, "levenshtein_distance"),
        ("letter_count_mae", direct_counts.assign(error=count_errors(direct_counts)), "error"),
    ]
    for mode in ANSWER_MODES:
        suffix = "" if mode == "direct" else f"_{mode}"
        compared += [
            (f"{question_type}_accuracy{suffix}", of_type(in_mode(position_count, mode), question_type), "correct")
            for question_type in QUESTION_TYPES
        ]
    differences = (
        paired_difference(table, column, metric, first, second, bootstrap) for metric, table, column in compared
    )
    return [difference for difference in differences if difference is not None]


def _add(results: Results, name: str, value: float, interval: Interval | None, n: int) -> None:
    results.metrics[name] = float(value)
    results.n[name] = n
    if interval is not None:
        results.intervals[name] = interval


def _add_proportion(results: Results, name: str, right: pd.Series[bool]) -> None:
    if n := len(right):
        successes = int(right.sum())
        _add(results, name, successes / n, wilson_interval(successes, n), n)


def _add_mean(results: Results, name: str, values: pd.Series[float], bootstrap: Bootstrap) -> None:
    values = values.dropna()
    if n := len(values):
        _add(results, name, values.mean(), mean_interval(values, bootstrap), n)


def _add_breakdowns(model: ModelResults, metric: str, rows: pd.DataFrame, **more: pd.Series[str]) -> None:
    """Accuracy, and under '<breakdown>_n' the number of items, by word length, number of tokens and `more`."""
    if rows.empty:
        return
    model.breakdowns[metric] = {}
    for name, groups in {"word_length": rows["word_length"], "n_tokens": rows["n_tokens"], **more}.items():
        grouped = rows["correct"].astype(float).groupby(groups)
        model.breakdowns[metric][name] = {str(group): float(value) for group, value in grouped.mean().items()}
        model.breakdowns[metric][f"{name}_n"] = {str(group): float(size) for group, size in grouped.size().items()}


def _confusion(counts: pd.DataFrame) -> dict[str, dict[str, int]]:
    def by_size(answer: str) -> tuple[int, str]:
        return len(answer), answer

    table = pd.crosstab(counts["answer"], counts["predicted"])
    return {
        true: {predicted: int(table.loc[true, predicted]) for predicted in sorted(table.columns, key=by_size)}
        for true in sorted(table.index, key=by_size)
    }


def _answer_class(counts: pd.DataFrame) -> pd.Series[str]:
    """The classes that count questions are balanced over: 0, 1, 2 and 3+."""
    return counts["answer"].where(counts["answer"].isin(["0", "1", "2"]), "3+")
