"""What share of the ceiling's gain the final run reached: each seed that has a ceiling, and their mean.

Knows the recorded transfer analyses, which have the shares with their intervals; computes no share itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from final_run import FinalRun

from letterwise.reporting.summary import NOTHING, share_text
from letterwise.results import Estimate, Interval, QuestionType

NOTE = (
    "The share of the ceiling's gain is (tuned − base) ÷ (ceiling − base), on the same questions; there is none where "
    "a ceiling's gain is not significantly above zero, and then no mean either. A seed's brackets are its 95% "
    "bootstrap interval over words; the mean of several seeds has none, as all were asked the same."
)


@dataclass(frozen=True)
class MeanShare:
    """Over the seeds that have a ceiling."""

    value: float
    interval: Interval | None
    """That of the only seed; None of several."""

    @property
    def text(self) -> str:
        """As the tables write it."""
        return share_text(self.value, self.interval)


def shares_of_ceiling(run: FinalRun, kind: QuestionType) -> dict[int, Estimate]:
    """By seed, of those that have a ceiling."""
    found = {seed: recorded.transfer.share_of_ceiling.get(kind) for seed, recorded in run.seeds.items()}
    return {seed: share for seed, share in found.items() if share}


def mean_share(shares: dict[int, Estimate]) -> MeanShare | None:
    """None where one of the seeds has no value: the mean of the others would be a mean of chosen ones."""
    values = [share.value for share in shares.values() if share.value is not None]
    if not values or len(values) < len(shares):
        return None
    interval = next(iter(shares.values())).interval if len(shares) == 1 else None
    return MeanShare(sum(values) / len(values), interval)


def one_share(share: Estimate) -> str:
    """One seed's, or the reason why there is none."""
    return share.reason or NOTHING if share.value is None else share_text(share.value, share.interval)
