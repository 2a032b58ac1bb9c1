"""Where to look for what the study's hypotheses expect: variants of a sweep, and gains of the final run.

Knows the recorded sweeps and the final run; knows no hypothesis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from final_run import FinalRun, read_final_run
from generated_study import METRICS, Way, difference, recorded_sweep, shares

from letterwise.config import AnswerMode
from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.over_seeds import accuracy
from letterwise.reporting.summary import difference_text, find_difference, in_mode, share_text, standing
from letterwise.sweep_results import TrialResult

Outcome = Literal["as expected", "otherwise", "open"]
OUTCOMES: tuple[Outcome, ...] = ("as expected", "otherwise", "open")
Found = Iterator[tuple[Outcome, str]]
"""Whether something came out as expected, and its figure."""
Expected = Way | Literal["not higher"]
FINAL_RUN = "final run"


class Evidence(Protocol):
    """Figures that bear on an expectation."""

    @property
    def source(self) -> str:
        """The sweep or run that they are of."""

    def reference(self) -> str:
        """What they are compared with."""

    def found(self) -> Found:
        """Each of them."""


@dataclass(frozen=True)
class InSweep:
    """Variants of a sweep of which a figure is expected to differ from one variant's, or not to."""

    sweep: str
    what: str
    """A figure of `generated_study.METRICS`."""
    expected: Expected
    than: str
    variants: tuple[str, ...]

    @property
    def source(self) -> str:
        """The sweep."""
        return f"`{self.sweep}`"

    def reference(self) -> str:
        """The variant that they are compared with; for counts the untrained model and the majority class too."""
        if not (other := _complete(self.sweep).get(self.than)):
            return f"`{self.than}`"
        told, seed = f"`{self.than}` {_share(other, self.what)}", other.seeds[0]
        if self.what == "counts" and seed.untrained:
            untrained = share_text(seed.untrained[METRICS[self.what]])
            told += f" (untrained {untrained}, majority class {share_text(seed.majority_class['letter_count'])})"
        return told

    def found(self) -> Found:
        """Each variant, by the test of the sweep's table."""
        trials = _complete(self.sweep)
        other = trials.get(self.than)
        for name in self.variants:
            if not (trial := trials.get(name)):
                yield "open", f"`{name}`"
            elif not other:
                yield "open", f"`{name}` {_share(trial, self.what)} (`{self.than}` is not finished)"
            else:
                way = difference(trial, other, self.what)
                so = way != "higher" if self.expected == "not higher" else way == self.expected
                yield ("as expected" if so else "otherwise"), f"`{name}` {_share(trial, self.what)} ({way})"


@dataclass(frozen=True)
class GainInFinalRun:
    """A gain of the tuned model that is expected to be above zero in every seed that has both models."""

    metric: str
    mode: AnswerMode | None
    """None: `direct`, or of spelling."""
    comparison: str
    """Such as 'base_to_finetuned'."""
    source: str = FINAL_RUN

    def reference(self) -> str:
        """The model that it is a gain over."""
        role = self.comparison.removesuffix("_to_finetuned")
        return next(name for each, name in NAMES.items() if each == role)

    def found(self) -> Found:
        """The gain of each seed."""
        run = read_final_run()
        metric = in_mode(self.metric, self.mode)
        evaluations = run.evaluations.values() if run else ()
        gains = [gain for results in evaluations if (gain := find_difference(results, self.comparison, metric))]
        if not gains:
            yield "open", "not compared" if run else "not recorded"
            return
        told = "; ".join(map(difference_text, gains))
        yield ("as expected" if all(gain.interval[0] > 0 for gain in gains) else "otherwise"), told


@dataclass(frozen=True)
class CountsOfTheCeiling:
    """The ceiling adapter's counts, expected not to get above always the most frequent answer."""

    source: str = FINAL_RUN

    def reference(self) -> str:
        """That of the final run's questions."""
        run = read_final_run()
        return f"majority class {share_text(_majority(run))}" if run else "majority class"

    def found(self) -> Found:
        """The mean over the seeds that have a ceiling."""
        run = read_final_run()
        reached = accuracy(run.evaluations, "letter_count_accuracy", "direct", "ceiling") if run else None
        if not run or not reached:
            yield "open", "not recorded"
            return
        stands = standing(reached.mean, reached.interval, _majority(run))
        told = f"ceiling {share_text(reached.mean, reached.interval)} ({stands})"
        yield ("otherwise" if stands == "above" else "as expected"), told


def _complete(sweep: str) -> dict[str, TrialResult]:
    recorded = recorded_sweep(sweep)
    return {trial.name: trial for trial in recorded.trials if trial.state == "complete"} if recorded else {}


def _share(trial: TrialResult, what: str) -> str:
    return share_text(shares(trial)[what][0])


def _majority(run: FinalRun) -> float:
    return next(iter(run.evaluations.values())).baselines["letter_count_majority_class"].value
