"""Intervals, tests and resampled ratios: thin functions on scipy and statsmodels.

Knows nothing about models, words or questions. Every interval is a 95% interval. Every resampled figure makes its own
generator from the seed, so it depends on its data and the seed alone, not on what was computed before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from letterwise.results import Estimate, Interval

Floats = NDArray[np.float64]

_TAILS = (0.025, 0.975)

# Items drawn at a time: bounds the memory of a bootstrap to some ten megabytes, whatever the number of items.
_DRAWN_ITEMS = 500_000

_COUNTED_FROM = 100_000
"""From this many items on, how often each distinct value comes is drawn, not each item: the same distribution (a
resample of items is multinomial over their values) for the price of the distinct values, which are few."""


@dataclass(frozen=True)
class Bootstrap:
    """How to resample: the number of resamples, and the seed of the generator that draws them."""

    samples: int
    seed: int

    def distribution(
        self, columns: Sequence[ArrayLike], statistic: Callable[..., Floats], *, paired: bool = False
    ) -> Floats:
        """The bootstrap distribution of a statistic (Efron, 1979).

        Args:
            columns: One array of two or more values per sample; if `paired`, the columns of one sample of items.
            statistic: Takes the resampled columns and an `axis` to reduce, as `scipy.stats.bootstrap` defines it.
            paired: Draw the same items from every column; otherwise each column is resampled by itself.

        Returns:
            Shape (..., samples), the resamples last.
        """
        data = [np.asarray(column, dtype=np.float64) for column in columns]
        if max(map(len, data)) >= _COUNTED_FROM:
            return self._by_counts(data, statistic, paired)
        result = scipy.stats.bootstrap(
            data,
            statistic,
            n_resamples=self.samples,
            batch=max(1, _DRAWN_ITEMS // max(map(len, data))),
            vectorized=True,
            paired=paired,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        )
        return np.asarray(result.bootstrap_distribution, dtype=np.float64)

    def _by_counts(self, data: Sequence[Floats], statistic: Callable[..., Floats], paired: bool) -> Floats:
        """The distribution for very many items, for a statistic of means or of ratios of products of sums."""
        rng = np.random.default_rng(self.seed)
        samples = [np.stack(data, axis=1)] if paired else [column[:, None] for column in data]
        tables = [np.unique(sample, axis=0, return_counts=True) for sample in samples]
        size = max(1, _DRAWN_ITEMS // max(len(values) for values, _ in tables))
        parts = []
        for start in range(0, self.samples, size):
            drawn: list[Floats] = []
            for values, counts in tables:
                n, distinct = counts.sum(), len(values)
                times = rng.multinomial(n, counts / n, size=min(size, self.samples - start))
                # Scaled so that the mean over the distinct values is the mean over the items; sums are scaled alike.
                drawn.extend(np.moveaxis(times[:, :, None] * (values * distinct / n), -1, 0))
            parts.append(statistic(*drawn, axis=-1))
        return np.concatenate(parts, axis=-1)


def wilson_interval(successes: int, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson, 1927), for `n` ≥ 1."""
    low, high = proportion_confint(successes, n, alpha=0.05, method="wilson")
    # Rounding can leave a share of 0 or 1 just outside its own interval.
    return min(float(low), successes / n), max(float(high), successes / n)


def mean_interval(values: ArrayLike, bootstrap: Bootstrap) -> Interval | None:
    """Percentile bootstrap interval of a mean; of paired differences, it is the paired bootstrap.

    None for fewer than two values, from which nothing can be said about their spread.
    """
    return mean_of_means_interval([values], bootstrap)


def mean_of_means_interval(groups: Sequence[ArrayLike], bootstrap: Bootstrap) -> Interval | None:
    """Percentile bootstrap interval of the unweighted mean of the groups' means, each group resampled by itself.

    None if a group has fewer than two values.
    """
    if min(np.size(group) for group in groups) < 2:
        return None
    return _percentile_interval(bootstrap.distribution(groups, _mean_of_means))


def mcnemar_p_value(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided exact McNemar test (McNemar, 1947) that two answerers are right equally often on the same items.

    Args:
        first: Booleans, shape (items,): whether the first is right.
        second: The same for the second, in the same order.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    return float(mcnemar(table, exact=True).pvalue)


def spearman(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Spearman's rank correlation with Fisher's z interval and the standard error of Bonett and Wright (2000).

    The interval takes the points for independent. For checkpoints of a training run, which are not, it is too narrow.
    A perfect correlation has no interval, because its z is infinite. The value is null for fewer than four points,
    where the standard error does not exist, and where one side is constant.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(x)
    if n < 4:
        return Estimate(value=None, n=n, reason=f"A rank correlation needs at least 4 points, and there are {n}.")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(value=None, n=n, reason="A rank correlation is undefined where one side is constant.")
    rho = float(np.clip(scipy.stats.spearmanr(x, y).statistic, -1, 1))
    if np.isclose(abs(rho), 1):
        return Estimate(value=rho, n=n)
    half_width = scipy.stats.norm.ppf(_TAILS[1]) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-half_width, half_width]))
    return Estimate(value=rho, interval=(float(low), float(high)), n=n)


def phi_coefficient(tables: ArrayLike, bootstrap: Bootstrap) -> Estimate:
    """Phi coefficient of the sum of 2×2 tables, with a percentile bootstrap interval that resamples the tables.

    Args:
        tables: Counts, shape (clusters, 2, 2), one table for each cluster of items that belong together.
        bootstrap: How to resample.

    Returns:
        n is the number of items. The value is null if a row or a column of the summed table is empty. Resamples where
        one is empty have no phi and are left out of the interval.
    """
    cells = np.asarray(tables, dtype=np.float64).reshape(-1, 4)
    n = int(cells.sum())
    numerator, denominator = _phi_terms(*cells.T, axis=0)
    if denominator == 0:
        return Estimate(value=None, n=n, reason="Phi is undefined where one side is always right or always wrong.")
    value = float(numerator / denominator)
    if len(cells) < 2:
        return Estimate(value=value, n=n)
    numerators, denominators = bootstrap.distribution(list(cells.T), _phi_terms, paired=True)
    defined = denominators > 0
    return Estimate(value=value, interval=_percentile_interval(numerators[defined] / denominators[defined]), n=n)


def ratio_of_proportions(
    numerator: ArrayLike, denominator: ArrayLike, bootstrap: Bootstrap, *, denominator_name: str
) -> Estimate:
    """Ratio of the shares of right items in two samples, with a percentile bootstrap interval.

    Args:
        numerator: Booleans, shape (items,).
        denominator: Booleans, shape (other items,).
        bootstrap: How to resample; each sample is resampled by itself.
        denominator_name: What the denominator is, for the reason of a null value.

    Returns:
        n is the number of items in the numerator. The value is null where the denominator's bootstrap interval is not
        above zero. (That is stricter than a Wilson interval, which leaves zero with the first right item.)
    """
    if min(np.size(numerator), np.size(denominator)) < 2:
        return Estimate(value=None, n=np.size(numerator), reason="A ratio needs at least two items on either side.")
    data = [np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)]
    return _ratio(
        _means(*data, axis=0),
        bootstrap.distribution(data, _means),
        n=len(data[0]),
        reason=f"{denominator_name} is not significantly above zero.",
    )


def ratio_of_gains(clusters: ArrayLike, bootstrap: Bootstrap, *, source_name: str) -> Estimate:
    """Gain on a target task ÷ headroom there, divided by the gain on a source task ÷ headroom there.

    A gain is the accuracy after minus the accuracy before; the headroom is 1 minus the accuracy before. The percentile
    bootstrap interval resamples clusters: items that belong together stay together, in both tasks.

    Args:
        clusters: Shape (clusters, 6): each cluster's number of target items, of those right before and right after, and
            the same three of the source.
        bootstrap: How to resample.
        source_name: What the source measures, for the reason of a null value.

    Returns:
        n is the number of clusters. The value is null where the bootstrap interval of the gain on the source, or of the
        headroom on the target, is not above zero.
    """
    columns = list(np.asarray(clusters, dtype=np.float64).T)
    n = len(columns[0])
    if n < 2:
        return Estimate(value=None, n=n, reason="A ratio of gains needs at least two words to resample.")
    return _ratio(
        _gain_terms(*columns, axis=0),
        bootstrap.distribution(columns, _gain_terms, paired=True),
        n=n,
        reason=f"The gain in {source_name}, or the headroom of the answers, is not significantly above zero.",
    )


def share_of_gain(clusters: ArrayLike, bootstrap: Bootstrap, *, other_name: str) -> Estimate:
    """Gain of one model divided by the gain of another over the same base, on the same items.

    The percentile bootstrap interval resamples clusters: items that belong together stay together.

    Args:
        clusters: Shape (clusters, 2): each cluster's items gained minus lost by the one, and by the other.
        bootstrap: How to resample.
        other_name: Whose gain the other is, for the reason of a null value.

    Returns:
        n is the number of clusters. The value is null where the bootstrap interval of the other's gain is not above
        zero.
    """
    columns = list(np.asarray(clusters, dtype=np.float64).T)
    n = len(columns[0])
    if n < 2:
        return Estimate(value=None, n=n, reason="A share of a gain needs at least two words to resample.")
    return _ratio(
        _sums(*columns, axis=0),
        bootstrap.distribution(columns, _sums, paired=True),
        n=n,
        reason=f"The {other_name} gain is not significantly above zero.",
    )


def _ratio(point: Floats, resampled: Floats, *, n: int, reason: str) -> Estimate:
    """Ratio of two terms, shape (2,), with its interval from their resamples, shape (2, samples).

    Null where the denominator's interval is not above zero. The few resamples with a denominator of zero or less count
    as infinite, in the direction of their numerator: that widens the interval instead of turning over its sign. There
    are too few of them to make an end of it infinite.
    """
    numerator, denominator = resampled
    # The order statistic itself: an interpolated one could pass with one resample too many at zero.
    if point[1] <= 0 or np.quantile(denominator, _TAILS[0], method="lower") <= 0:
        return Estimate(value=None, n=n, reason=reason)
    positive = denominator > 0
    ratios = np.copysign(np.inf, numerator)
    ratios[positive] = numerator[positive] / denominator[positive]
    return Estimate(value=float(point[0] / point[1]), interval=_percentile_interval(ratios), n=n)


def _percentile_interval(distribution: Floats) -> Interval:
    low, high = np.quantile(distribution, _TAILS)
    return float(low), float(high)


def _means(*samples: Floats, axis: int) -> Floats:
    return np.stack([sample.mean(axis=axis) for sample in samples])


def _sums(*columns: Floats, axis: int) -> Floats:
    return np.stack([column.sum(axis=axis) for column in columns])


def _mean_of_means(*samples: Floats, axis: int) -> Floats:
    return np.asarray(_means(*samples, axis=axis).mean(axis=0))


def _phi_terms(*cells: Floats, axis: int) -> Floats:
    """Numerator and denominator of `phi_coefficient`; the denominator is zero where a margin is empty."""
    a, b, c, d = (cell.sum(axis=axis) for cell in cells)
    return np.stack([a * d - b * c, np.sqrt((a + b) * (c + d) * (a + c) * (b + d))])


def _gain_terms(*columns: Floats, axis: int) -> Floats:
    """Numerator and denominator of `ratio_of_gains`, both times both headrooms, so that neither divides by zero."""
    items, before, after, source_items, source_before, source_after = (column.sum(axis=axis) for column in columns)
    return np.stack(
        [(after - before) * (source_items - source_before), (items - before) * (source_after - source_before)]
    )
