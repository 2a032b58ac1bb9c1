from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from letterwise.analysis_results import OddsRatio
from letterwise.evaluation.regression import odds_ratios


def items(spelled: list[int], right: list[int], **more: object) -> pd.DataFrame:
    table = pd.DataFrame({"spelled": np.array(spelled, dtype=bool), "correct": np.array(right, dtype=bool)})
    return table.assign(**{"word": [f"word{i}" for i in range(len(table))], **more})


def two_by_two(both: int, spelled_only: int, answered_only: int, neither: int) -> pd.DataFrame:
    spelled = [1] * (both + spelled_only) + [0] * (answered_only + neither)
    right = [1] * both + [0] * spelled_only + [1] * answered_only + [0] * neither
    return items(spelled, right)


def simulated(n: int = 1200, seed: int = 3) -> pd.DataFrame:
    """Log odds of a right answer: -3 + 1.1 if spelled + 0.3 a letter, and 0.9 less at an inner place."""
    rng = np.random.default_rng(seed)
    length = rng.integers(4, 13, n)
    # Short words are spelled more often, so leaving the length out would mislead.
    spelled = rng.random(n) < 1 / (1 + np.exp(length - 8))
    place = rng.choice(["first", "inner", "last"], n)
    log_odds = -3 + 1.1 * spelled + 0.3 * length - 0.9 * (place == "inner")
    right = rng.random(n) < 1 / (1 + np.exp(-log_odds))
    categories = pd.Categorical(place, ["first", "inner", "last", "only"], ordered=True)
    return items(list(spelled), list(right), length=length, place=categories)


def reason_of(found: dict[str, OddsRatio]) -> str:
    """Why nothing was fitted: one ratio, no number in it."""
    (ratio,) = found.values()
    assert (ratio.value, ratio.interval, ratio.p_value) == (None, None, None)
    return ratio.reason or ""


def test_without_covariates_it_is_the_odds_ratio_of_the_table() -> None:
    found = odds_ratios(two_by_two(40, 20, 30, 60), "spelled", [], [])["spelled"]
    assert found.value == pytest.approx(40 * 60 / (20 * 30))
    # Woolf's interval, which the unclustered covariance agrees with up to the small-sample factor.
    half = 1.96 * np.sqrt(1 / 40 + 1 / 20 + 1 / 30 + 1 / 60)
    assert found.interval == pytest.approx((4 * np.exp(-half), 4 * np.exp(half)), rel=0.02)
    assert found.n == 150
    assert found.p_value is not None
    assert found.p_value < 0.001


def test_it_finds_the_effects_that_were_built_in() -> None:
    found = odds_ratios(simulated(), "spelled", ["length"], ["place"])
    truth = {"spelled": 1.1, "length": 0.3, "place.inner": -0.9, "place.last": 0.0}
    assert found.keys() == truth.keys()
    for name, effect in truth.items():
        assert found[name].interval is not None
        assert found[name].interval[0] < np.exp(effect) < found[name].interval[1], name
    assert found["place.inner"].compared_with == "first"
    assert found["length"].compared_with is None
    without_length = odds_ratios(simulated(), "spelled", [], ["place"])["spelled"].interval
    assert without_length is not None
    assert without_length[1] < np.exp(1.1)


def test_questions_about_one_word_count_as_one_piece_of_evidence() -> None:
    table = two_by_two(40, 20, 30, 60)
    once = odds_ratios(table, "spelled", [], [])["spelled"]
    fourfold = odds_ratios(pd.concat([table] * 4), "spelled", [], [])["spelled"]
    assert fourfold.value == pytest.approx(once.value)
    assert fourfold.interval == pytest.approx(once.interval, rel=0.02)
    assert fourfold.n == 4 * once.n


def test_a_group_that_is_always_wrong_is_left_out_and_changes_nothing_else() -> None:
    table = simulated()
    decided = table.iloc[:50].assign(correct=False, place=pd.Categorical(["only"] * 50, dtype=table["place"].dtype))
    found = odds_ratios(pd.concat([table, decided]), "spelled", ["length"], ["place"])
    only = found.pop("place.only")
    assert found == odds_ratios(table, "spelled", ["length"], ["place"])
    assert (only.value, only.n) == (None, 50)
    assert only.reason == "All 50 answers are wrong; they are left out of the regression."


def test_a_covariate_that_does_not_vary_is_null_and_the_rest_is_fitted() -> None:
    found = odds_ratios(simulated().assign(tokens=2), "spelled", ["length", "tokens"], [])
    assert (found["tokens"].value, found["tokens"].reason) == (None, "It is the same for all items.")
    assert found["spelled"].value is not None


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (two_by_two(40, 0, 30, 60), "Only 0 of 130 answers are wrong with the word spelled right; it takes 5"),
        (two_by_two(4, 20, 30, 60), "Only 4 of 114 answers are right with the word spelled right; it takes 5"),
        (two_by_two(0, 0, 0, 0), "Only 0 of 0 answers"),
    ],
)
def test_too_few_of_a_kind_give_no_number(table: pd.DataFrame, reason: str) -> None:
    assert reason in reason_of(odds_ratios(table, "spelled", [], []))


def test_what_cannot_be_fitted_says_why() -> None:
    table = simulated()
    # Right exactly from 10 letters on: no group is decided, but a line through the lengths is.
    separated = table.assign(correct=table["length"] >= 10)
    separated = pd.concat([separated, *[separated[separated["length"] >= 10].assign(spelled=True).head(20)]])
    assert "separate right from wrong" in reason_of(odds_ratios(separated, "spelled", ["length"], ["place"]))
    twice = table.assign(again=2 * table["length"])
    assert "determine one another" in reason_of(odds_ratios(twice, "spelled", ["length", "again"], []))
    few = odds_ratios(two_by_two(6, 6, 6, 60).assign(length=range(78)), "spelled", ["length"], [])
    assert "Only 12 answers are right, and a regression with 3 coefficients takes 15." in reason_of(few)
