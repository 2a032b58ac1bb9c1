from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letterwise.evaluation import statistics
from letterwise.evaluation.statistics import (
    Bootstrap,
    mcnemar_p_value,
    mean_interval,
    mean_of_means_interval,
    phi_coefficient,
    ratio_of_gains,
    ratio_of_proportions,
    spearman,
    wilson_interval,
)

BOOTSTRAP = Bootstrap(samples=4000, seed=1)


def shares(right: int, n: int) -> list[bool]:
    return [True] * right + [False] * (n - right)


def test_wilson_interval_of_eight_in_ten() -> None:
    # Centre (8 + 1.9207) / 13.8415 = 0.71674, half width 1.95996 / 13.8415 · √(8·2/10 + 0.9604) = 0.22658.
    assert wilson_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_share_and_stays_between_zero_and_one(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert (low == 0) == (successes == 0)


def test_mean_interval_agrees_with_normal_theory_on_many_values() -> None:
    values = np.random.default_rng(3).normal(5, 2, size=1000)
    half_width = 1.96 * values.std() / math.sqrt(1000)
    assert mean_interval(values, BOOTSTRAP) == pytest.approx(
        (values.mean() - half_width, values.mean() + half_width), abs=0.05 * half_width
    )


def test_mean_interval_depends_on_the_seed_alone() -> None:
    values = np.random.default_rng(3).normal(size=50)
    assert mean_interval(values, BOOTSTRAP) == mean_interval(values, BOOTSTRAP)
    assert mean_interval(values, BOOTSTRAP) != mean_interval(values, Bootstrap(samples=4000, seed=2))


def test_mean_interval_of_equal_values_is_that_value_and_of_one_value_is_unknown() -> None:
    assert mean_interval([0.5] * 8, BOOTSTRAP) == (0.5, 0.5)
    assert mean_interval([0.5], BOOTSTRAP) is None
    assert mean_interval([], BOOTSTRAP) is None


def test_mean_of_means_weighs_groups_equally_and_resamples_them_independently() -> None:
    # Each mean has variance 0.25 / n, so the mean of the two means has (0.25/400 + 0.25/100) / 4.
    half_width = 1.96 * math.sqrt((0.25 / 400 + 0.25 / 100) / 4)
    interval = mean_of_means_interval([shares(200, 400), shares(50, 100)], BOOTSTRAP)
    assert interval == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=0.1 * half_width)
    assert mean_of_means_interval([shares(200, 400), [True]], BOOTSTRAP) is None


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    [
        (5, 0, 2 * 0.5**5),
        (0, 5, 2 * 0.5**5),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),  # two-sided: P(at most 2 of 10), doubled
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_counts_only_items_on_which_the_two_differ(only_first: int, only_second: int, p_value: float) -> None:
    first = [True] * 7 + [True] * only_first + [False] * only_second + [False] * 4
    second = [True] * 7 + [False] * only_first + [True] * only_second + [False] * 4
    assert mcnemar_p_value(first, second) == pytest.approx(p_value)


def test_spearman_with_the_interval_of_bonett_and_wright() -> None:
    # Ranks differ by 1, 1, 1, 1, 0: rho = 1 - 6·4 / (5·24) = 0.8. Standard error of z: √((1 + 0.8²/2) / 2) = 0.8124.
    estimate = spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50])
    z, half_width = math.atanh(0.8), 1.959964 * math.sqrt(1.32 / 2)
    assert estimate.value == pytest.approx(0.8)
    assert estimate.interval == pytest.approx((math.tanh(z - half_width), math.tanh(z + half_width)))
    assert estimate.n == 5


def test_a_perfect_rank_correlation_has_no_interval() -> None:
    estimate = spearman([1, 2, 3, 4, 5, 6, 7], [-1, -2, -4, -8, -16, -32, -64])
    assert estimate.value == pytest.approx(-1)
    assert estimate.interval is None


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([1, 2, 3], [1, 3, 2], "at least 4 points, and there are 3"),
        ([], [], "at least 4 points, and there are 0"),
        ([1, 1, 1, 1], [1, 2, 3, 4], "constant"),
        ([1, 2, 3, 4], [0, 0, 0, 0], "constant"),
    ],
)
def test_spearman_is_null_with_a_reason(x: list[float], y: list[float], reason: str) -> None:
    estimate = spearman(x, y)
    assert estimate.value is None
    assert estimate.interval is None
    assert reason in (estimate.reason or "")


def single_items(both_wrong: int, answered: int, spelled: int, both_right: int) -> np.ndarray:
    """One 2×2 table for each item."""
    return np.repeat(np.eye(4), [both_wrong, answered, spelled, both_right], axis=0).reshape(-1, 2, 2)


def test_phi_of_a_known_table() -> None:
    # (40·30 - 10·20) / √(50·50·60·40) = 1000 / 2449.49
    estimate = phi_coefficient(single_items(40, 10, 20, 30), BOOTSTRAP)
    assert estimate.value == pytest.approx(0.408248, abs=1e-6)
    assert estimate.interval is not None
    assert estimate.interval[0] < 0.408248 < estimate.interval[1]
    assert estimate.n == 100


def test_items_of_one_word_count_as_less_evidence_than_independent_items() -> None:
    items = single_items(80, 20, 40, 60)
    alone = phi_coefficient(items, BOOTSTRAP)
    in_fours = phi_coefficient(single_items(20, 5, 10, 15) * 4, BOOTSTRAP)
    assert in_fours.value == pytest.approx(alone.value)
    assert in_fours.n == alone.n == 200
    width, clustered_width = (e.interval[1] - e.interval[0] for e in (alone, in_fours) if e.interval)
    assert clustered_width == pytest.approx(2 * width, rel=0.1)  # a quarter of the independent draws: √4


@pytest.mark.parametrize("cells", [(5, 5, 0, 0), (0, 0, 5, 5), (5, 0, 5, 0), (0, 5, 0, 5), (9, 0, 0, 0)])
def test_phi_is_null_where_a_margin_is_empty(cells: tuple[int, int, int, int]) -> None:
    estimate = phi_coefficient(single_items(*cells), BOOTSTRAP)
    assert estimate.value is None
    assert "undefined" in (estimate.reason or "")


def test_phi_survives_resamples_without_a_margin() -> None:
    estimate = phi_coefficient(single_items(5, 4, 0, 1), BOOTSTRAP)  # a third of the resamples lacks the last item
    assert estimate.value is not None
    assert estimate.interval is not None
    assert np.isfinite(estimate.interval).all()


def test_ratio_of_proportions_agrees_with_the_delta_method() -> None:
    # Variance of log(0.6 / 0.9): 0.4 / (0.6·500) + 0.1 / (0.9·300).
    estimate = ratio_of_proportions(shares(300, 500), shares(270, 300), BOOTSTRAP, denominator_name="Recall")
    factor = math.exp(1.96 * math.sqrt(0.4 / 300 + 0.1 / 270))
    assert estimate.value == pytest.approx(0.6 / 0.9)
    assert estimate.interval == pytest.approx((0.6 / 0.9 / factor, 0.6 / 0.9 * factor), rel=0.01)
    assert estimate.n == 500


@pytest.mark.parametrize("right", [0, 1, 2])
def test_ratio_of_proportions_is_null_over_next_to_nothing(right: int) -> None:
    estimate = ratio_of_proportions(shares(300, 500), shares(right, 300), BOOTSTRAP, denominator_name="Recall")
    assert estimate.value is None
    assert estimate.reason == "Recall is not significantly above zero."


def test_ratio_of_proportions_needs_items_on_both_sides() -> None:
    assert ratio_of_proportions(shares(3, 5), [], BOOTSTRAP, denominator_name="Recall").value is None


def gains(target: tuple[int, int], source: tuple[int, int], n: int = 100, each: int = 1) -> np.ndarray:
    """Clusters of `each` target items and one source item; of n clusters, `before` and `after` are right."""
    columns = [np.full(n, each)] + [each * np.array(shares(right, n)) for right in target]
    columns += [np.ones(n)] + [np.array(shares(right, n)) for right in source]
    return np.column_stack(columns)


def test_ratio_of_gains_by_hand() -> None:
    # Target (0.50 - 0.20) / 0.80 = 0.375; source (0.82 - 0.10) / 0.90 = 0.8; 0.375 / 0.8 = 0.46875.
    estimate = ratio_of_gains(gains((20, 50), (10, 82)), BOOTSTRAP, source_name="spelling accuracy")
    assert estimate.value == pytest.approx(0.46875)
    assert estimate.interval is not None
    assert 0 < estimate.interval[0] < 0.46875 < estimate.interval[1]
    assert estimate.n == 100


def test_ratio_of_gains_resamples_whole_clusters() -> None:
    one = ratio_of_gains(gains((20, 50), (10, 82)), BOOTSTRAP, source_name="spelling accuracy")
    three = ratio_of_gains(gains((20, 50), (10, 82), each=3), BOOTSTRAP, source_name="spelling accuracy")
    assert three.value == pytest.approx(one.value)
    assert three.interval == pytest.approx(one.interval)  # three copies of an item add nothing


def test_a_loss_on_the_target_is_a_negative_ratio() -> None:
    estimate = ratio_of_gains(gains((50, 20), (10, 82)), BOOTSTRAP, source_name="spelling accuracy")
    assert estimate.value == pytest.approx((-0.3 / 0.5) / 0.8)


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ((20, 50), (10, 10)),  # no gain in spelling
        ((20, 50), (10, 13)),  # a gain of 3 in 100, within chance
        ((20, 50), (80, 10)),  # spelling lost
        ((20, 50), (100, 100)),  # spelling was perfect
        ((100, 100), (10, 82)),  # answers were perfect
    ],
)
def test_ratio_of_gains_is_null_without_a_sure_denominator(target: tuple[int, int], source: tuple[int, int]) -> None:
    estimate = ratio_of_gains(gains(target, source), BOOTSTRAP, source_name="spelling accuracy")
    assert estimate.value is None
    assert estimate.interval is None
    assert "spelling accuracy" in (estimate.reason or "")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=25), st.integers(0, 5))
def test_ratio_of_gains_is_finite_or_null(items: list[tuple[bool, ...]], seed: int) -> None:
    clusters = [(1, a, b, 1, c, d) for a, b, c, d in items]
    estimate = ratio_of_gains(clusters, Bootstrap(samples=100, seed=seed), source_name="spelling accuracy")
    if estimate.value is None:
        assert estimate.reason
    else:
        assert estimate.interval is not None
        assert np.isfinite([estimate.value, *estimate.interval]).all()


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_very_many_items_are_resampled_by_their_values_to_the_same_distribution(share: float) -> None:
    n = 200_000
    right = shares(round(share * n), n)
    half_width = 1.96 * math.sqrt(share * (1 - share) / n)
    assert mean_interval(right, BOOTSTRAP) == pytest.approx(
        (share - half_width, share + half_width), abs=0.1 * half_width
    )
    # Independent halves, weighted equally; and a ratio of two shares, each with its own n.
    low, high = mean_of_means_interval([right, shares(50, 100)], BOOTSTRAP) or (0, 0)
    assert (low + high) / 2 == pytest.approx((share + 0.5) / 2, abs=0.01)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 * math.sqrt(0.25 / 100), rel=0.1)
    ratio = ratio_of_proportions(right, shares(n // 2, n), BOOTSTRAP, denominator_name="the other")
    assert ratio.interval
    assert ratio.value == pytest.approx(share / 0.5)
    assert ratio.value == pytest.approx(sum(ratio.interval) / 2, rel=0.01)


def test_very_many_clusters_are_resampled_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    spelled, answered = rng.random(3000) < 0.4, rng.random(3000) < 0.5
    answered = np.where(rng.random(3000) < 0.3, spelled, answered)
    tables = np.zeros((3000, 2, 2))
    tables[range(3000), spelled.astype(int), answered.astype(int)] = 1
    clusters = np.stack([np.ones(3000), answered & spelled, answered, np.ones(3000), spelled & answered, spelled], 1)
    few = phi_coefficient(tables, BOOTSTRAP), ratio_of_gains(clusters, BOOTSTRAP, source_name="x")
    monkeypatch.setattr(statistics, "_COUNTED_FROM", 1000)
    many = phi_coefficient(tables, BOOTSTRAP), ratio_of_gains(clusters, BOOTSTRAP, source_name="x")
    for one, other in zip(few, many, strict=True):
        assert one.interval
        assert other.interval
        assert (one.value, one.n) == (other.value, other.n)
        assert one.interval != other.interval, "other random numbers"
        assert one.interval == pytest.approx(other.interval, abs=0.1 * (one.interval[1] - one.interval[0]))
