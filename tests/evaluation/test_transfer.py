from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from letterwise.evaluation.metrics import summarise
from letterwise.evaluation.transfer import analyse_transfer
from letterwise.results import (
    MODEL_ROLES,
    POSITION_COUNT_PREDICTION_COLUMNS,
    SPELLING_PREDICTION_COLUMNS,
    TrainingLogEntry,
    TransferResults,
    read_results,
    write_results,
)

NO_SPELLING = pd.DataFrame(columns=list(SPELLING_PREDICTION_COLUMNS))
NO_QUESTIONS = pd.DataFrame(columns=list(POSITION_COUNT_PREDICTION_COLUMNS))
KEYS = {"letter_count", "letter_position", "position_count"}


def entry(step: int, spelling: float, count: float, position: float, **changes: object) -> TrainingLogEntry:
    accuracies = {"spelling_accuracy": spelling, "letter_count_accuracy": count, "letter_position_accuracy": position}
    values = {"model": "finetuned", "seed": 0, "step": step, "tokens": 1, "seconds": 1.0, "evaluation": accuracies}
    return TrainingLogEntry.model_validate(values | changes)


# Ranks of spelling 1 2 3 4 5; of count 2 1 4 3 5 (rho 0.8, by hand in test_statistics); of position 1 2 3 4 5.
LOG = [
    entry(0, 0.0, 0.25, 0.1),
    entry(50, 0.3, 0.20, 0.2),
    entry(100, 0.5, 0.35, 0.3),
    entry(150, 0.6, 0.30, 0.4),
    entry(200, 0.7, 0.50, 0.5),
]


def analyse(
    spelling: pd.DataFrame = NO_SPELLING,
    questions: pd.DataFrame = NO_QUESTIONS,
    log: list[TrainingLogEntry] | None = None,
) -> TransferResults:
    return analyse_transfer(spelling, questions, log or [], seed=1, bootstrap_samples=500)


def tables(roles: dict[str, tuple[str, str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A spelling and a letter-count table; for each model, one '1' or '0' per word for spelled and for answered."""
    rows = [
        {"model": role, "id": f"{kind}-{i}", "word": f"word{i}", "correct": right == "1", "kind": kind}
        for role, marks in roles.items()
        for kind, digits in zip(("spelling", "count"), marks, strict=True)
        for i, right in enumerate(digits)
    ]
    table = pd.DataFrame(rows)
    spelling = table[table["kind"] == "spelling"].assign(subset="held_out")
    questions = table[table["kind"] == "count"].assign(mode="direct", question_type="letter_count")
    return spelling, questions


def test_correlation_over_checkpoints_by_hand() -> None:
    results = analyse(log=LOG)
    assert results.correlation["letter_count"].value == pytest.approx(0.8)
    assert results.correlation["letter_position"].value == pytest.approx(1.0)
    # Means of count and position: 0.175, 0.2, 0.325, 0.35, 0.5: in the order of spelling.
    assert results.correlation["position_count"].value == pytest.approx(1.0)
    assert results.correlation["letter_count"].n == 5
    assert [point["step"] for point in results.checkpoints] == [0, 50, 100, 150, 200]
    assert results.checkpoints[1] == {
        "model": "finetuned",
        "seed": 0,
        "step": 50,
        "spelling_accuracy": 0.3,
        "letter_count_accuracy": 0.20,
        "letter_position_accuracy": 0.2,
    }


def test_equal_means_of_count_and_position_are_ties() -> None:
    log = [entry(step, step / 100, *accuracies) for step, accuracies in enumerate([(0.1, 0.2), (0.3, 0.0)] * 2)]
    assert "constant" in (analyse(log=log).correlation["position_count"].reason or "")


def test_only_evaluated_checkpoints_of_the_fine_tuned_model_count() -> None:
    log = [
        *LOG,
        entry(0, 0.9, 0.1, 0.1, model="control"),
        entry(25, 0, 0, 0, evaluation=None),
        entry(50, 0.3, 0.20, 0.2),  # trained again after a resume
    ]
    assert analyse(log=log) == analyse(log=LOG)
    two_seeds = analyse(log=[*LOG, *(point.model_copy(update={"seed": 1}) for point in LOG)])
    assert two_seeds.correlation["letter_count"].n == 10


def test_checkpoints_of_further_seeds_count_but_the_untrained_model_only_once() -> None:
    of_seed_1 = analyse(log=[entry(0, 0.0, 0.25, 0.1, seed=1), entry(50, 0.4, 0.1, 0.5, seed=1)]).checkpoints
    both = analyse_transfer(NO_SPELLING, NO_QUESTIONS, LOG, 1, 500, of_seed_1)
    steps = [(point["seed"], point["step"]) for point in both.checkpoints]
    assert steps == [(0, 0), (0, 50), (0, 100), (0, 150), (0, 200), (1, 50)]
    # Ranks of spelling 1 2 4 5 6 3, of counts 3 2 5 4 6 1: differences 2 0 1 1 0 2, rho = 1 - 6 * 10 / (6 * 35).
    assert both.correlation["letter_count"].value == pytest.approx(1 - 60 / 210)


def test_item_table_and_phi_join_questions_to_words_spelled() -> None:
    # Six words: both right 2, spelled only 1, answered only 1, both wrong 2: phi = (2·2 - 1·1) / √(3·3·3·3) = 1/3.
    spelling, questions = tables({"base": ("000000", "000000"), "finetuned": ("111000", "110100")})
    unasked = [spelling.iloc[:1].assign(word="other", id="other", model=role) for role in ("base", "finetuned")]
    results = analyse(pd.concat([spelling, *unasked]), questions)
    assert results.item_table["letter_count"] == [[2, 1], [1, 2]]
    assert results.item_phi["letter_count"].value == pytest.approx(1 / 3)
    assert results.item_phi["letter_count"].n == 6
    assert results.item_table["position_count"] == [[2, 1], [1, 2]]
    assert "letter_position" not in results.item_table
    assert results.item_phi["letter_position"].value is None


def test_transfer_efficiency_by_hand() -> None:
    # Spelling 0/20 → 16/20: gain 0.8 of a headroom of 1. Counts 4/20 → 8/20: 0.2 of 0.8. 0.25 / 0.8 = 0.3125.
    spelling, questions = tables(
        {
            "base": ("0" * 20, "1" * 4 + "0" * 16),
            "finetuned": ("1" * 16 + "0" * 4, "1" * 8 + "0" * 12),
        }
    )
    estimate = analyse(spelling, questions).transfer_efficiency["letter_count"]
    assert estimate.value == pytest.approx(0.3125)
    assert estimate.interval is not None
    assert estimate.interval[0] < 0.3125 < estimate.interval[1]
    assert estimate.n == 20


def test_transfer_efficiency_is_null_when_spelling_did_not_improve() -> None:
    spelling, questions = tables(
        {"base": ("1" * 5 + "0" * 15, "0" * 20), "finetuned": ("1" * 6 + "0" * 14, "1" * 12 + "0" * 8)}
    )
    estimate = analyse(spelling, questions).transfer_efficiency["letter_count"]
    assert estimate.value is None
    assert "gain in spelling accuracy" in (estimate.reason or "")


def test_control_adjusted_gain_is_the_paired_difference_to_the_control() -> None:
    spelling, questions = tables(
        {
            "base": ("0" * 10, "0" * 10),
            "finetuned": ("1" * 8 + "0" * 2, "1" * 6 + "0" * 4),
            "control": ("1" * 1 + "0" * 9, "1" * 4 + "0" * 6),
        }
    )
    gain = analyse(spelling, questions).control_adjusted_gain
    assert gain["spelling"].value == pytest.approx(0.7)
    assert gain["letter_count"].value == pytest.approx(0.2)
    assert gain["letter_count"].interval is not None
    assert gain["letter_position"].value is None
    without_control = analyse(spelling[spelling["model"] != "control"], questions[questions["model"] != "control"])
    assert without_control.control_adjusted_gain["spelling"].value is None
    assert "control" in (without_control.control_adjusted_gain["spelling"].reason or "")


def test_the_share_of_the_ceilings_gain_by_hand() -> None:
    # Over the base's 4 of 20, spelling gains 4 and the ceiling 10.
    spelling, questions = tables(
        {
            "base": ("0" * 20, "1" * 4 + "0" * 16),
            "finetuned": ("1" * 20, "1" * 8 + "0" * 12),
            "ceiling": ("0" * 20, "0" * 4 + "1" * 14 + "0" * 2),
        }
    )
    share = analyse(spelling, questions).share_of_ceiling
    assert share["letter_count"].value == share["position_count"].value == pytest.approx(0.4)
    assert share["letter_count"].interval is not None
    assert share["letter_count"].interval[0] < 0.4 < share["letter_count"].interval[1]
    assert share["letter_count"].n == 20
    assert "letter_position" not in share
    assert analyse(spelling, questions[questions["model"] != "ceiling"]).share_of_ceiling == {}


def test_the_share_keeps_questions_about_a_word_together() -> None:
    spelling, questions = tables(
        {"base": ("0" * 12, "0" * 12), "finetuned": ("0" * 12, "110000" * 2), "ceiling": ("0" * 12, "111100" * 2)}
    )
    apart = analyse(spelling, questions).share_of_ceiling["letter_count"]
    together = analyse(spelling, questions.assign(word=questions["word"].str[-1:])).share_of_ceiling["letter_count"]
    assert (apart.value, apart.n) == (pytest.approx(0.5), 12)
    assert (together.value, together.n) == (pytest.approx(0.5), questions["word"].str[-1:].nunique())


def test_the_share_is_null_where_the_ceiling_did_not_rise_and_negative_where_tuning_harms() -> None:
    level = {"base": ("0" * 20, "1" * 6 + "0" * 14), "finetuned": ("1" * 20, "1" * 9 + "0" * 11)}
    spelling, questions = tables({**level, "ceiling": ("0" * 20, "1" * 7 + "0" * 13)})
    share = analyse(spelling, questions).share_of_ceiling["letter_count"]
    assert (share.value, share.interval) == (None, None)
    assert share.reason == "The ceiling adapter's gain is not significantly above zero."
    worse = {**level, "finetuned": ("1" * 20, "0" * 20)}
    spelling, questions = tables({**worse, "ceiling": ("0" * 20, "1" * 18 + "0" * 2)})
    assert analyse(spelling, questions).share_of_ceiling["letter_count"].value == pytest.approx(-0.5)


def test_generalization_is_null_when_training_tokens_are_not_spelled() -> None:
    spelling, questions = tables({"base": ("0" * 10, "0" * 10), "finetuned": ("1" * 8 + "0" * 2, "0" * 10)})
    tokens = spelling.assign(subset="training_tokens", id="token-" + spelling["id"])
    assert analyse(pd.concat([spelling, tokens]), questions).generalization.value == pytest.approx(1.0)
    unspelled = analyse(pd.concat([spelling, tokens.assign(correct=False)]), questions).generalization
    assert unspelled.value is None
    assert unspelled.reason == "Spelling accuracy on training tokens is not significantly above zero."


def test_nothing_measured_is_null_with_reasons() -> None:
    results = analyse()
    estimates = [
        results.generalization,
        *(
            estimate
            for group in (
                results.correlation,
                results.item_phi,
                results.transfer_efficiency,
                results.control_adjusted_gain,
            )
            for estimate in group.values()
        ),
    ]
    assert len(estimates) == 1 + 3 * 3 + 3
    assert all(estimate.value is None and estimate.reason for estimate in estimates)
    assert results.item_table == {}
    assert results.checkpoints == []


def test_a_full_analysis_finds_the_built_in_transfer_and_survives_the_round_trip(make_tables, tmp_path: Path) -> None:
    spelling, questions = make_tables()
    results = analyse(spelling, questions, LOG)
    write_results(tmp_path / "transfer.json", results)
    assert read_results(tmp_path / "transfer.json", TransferResults) == results

    for group in (results.item_phi, results.transfer_efficiency):
        assert group.keys() == KEYS
        for estimate in group.values():
            assert estimate.value is not None
            assert estimate.interval is not None
            assert 0 < estimate.interval[0] < estimate.value < estimate.interval[1]
    assert np.sum(results.item_table["position_count"]) == 400
    assert np.array_equal(
        np.add(results.item_table["letter_count"], results.item_table["letter_position"]),
        results.item_table["position_count"],
    )
    assert results.control_adjusted_gain.keys() == {"spelling", "letter_count", "letter_position"}


def test_both_result_files_agree_on_what_both_hold(make_tables) -> None:
    spelling, questions = make_tables(words=60)
    transfer = analyse(spelling, questions, LOG)
    identities = {role: (role, "abc") for role in MODEL_ROLES}
    evaluation = summarise(spelling, questions, identities, ["the", "and"], "test", seed=1, bootstrap_samples=500)
    assert evaluation.finetuned_model is not None
    assert transfer.generalization.interval == evaluation.finetuned_model.intervals["generalization"]
    differences = {entry.metric: entry for entry in evaluation.significance["control_to_finetuned"]}
    for key, gain in transfer.control_adjusted_gain.items():
        assert gain.value == differences[f"{key}_accuracy"].difference
        assert gain.interval == differences[f"{key}_accuracy"].interval
