from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterwise.config import ANSWER_MODES
from letterwise.errors import LetterwiseError
from letterwise.evaluation.metrics import character_level_accuracy, levenshtein_distance, summarise
from letterwise.results import (
    MODEL_ROLES,
    POSITION_COUNT_PREDICTION_COLUMNS,
    SPELLING_PREDICTION_COLUMNS,
    EvaluationResults,
    ModelRole,
    read_results,
    write_results,
)

IDENTITIES: dict[ModelRole, tuple[str, str]] = {role: (f"model/{role}", "abc") for role in get_args(ModelRole)}
NO_SPELLING = pd.DataFrame(columns=list(SPELLING_PREDICTION_COLUMNS))
NO_QUESTIONS = pd.DataFrame(columns=list(POSITION_COUNT_PREDICTION_COLUMNS))
REFERENCE_WORDS = ["the", "and", "ing", "tion", "there", "other"]


def summary(spelling: pd.DataFrame, position_count: pd.DataFrame, *roles: ModelRole) -> EvaluationResults:
    identities = {role: IDENTITIES[role] for role in roles or ("base",)}
    return summarise(spelling, position_count, identities, REFERENCE_WORDS, "test", seed=1, bootstrap_samples=500)


def spelled(role: str, held_out: list[str], training: list[str] | None = None) -> pd.DataFrame:
    """What a model spelled for 'ab', 'cde', 'fghi', … of 2, 3, 4, … letters."""
    truths = ["ab", "cde", "fghi", "jklmn", "opqrst"]
    subsets = [("held_out", held_out), ("training_tokens", training or [])]
    rows = [
        {
            "model": role,
            "id": f"{subset}-{truth}",
            "subset": subset,
            "word": truth,
            "word_length": len(truth),
            "n_tokens": 2,
            "correct": predicted == truth,
            "character_level_accuracy": character_level_accuracy(predicted, truth),
            "levenshtein_distance": levenshtein_distance(predicted, truth),
        }
        for subset, spellings in subsets
        for truth, predicted in zip(truths, spellings, strict=False)
    ]
    return pd.DataFrame(rows)


def counted(role: str, cases: list[tuple[str, str, str | None]], mode: str = "direct") -> pd.DataFrame:
    """Letter-count answers: truth, scored and generated."""
    rows = [
        {
            "model": role,
            "mode": mode,
            "id": f"count-{index}",
            "question_type": "letter_count",
            "word": f"word{index}",
            "letter": "e",
            "word_length": 4 + index % 2,
            "n_tokens": 2,
            "answer": answer,
            "predicted": scored,
            "correct": scored == answer,
            "generated_answer": generated,
            "generated_correct": generated == answer,
        }
        for index, (answer, scored, generated) in enumerate(cases)
    ]
    return pd.DataFrame(rows).reindex(columns=list(POSITION_COUNT_PREDICTION_COLUMNS))


words = st.text("abcdefgh", max_size=12)


def test_item_metrics_of_a_missing_letter() -> None:
    # s t r a w b e r agree, then y against r, and one letter too few: 8 of 10; one insertion in 10.
    assert character_level_accuracy("strawbery", "strawberry") == pytest.approx(0.8)
    assert levenshtein_distance("strawbery", "strawberry") == pytest.approx(0.1)
    # A letter lost at the start shifts all others, which Levenshtein forgives.
    assert character_level_accuracy("trawberry", "strawberry") == pytest.approx(0.1)  # only the first of 'rr' agrees
    assert levenshtein_distance("trawberry", "strawberry") == pytest.approx(0.1)


def test_an_empty_spelling_is_all_wrong() -> None:
    assert character_level_accuracy("", "word") == 0
    assert levenshtein_distance("", "word") == 1


@given(words, words)
def test_item_metrics_are_symmetric_shares_that_agree_on_perfection(first: str, second: str) -> None:
    for metric in (character_level_accuracy, levenshtein_distance):
        assert 0 <= metric(first, second) <= 1
        assert metric(first, second) == metric(second, first)
    assert (character_level_accuracy(first, second) == 1) == (levenshtein_distance(first, second) == 0)
    assert (first == second) == (levenshtein_distance(first, second) == 0)
    assert levenshtein_distance(first, second) <= 1 - character_level_accuracy(first, second) + 1e-12


def test_spelling_metrics_by_hand() -> None:
    table = spelled("base", ["ab", "cde", "fgh", "x"], ["ab", "cde", "fghi", "jklmn", ""])
    model = summary(table, NO_QUESTIONS).base_model
    assert model.metrics["spelling_accuracy"] == pytest.approx(2 / 4)
    assert model.metrics["spelling_accuracy_training_tokens"] == pytest.approx(4 / 5)
    assert model.metrics["character_level_accuracy"] == pytest.approx((1 + 1 + 3 / 4 + 0) / 4)
    assert model.metrics["levenshtein_distance"] == pytest.approx((0 + 0 + 1 / 4 + 1) / 4)
    assert model.metrics["generalization"] == pytest.approx((2 / 4) / (4 / 5))
    assert model.n["spelling_accuracy"] == model.n["generalization"] == 4
    assert model.n["spelling_accuracy_training_tokens"] == 5
    assert model.intervals.keys() == model.metrics.keys() == model.n.keys()
    # Wilson for 2 of 4: centre 0.5, half width 1.95996 / 7.84146 · √(2·2/4 + 0.96036).
    assert model.intervals["spelling_accuracy"] == pytest.approx((0.15004, 0.84996), abs=1e-5)
    assert model.breakdowns["spelling_accuracy"]["word_length"] == {"2": 1, "3": 1, "4": 0, "5": 0}
    assert model.breakdowns["spelling_accuracy"]["n_tokens_n"] == {"2": 4}


def test_generalization_is_left_out_when_no_training_token_is_spelled() -> None:
    model = summary(spelled("base", ["ab", "cde"], ["", "", ""]), NO_QUESTIONS).base_model
    assert model.metrics["spelling_accuracy_training_tokens"] == 0
    assert "generalization" not in model.metrics


def test_count_metrics_by_hand() -> None:
    cases = [("0", "0"), ("0", "1"), ("1", "1"), ("1", "1"), ("2", "0"), ("3", "3"), ("4", "2"), ("10", "9")]
    model = summary(NO_SPELLING, counted("base", [(true, scored, None) for true, scored in cases])).base_model
    assert model.metrics["letter_count_accuracy"] == pytest.approx(4 / 8)
    # Classes 0, 1, 2, 3+: 1/2, 2/2, 0/1, 1/3.
    assert model.metrics["letter_count_balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 0 + 1 / 3) / 4)
    assert model.metrics["letter_count_mae"] == pytest.approx((0 + 1 + 0 + 0 + 2 + 0 + 2 + 1) / 8)
    assert model.breakdowns["letter_count_accuracy"]["answer"] == {"0": 0.5, "1": 1, "2": 0, "3+": pytest.approx(1 / 3)}
    assert model.breakdowns["letter_count_accuracy"]["answer_n"] == {"0": 2, "1": 2, "2": 1, "3+": 3}
    assert list(model.confusion) == ["0", "1", "2", "3", "4", "10"]  # by size, not by first digit
    assert model.confusion["0"] == {"0": 1, "1": 1, "2": 0, "3": 0, "9": 0}
    assert sum(sum(row.values()) for row in model.confusion.values()) == 8
    # One question has the true answer 2: nothing is known about the spread in its class.
    assert "letter_count_balanced_accuracy" not in model.intervals


def test_position_metrics_by_class(make_tables) -> None:
    _, table = make_tables(words=40, roles=["base"], modes=["direct"])
    positions = table[table["question_type"] == "letter_position"]
    model = summary(NO_SPELLING, positions).base_model
    for name in ("first", "inner", "last"):
        of_class = positions[positions["position_class"] == name]
        assert model.metrics[f"letter_position_accuracy_{name}"] == pytest.approx(of_class["correct"].mean())
        assert model.n[f"letter_position_accuracy_{name}"] == len(of_class)
        position = model.breakdowns["letter_position_accuracy"]["position"]
        assert position[name] == pytest.approx(of_class["correct"].mean())


def test_both_readings_of_an_answer_are_reported_apart() -> None:
    table = counted("base", [("1", "1", "2"), ("2", "2", None), ("3", "1", "3"), ("0", "1", "many")])
    result = summary(NO_SPELLING, table).answer_modes["direct"]["base"]
    assert result.metrics["letter_count_accuracy"] == pytest.approx(2 / 4)
    assert result.metrics["letter_count_accuracy_generated"] == pytest.approx(1 / 4)
    assert result.metrics["letter_count_format_failures_generated"] == pytest.approx(1 / 4)
    # Of the generated answers only 2 (off by 1) and 3 (right) are numbers.
    assert result.metrics["letter_count_mae_generated"] == pytest.approx(1 / 2)
    assert result.n["letter_count_mae_generated"] == 2
    assert result.n["letter_count_accuracy_generated"] == 4


def test_mode_computed_has_no_generated_reading() -> None:
    results = summary(NO_SPELLING, counted("base", [("1", "1", None), ("2", "1", None)], mode="computed"))
    assert results.answer_modes.keys() == {"computed"}
    assert not [name for name in results.answer_modes["computed"]["base"].metrics if name.endswith("_generated")]
    assert "letter_count_accuracy" not in results.base_model.metrics  # the headline is mode direct


def test_paired_differences_by_hand() -> None:
    # Base right on the first 2 of 10, fine-tuned on the first 9: 7 gained, none lost; McNemar 2 · 0.5^7.
    answers = ["1"] * 10
    base = counted("base", [(a, a if i < 2 else "3", a) for i, a in enumerate(answers)])
    tuned = counted("finetuned", [(a, a if i < 9 else "2", a) for i, a in enumerate(answers)])
    shuffled = tuned.sample(frac=1, random_state=0)
    results = summary(NO_SPELLING, pd.concat([base, shuffled]), "base", "finetuned")
    assert results.significance.keys() == {"base_to_finetuned"}
    accuracy, error = (
        next(entry for entry in results.significance["base_to_finetuned"] if entry.metric == metric)
        for metric in ("letter_count_accuracy", "letter_count_mae")
    )
    assert (accuracy.first, accuracy.second, accuracy.n) == ("base", "finetuned", 10)
    assert accuracy.difference == pytest.approx(0.7)
    assert accuracy.p_value == pytest.approx(2 * 0.5**7)
    assert accuracy.interval[0] > 0
    assert error.difference == pytest.approx(1 / 10 - 16 / 10)  # base is off by 2 eight times, fine-tuned by 1 once
    assert error.p_value is None


def test_models_asked_different_items_are_not_compared() -> None:
    base = counted("base", [("1", "1", "1"), ("2", "2", "2")])
    longer = counted("finetuned", [("1", "1", "1"), ("2", "2", "2"), ("3", "3", "3")])
    with pytest.raises(LetterwiseError, match="base and finetuned are not about the same items"):
        summary(NO_SPELLING, pd.concat([base, longer]), "base", "finetuned")
    with pytest.raises(LetterwiseError, match="evaluate both models again"):
        summary(NO_SPELLING, pd.concat([base, longer.iloc[[0, 1, 1]]]), "base", "finetuned")


def test_a_full_evaluation_survives_the_round_trip(make_tables, tmp_path: Path) -> None:
    results = summary(*make_tables(), *MODEL_ROLES)
    write_results(tmp_path / "evaluation_results.json", results)
    assert read_results(tmp_path / "evaluation_results.json", EvaluationResults) == results

    assert results.finetuned_model is not None
    assert results.finetuned_model.id == "model/finetuned"
    for model in (results.base_model, results.finetuned_model, results.control_model):
        assert model is not None
        assert model.intervals.keys() == model.metrics.keys() == model.n.keys()
        for name, (low, high) in model.intervals.items():
            assert low <= model.metrics[name] <= high
    assert results.baselines.keys() == {
        f"letter_{kind}_{guesser}"
        for kind in ("count", "position")
        for guesser in ("majority_class", "letter_frequency")
    }
    assert results.significance.keys() == {"base_to_finetuned", "base_to_control", "control_to_finetuned"}
    assert {entry.metric for entry in results.significance["control_to_finetuned"]} == {
        "spelling_accuracy",
        "character_level_accuracy",
        "levenshtein_distance",
        "letter_count_mae",
        *(
            f"letter_{kind}_accuracy{mode}"
            for kind in ("count", "position")
            for mode in ("", "_spell_first", "_computed")
        ),
    }
    assert results.answer_modes.keys() == set(ANSWER_MODES)
    assert all(modes.keys() == set(MODEL_ROLES) for modes in results.answer_modes.values())
    direct = results.answer_modes["direct"]["finetuned"].metrics
    assert direct["letter_count_accuracy"] == results.finetuned_model.metrics["letter_count_accuracy"]


def test_other_controls_stand_apart_and_change_nothing_else(make_tables, tmp_path: Path) -> None:
    roles: tuple[ModelRole, ...] = (*MODEL_ROLES, "format_only", "ceiling")
    results = summary(*make_tables(words=60, roles=roles), *roles)
    write_results(tmp_path / "evaluation_results.json", results)
    assert read_results(tmp_path / "evaluation_results.json", EvaluationResults) == results
    assert results.other_controls.keys() == {"format_only", "ceiling"}
    assert results.model("ceiling") == results.other_controls["ceiling"] != results.control_model
    assert results.model("random_label") is None
    for role in ("format_only", "ceiling"):
        assert {f"base_to_{role}", f"{role}_to_finetuned"} <= results.significance.keys()
    assert results.answer_modes["direct"].keys() == set(roles)

    without = summary(*make_tables(words=60), *MODEL_ROLES)
    assert without.other_controls == {}
    assert set(without.significance) < set(results.significance)
    for role in MODEL_ROLES:
        assert without.model(role) == results.model(role)


def test_the_same_tables_and_seed_give_the_same_results(make_tables) -> None:
    spelling, questions = make_tables(words=30)
    first, second = (summary(spelling, questions, *MODEL_ROLES) for _ in range(2))
    assert first == second
    # A figure does not depend on what else was evaluated.
    alone = summary(spelling, NO_QUESTIONS, *MODEL_ROLES)
    assert alone.base_model.intervals == {
        name: interval for name, interval in first.base_model.intervals.items() if name in alone.base_model.metrics
    }


@pytest.mark.parametrize("task", ["spelling", "position_count"])
def test_one_task_alone(make_tables, task: str) -> None:
    spelling, questions = make_tables(words=30)
    if task == "spelling":
        results = summary(spelling, NO_QUESTIONS, *MODEL_ROLES)
        assert not results.answer_modes
        assert not results.baselines
    else:
        results = summary(spelling.iloc[:0], questions, *MODEL_ROLES)
    measured = {name.startswith("letter_") for name in results.base_model.metrics}
    assert measured == {task == "position_count"}
    compared = {entry.metric.startswith("letter_") for entry in results.significance["base_to_control"]}
    assert compared == {task == "position_count"}
