"""Accuracies of probes and differences between models, with intervals that keep word families together.

Knows what was asked and which answers are right; knows nothing about how probes are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from letterwise.evaluation.statistics import Bootstrap, Floats, wilson_interval
from letterwise.probe_results import PROBE_QUESTIONS, PlaceProbes, ProbeAccuracy, ProbeDifference, ProbeQuestion
from letterwise.results import Interval, ModelRole

COMPARISONS: tuple[tuple[ModelRole, ModelRole], ...] = (
    ("base", "finetuned"),
    ("base", "control"),
    ("control", "finetuned"),
)
_RESAMPLES_AT_A_TIME = 500
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class _Share:
    """One accuracy and its resamples; those of all questions, places and models come from the same draws."""

    value: float
    resampled: Floats
    n: int

    @property
    def accuracy(self) -> ProbeAccuracy:
        return ProbeAccuracy(value=self.value, interval=_interval(self.resampled), n=self.n)


class Answers:
    """Which answers of which model or baseline are right at which place, resampled by word family."""

    def __init__(self, items: pd.DataFrame, right: Mapping[str, NDArray[np.bool_]], bootstrap: Bootstrap) -> None:
        """Resample.

        Args:
            items: what was asked, as `ProbeItems.test_items` gives it.
            right: name of a model or baseline → whether it is right, shape (places, items).
            bootstrap: how to resample.
        """
        self._items, self._right = items, right
        _, families = np.unique(items["family"], return_inverse=True)
        # Every letter counts the same, however many tokens it was asked about.
        groups = items.groupby(["question", "letter"])["family"]
        weights = 1 / groups.transform("size").to_numpy(np.float64)
        questions = {name: (items["question"] == name).to_numpy() for name in PROBE_QUESTIONS}

        def by_family(values: NDArray[np.bool_], question: ProbeQuestion) -> Floats:
            asked = questions[question]
            counted = np.bincount(families[asked], (weights * values)[asked], minlength=families.max() + 1)
            return counted.astype(np.float64)

        everything = np.ones(len(items), dtype=bool)
        keys = [
            (name, place, question)
            for name, places in right.items()
            for place in range(len(places))
            for question in PROBE_QUESTIONS
        ]
        sums = [by_family(right[name][place], question) for name, place, question in keys]
        sizes = {question: by_family(everything, question) for question in PROBE_QUESTIONS}
        resampled = _resampled(np.stack([*sums, *sizes.values()], axis=1), bootstrap)
        totals = dict(zip(PROBE_QUESTIONS, resampled[:, len(keys) :].T, strict=True))
        self._shares = {
            key: _Share(
                float(sums[column].sum() / sizes[key[2]].sum()),
                resampled[:, column] / totals[key[2]],
                int(questions[key[2]].sum()),
            )
            for column, key in enumerate(keys)
        }

    def places(self, name: str, places: list[str]) -> list[PlaceProbes]:
        """The accuracies of a model at each of its places."""
        return [
            PlaceProbes(place=place, accuracy=self.accuracy(name, number), letters=self._letters(name, number))
            for number, place in enumerate(places)
        ]

    def accuracy(self, name: str, place: int = 0) -> dict[ProbeQuestion, ProbeAccuracy]:
        """The accuracies of a model or baseline at a place, by its number."""
        return {question: self._shares[name, place, question].accuracy for question in PROBE_QUESTIONS}

    def differences(self, places: list[str]) -> dict[str, list[ProbeDifference]]:
        """Every comparison of two models that are both there, such as 'base_to_finetuned', at every place."""
        return {
            f"{first}_to_{second}": [
                self._difference(first, second, number, place, question)
                for number, place in enumerate(places)
                for question in PROBE_QUESTIONS
            ]
            for first, second in COMPARISONS
            if first in self._right and second in self._right
        }

    def _difference(
        self, first: ModelRole, second: ModelRole, number: int, place: str, question: ProbeQuestion
    ) -> ProbeDifference:
        one, other = (self._shares[role, number, question] for role in (first, second))
        return ProbeDifference(
            place=place,
            question=question,
            first=first,
            second=second,
            difference=other.value - one.value,
            interval=_interval(other.resampled - one.resampled),
            n=one.n,
        )

    def _letters(self, name: str, place: int) -> dict[str, ProbeAccuracy]:
        asked = self._items["letter"] != ""
        by_letter = pd.Series(self._right[name][place])[asked].groupby(self._items["letter"][asked])
        return {
            str(letter): ProbeAccuracy(
                value=float(right.mean()), interval=wilson_interval(int(right.sum()), len(right)), n=len(right)
            )
            for letter, right in by_letter
        }


def _resampled(sums: Floats, bootstrap: Bootstrap) -> Floats:
    """Sums over resampled families of what each contributes: (families, columns) → (samples, columns)."""
    rng = np.random.default_rng(bootstrap.seed)
    families = len(sums)
    parts = []
    for start in range(0, bootstrap.samples, _RESAMPLES_AT_A_TIME):
        size = min(_RESAMPLES_AT_A_TIME, bootstrap.samples - start)
        # How often each family is drawn, which is all that a sum depends on.
        times = rng.multinomial(families, np.full(families, 1 / families), size=size)
        parts.append(times.astype(np.float64) @ sums)
    return np.concatenate(parts)


def _interval(resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, _TAILS)
    return float(low), float(high)
