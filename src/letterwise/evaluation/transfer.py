"""Does spelling carry over to counts and positions? From predictions and the training log to `TransferResults`.

Knows nothing about how a model was trained or run, and reads and writes no file. A table may have no rows, but has its
columns; an estimate that cannot be made is null with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from letterwise.evaluation.metrics import generalization, paired_difference
from letterwise.evaluation.statistics import Bootstrap, phi_coefficient, ratio_of_gains, share_of_gain, spearman
from letterwise.evaluation.tables import held_out, in_mode, of_model, of_type, pair_items
from letterwise.results import QUESTION_TYPES, Estimate, TrainingLogEntry, TransferResults

_POOLED = "position_count"


def analyse_transfer(
    spelling: pd.DataFrame,
    position_count: pd.DataFrame,
    training_log: Sequence[TrainingLogEntry],
    seed: int,
    bootstrap_samples: int,
    further_checkpoints: Sequence[dict[str, Any]] = (),
) -> TransferResults:
    """Everything that ``transfer.json`` holds.

    Args:
        spelling: `SPELLING_PREDICTION_COLUMNS`, of all models; may have no rows.
        position_count: `POSITION_COUNT_PREDICTION_COLUMNS`, of all models; may have no rows. Mode `direct` is used.
        training_log: The training log, of all models.
        seed: Seed of every bootstrap.
        bootstrap_samples: Resamples of every bootstrap.
        further_checkpoints: Those of further seeds of the training, for `correlation`.

    Returns:
        Every estimate is there, null where it cannot be made; a table without items is absent. The pooled
        `position_count` takes the mean of the two accuracies in `correlation`, and all questions together elsewhere. n
        counts checkpoints in `correlation`, words in `transfer_efficiency`, `share_of_ceiling` and `generalization`,
        and items elsewhere.

    Raises:
        LetterwiseError: two models were not asked the same items.
    """
    bootstrap = Bootstrap(bootstrap_samples, seed)
    words = held_out(spelling)
    direct = in_mode(position_count, "direct")
    by_type: dict[str, pd.DataFrame] = {name: of_type(direct, name) for name in QUESTION_TYPES}
    questions = by_type | {_POOLED: direct}
    # The untrained model counts once: it is the same for all seeds.
    checkpoints = [*_checkpoints(training_log), *(point for point in further_checkpoints if point["step"])]
    item_tables = {key: _item_tables(words, asked) for key, asked in questions.items()}
    return TransferResults(
        correlation={key: _correlation(checkpoints, key) for key in questions},
        item_phi={key: _item_phi(counts, bootstrap) for key, counts in item_tables.items()},
        item_table={key: counts.sum(axis=0).tolist() for key, counts in item_tables.items() if len(counts)},
        transfer_efficiency={key: _efficiency(words, asked, bootstrap) for key, asked in questions.items()},
        control_adjusted_gain={
            key: _control_adjusted_gain(items, bootstrap) for key, items in ({"spelling": words} | by_type).items()
        },
        share_of_ceiling={
            key: _share_of_ceiling(asked, bootstrap)
            for key, asked in questions.items()
            if not of_model(asked, "ceiling").empty
        },
        generalization=generalization(of_model(spelling, "finetuned"), bootstrap),
        checkpoints=checkpoints,
    )


def _checkpoints(training_log: Sequence[TrainingLogEntry]) -> list[dict[str, Any]]:
    """The evaluated checkpoints of the fine-tuned model; of a step trained again after a resume, the last."""
    points = {
        (entry.seed, entry.step): {"model": entry.model, "seed": entry.seed, "step": entry.step, **entry.evaluation}
        for entry in training_log
        if entry.model == "finetuned" and entry.evaluation
    }
    return [points[key] for key in sorted(points)]


def _correlation(checkpoints: list[dict[str, Any]], key: str) -> Estimate:
    parts = QUESTION_TYPES if key == _POOLED else (key,)
    metrics = ["spelling_accuracy", *(f"{part}_accuracy" for part in parts)]
    points = np.array([[point[name] for name in metrics] for point in checkpoints if point.keys() >= set(metrics)])
    points = points.reshape(-1, len(metrics))
    # Ranks are at stake: 0.1 + 0.2 and 0.3 + 0 must be a tie.
    return spearman(points[:, 0], points[:, 1:].mean(axis=1).round(12))


def _item_tables(words: pd.DataFrame, questions: pd.DataFrame) -> NDArray[np.int64]:
    """The fine-tuned model's questions by 'word spelled' and 'answered right', for each word: shape (words, 2, 2)."""
    spelled, answered = (of_model(table, "finetuned")[["word", "correct"]] for table in (words, questions))
    items = answered.merge(spelled, on="word", suffixes=("_answered", "_spelled"), validate="many_to_one")
    cell = 2 * items["correct_spelled"].astype(int) + items["correct_answered"].astype(int)
    counts = pd.crosstab(items["word"], cell).reindex(columns=range(4), fill_value=0)
    return counts.to_numpy(dtype=np.int64).reshape(-1, 2, 2)


def _item_phi(tables: NDArray[np.int64], bootstrap: Bootstrap) -> Estimate:
    if not len(tables):
        reason = "The fine-tuned model answered no question about a held-out word that it was asked to spell."
        return Estimate(value=None, n=0, reason=reason)
    return phi_coefficient(tables, bootstrap)


def _efficiency(words: pd.DataFrame, questions: pd.DataFrame, bootstrap: Bootstrap) -> Estimate:
    target = pair_items(questions, "correct", "base", "finetuned")
    source = pair_items(words, "correct", "base", "finetuned")
    if target is None or source is None:
        reason = "The base and the fine-tuned model were not both evaluated on spelling and on these questions."
        return Estimate(value=None, reason=reason)
    clusters = pd.concat([_sums_by_word(target), _sums_by_word(source)], axis=1).fillna(0)
    return ratio_of_gains(clusters, bootstrap, source_name="spelling accuracy")


def _share_of_ceiling(questions: pd.DataFrame, bootstrap: Bootstrap) -> Estimate:
    tuned = pair_items(questions, "correct", "base", "finetuned")
    ceiling = pair_items(questions, "correct", "base", "ceiling")
    if tuned is None or ceiling is None:
        return Estimate(
            value=None, reason="The base and the fine-tuned model were not both evaluated on these questions."
        )
    gains = pd.DataFrame(
        {
            "word": tuned["word"],
            "tuned": tuned["second"].astype(int) - tuned["first"].astype(int),
            "ceiling": ceiling["second"].astype(int) - ceiling["first"].astype(int),
        }
    )
    return share_of_gain(gains.groupby("word")[["tuned", "ceiling"]].sum(), bootstrap, other_name="ceiling adapter's")


def _sums_by_word(pairs: pd.DataFrame) -> pd.DataFrame:
    """Each word's number of items, of those that the first model has right, and of those that the second has right."""
    return pairs.assign(n=1).astype({"first": int, "second": int}).groupby("word")[["n", "first", "second"]].sum()


def _control_adjusted_gain(items: pd.DataFrame, bootstrap: Bootstrap) -> Estimate:
    difference = paired_difference(items, "correct", "control_adjusted_gain", "control", "finetuned", bootstrap)
    if difference is None:
        reason = "The fine-tuned model and a control were not both evaluated on two or more of these items."
        return Estimate(value=None, reason=reason)
    return Estimate(value=difference.difference, interval=difference.interval, n=difference.n)
