"""Logistic regression of right answers: odds ratios, or the reason why there are none.

A thin layer on statsmodels and scipy that never gives a number where maximum likelihood has none. Knows nothing about
words or models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.optimize
from numpy.typing import NDArray
from statsmodels.discrete.discrete_model import Logit

from letterwise.analysis_results import OddsRatio

FEWEST_IN_A_CELL = 5
"""Right and wrong answers, with the exposure and without: fewer in one of the four cells give no odds ratio."""
FEWEST_PER_COEFFICIENT = 5
"""Right answers, and wrong ones, for each coefficient (Vittinghoff and McCulloch, 2007)."""
_SEPARATED = 1e-6
"""For each row of the linear program: above the tolerance of its solver."""


def odds_ratios(
    items: pd.DataFrame,
    exposure: str,
    numbers: Sequence[str],
    categories: Sequence[str],
    right: str = "correct",
    cluster: str = "word",
) -> dict[str, OddsRatio]:
    """Odds ratios of a right answer, by maximum likelihood, with a covariance clustered by word.

    A group in which all answers are right, or all wrong, has no finite coefficient and says nothing about the others:
    it is null and its items are left out, as Stata's ``logit`` does. What is separated after that, as linear
    programming finds out (Konis, 2007), is not fitted.

    Args:
        items: one row an answer.
        exposure: column of booleans; its odds ratio is what the regression is about.
        numbers: columns of covariates that enter as they are, by unit.
        categories: columns of covariates that enter by groups, an ordered categorical type; the first group that is
            left is what the others are compared with.
        right: column of booleans, the outcome.
        cluster: column that says which answers belong together.

    Returns:
        By name: the exposure; each number; each group as '<column>.<group>', without the one compared with. The
        exposure alone, null with the reason, where nothing can be fitted.
    """
    found: dict[str, OddsRatio] = {}
    told: dict[str, OddsRatio] = {}
    items = _without_decided_groups(items, categories, right, told)
    n = len(items)
    if reason := _too_few(items, exposure, right):
        return {exposure: OddsRatio(value=None, n=n, reason=reason)}
    columns: dict[str, NDArray[np.float64]] = {exposure: items[exposure].to_numpy(dtype=np.float64)}
    compared: dict[str, str] = {}
    for name in numbers:
        values = items[name].to_numpy(dtype=np.float64)
        if np.ptp(values) == 0:
            told[name] = OddsRatio(value=None, n=n, reason="It is the same for all items.")
        else:
            columns[name] = values
    for name in categories:
        first, *others = [group for group in items[name].cat.categories if (items[name] == group).any()]
        for group in others:
            columns[f"{name}.{group}"] = (items[name] == group).to_numpy(dtype=np.float64)
            compared[f"{name}.{group}"] = first
    answers = items[right].to_numpy(dtype=bool)
    design = np.column_stack([np.ones(n), *(values - values.mean() for values in columns.values())])
    if reason := _unfit(design, answers):
        return {exposure: OddsRatio(value=None, n=n, reason=reason)}
    codes, _ = pd.factorize(items[cluster])
    fit = Logit(answers.astype(np.float64), design).fit(
        disp=0, maxiter=200, cov_type="cluster", cov_kwds={"groups": codes}
    )
    with np.errstate(over="ignore"):
        ratios, intervals = np.exp(fit.params), np.exp(fit.conf_int())
    if not (fit.mle_retvals["converged"] and np.isfinite([*ratios, *intervals.flat, *fit.pvalues]).all()):
        reason = "The regression did not converge."
        return {exposure: OddsRatio(value=None, n=n, reason=reason)}
    for place, name in enumerate(columns, start=1):
        low, high = intervals[place]
        found[name] = OddsRatio(
            value=float(ratios[place]),
            interval=(float(low), float(high)),
            p_value=float(fit.pvalues[place]),
            n=n,
            compared_with=compared.get(name),
        )
    return found | told


def _without_decided_groups(
    items: pd.DataFrame, categories: Sequence[str], right: str, told: dict[str, OddsRatio]
) -> pd.DataFrame:
    """The items without the groups in which all answers are alike; what is said of these goes into `told`."""
    while True:
        before = len(items)
        for name in categories:
            shares = items.groupby(name, observed=True)[right].agg(["mean", "size"])
            for group, share, size in shares[shares["mean"].isin([0, 1])].itertuples():
                kind = "right" if share else "wrong"
                reason = f"All {size:,} answers are {kind}; they are left out of the regression."
                told[f"{name}.{group}"] = OddsRatio(value=None, n=int(size), reason=reason)
                items = items[items[name] != group]
        if len(items) == before:
            return items


def _too_few(items: pd.DataFrame, exposure: str, right: str) -> str | None:
    cells = {
        f"{'right' if correct else 'wrong'} with the word spelled {'right' if exposed else 'wrong'}": int(
            ((items[exposure] == exposed) & (items[right] == correct)).sum()
        )
        for exposed in (True, False)
        for correct in (True, False)
    }
    kind = min(cells, key=lambda name: cells[name])
    if cells[kind] >= FEWEST_IN_A_CELL:
        return None
    return f"Only {cells[kind]} of {len(items):,} answers are {kind}; it takes {FEWEST_IN_A_CELL} of each kind."


def _unfit(design: NDArray[np.float64], answers: NDArray[np.bool_]) -> str | None:
    """Why there is no unique finite estimate, or no trustworthy one; None where there is."""
    rank, coefficients = np.linalg.matrix_rank(design), design.shape[1]
    if rank < coefficients:
        return "The covariates determine one another, so that their parts cannot be told apart."
    fewer = int(min(answers.sum(), (~answers).sum()))
    if fewer < FEWEST_PER_COEFFICIENT * coefficients:
        kind = "right" if answers.mean() < 0.5 else "wrong"
        return (
            f"Only {fewer} answers are {kind}, and a regression with {coefficients} coefficients takes "
            f"{FEWEST_PER_COEFFICIENT * coefficients}."
        )
    # Separated: some direction orders no right answer below a wrong one, and at least one above.
    signed = np.unique(np.where(answers, 1.0, -1.0)[:, None] * design / np.abs(design).max(axis=0), axis=0)
    best = scipy.optimize.linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1))
    if best.status or -best.fun > _SEPARATED * len(signed):
        return "The covariates separate right from wrong answers, so that there is no finite estimate."
    return None
