"""What docs/transfer_learning.md says became of the study's hypotheses: each prediction beside what the runs show.

Called from a cog block and run by `make docs`. A prediction is one that a test can decide; what is not recorded is
open. Knows the recorded sweeps and the final run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from final_run import FinalRun, read_final_run
from generated_study import TEST, Way, difference, recorded_sweep, shares

from letterwise.config import AnswerMode
from letterwise.evaluation.statistics import wilson_interval
from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.over_seeds import accuracy
from letterwise.reporting.summary import (
    NOTHING,
    difference_text,
    find_difference,
    in_mode,
    share_text,
    standing,
)
from letterwise.reporting.templating import markdown_table
from letterwise.sweep_results import TrialResult

Outcome = Literal["as expected", "otherwise", "open"]
OUTCOMES: tuple[Outcome, ...] = ("as expected", "otherwise", "open")
Found = Iterator[tuple[Outcome, str]]
"""Whether something came out as expected, and its figure."""

INSIDE = ("inside", "backwards", "gaps", "parts", "pairs")
CHOOSING = ("groups", "choice", "hangman")


class Evidence(Protocol):
    """Where to look for what a hypothesis expects."""

    def reference(self) -> str:
        """What figures are compared with."""

    def found(self) -> Found:
        """Each figure that bears on it."""


@dataclass(frozen=True)
class Sweep:
    """Variants of a sweep of which a figure is expected to differ from one variant's, or not to."""

    name: str
    what: str
    """A column of the sweep's table."""
    expected: Way
    than: str
    variants: tuple[str, ...]

    def reference(self) -> str:
        """The variant that they are compared with."""
        other = _complete(self.name).get(self.than)
        return f"`{self.than}`{f' {_share(other, self.what)}' if other else ''}"

    def found(self) -> Found:
        """Each variant, by the test of the sweep's table."""
        trials = _complete(self.name)
        other = trials.get(self.than)
        for name in self.variants:
            trial = trials.get(name)
            if not trial or not other:
                yield "open", f"`{name}`"
                continue
            way = difference(trial, other, self.what)
            yield (
                ("as expected" if way == self.expected else "otherwise"),
                f"`{name}` {_share(trial, self.what)} ({way})",
            )


@dataclass(frozen=True)
class NoBetterThanMajority:
    """Variants of a sweep whose counts are expected not to get above always the most frequent answer."""

    name: str
    variants: tuple[str, ...]

    def reference(self) -> str:
        """The same for all variants."""
        return next(
            (f"majority class {share_text(_majority_in(trial))}" for trial in _complete(self.name).values()), ""
        )

    def found(self) -> Found:
        """Above the majority class is who has the whole interval above it."""
        trials = _complete(self.name)
        for name in self.variants:
            if not (trial := trials.get(name)):
                yield "open", f"`{name}`"
                continue
            value, n = shares(trial)["counts"]
            stands = standing(value, wilson_interval(round(value * n), n), _majority_in(trial))
            yield ("otherwise" if stands == "above" else "as expected"), f"`{name}` {share_text(value)} ({stands})"


@dataclass(frozen=True)
class Final:
    """A gain in the final run that is expected to be above zero in every seed that has both models."""

    metric: str
    mode: AnswerMode | None
    """None: `direct`, or of spelling."""
    comparison: str
    """Such as 'base_to_finetuned'."""

    def reference(self) -> str:
        """The model that it is a gain over."""
        role = self.comparison.removesuffix("_to_finetuned")
        return next(name for each, name in NAMES.items() if each == role)

    def found(self) -> Found:
        """The gain of each seed."""
        if not (run := read_final_run()):
            yield "open", "the final run"
            return
        metric = in_mode(self.metric, self.mode)
        gains = [find_difference(results, self.comparison, metric) for results in run.evaluations.values()]
        measured = [gain for gain in gains if gain]
        if not measured:
            yield "open", "not compared in the final run"
            return
        told = "; ".join(map(difference_text, measured))
        yield ("as expected" if all(gain.interval[0] > 0 for gain in measured) else "otherwise"), told


@dataclass(frozen=True)
class CeilingOfCounts:
    """The ceiling adapter's counts, expected not to get above always the most frequent answer."""

    def reference(self) -> str:
        """That of the final run's questions."""
        run = read_final_run()
        return f"majority class {share_text(_majority(run))}" if run else ""

    def found(self) -> Found:
        """The mean over the seeds that have a ceiling."""
        run = read_final_run()
        reached = accuracy(run.evaluations, "letter_count_accuracy", "direct", "ceiling") if run else None
        if not run or not reached:
            yield "open", "the final run"
            return
        stands = standing(reached.mean, reached.interval, _majority(run))
        told = f"ceiling {share_text(reached.mean, reached.interval)} ({stands})"
        yield ("otherwise" if stands == "above" else "as expected"), told


@dataclass(frozen=True)
class Prediction:
    """What a hypothesis expects, and where to look."""

    hypothesis: str
    expected: str
    evidence: Evidence


def _sweep(name: str, what: str, expected: Way, than: str, *variants: str) -> Sweep:
    return Sweep(name, what, expected, than, variants)


MORE_STEPS = ("twice_the_steps", "four_times_the_steps", "eight_times_the_steps")
FORMS = ("structured", "spaces", "never_joined", "capitals", "never_the_word", "the_word_in_half")
POSITIONS, COUNTS = "letter_position_accuracy", "letter_count_accuracy"
PREDICTIONS = (
    Prediction(
        "Amount", "more steps raise spelling", _sweep("amount", "spelling", "higher", "half_the_steps", *MORE_STEPS)
    ),
    Prediction(
        "Amount",
        "and with it positions, `direct`",
        _sweep("amount", "positions", "higher", "half_the_steps", *MORE_STEPS),
    ),
    Prediction(
        "Amount",
        "but counts, `direct`, stay at the majority class",
        NoBetterThanMajority("amount", ("half_the_steps", *MORE_STEPS)),
    ),
    *(
        Prediction("Amount", f"spelling raises {what}, `{mode}`", Final(metric, mode, "base_to_finetuned"))
        for mode in ("spell_first", "computed")
        for what, metric in (("positions", POSITIONS), ("counts", COUNTS))
    ),
    Prediction(
        "Places",
        "exercises inside a word raise positions",
        _sweep("exercises", "positions", "higher", "plain", *INSIDE),
    ),
    Prediction(
        "Recurrence",
        "exercises that choose letters raise counts",
        _sweep("exercises", "counts", "higher", "plain", *CHOOSING),
    ),
    Prediction(
        "Recurrence",
        "the other exercises do not",
        _sweep("exercises", "counts", "no different", "plain", *INSIDE, "strings", "every_plain"),
    ),
    Prediction(
        "Words of several tokens",
        "they raise spelling",
        _sweep("small", "spelling", "higher", "base", "sixteen_thousand_words", "sixteen_thousand_words_alone"),
    ),
    Prediction(
        "Capacity",
        "more rank or whole embeddings raise spelling",
        _sweep("small", "spelling", "higher", "base", "rank_128", "embeddings_whole", "embeddings_and_head_whole"),
    ),
    Prediction("Capacity", "less rank lowers it", _sweep("capacity", "spelling", "lower", "base", "rank_8")),
    Prediction("Capacity", "counts stay at the majority class even for the ceiling", CeilingOfCounts()),
    *(
        Prediction("Controls", f"{what} over {name}", Final(metric, None, f"{role}_to_finetuned"))
        for what, metric in (
            ("spelling", "spelling_accuracy"),
            ("positions, `direct`,", POSITIONS),
            ("counts, `direct`,", COUNTS),
        )
        for role, name in (
            ("control", "shuffled letters"),
            ("format_only", "the word repeated"),
            ("random_label", "random labels"),
        )
    ),
    Prediction(
        "Form",
        "texts in the form of the evaluation raise spelling",
        _sweep("small", "spelling", "higher", "base", "structured", "spaces", "never_joined", "never_the_word"),
    ),
    Prediction(
        "Form",
        "capitals alone, and half of the texts asking for the word, lower it",
        _sweep("small", "spelling", "lower", "base", "capitals", "the_word_in_half"),
    ),
    Prediction(
        "Form",
        "positions are no different",
        _sweep("small", "positions", "no different", "base", *FORMS),
    ),
    Prediction(
        "Form",
        "nor are counts",
        _sweep("small", "counts", "no different", "base", *FORMS),
    ),
)


def verdicts() -> str:
    """Every prediction with what came out as expected, what came out otherwise, and what is not recorded."""
    rows = []
    for prediction in PREDICTIONS:
        found = list(prediction.evidence.found())
        cells = ["; ".join(text for outcome, text in found if outcome == each) for each in OUTCOMES]
        expected = [prediction.hypothesis, prediction.expected, prediction.evidence.reference()]
        rows.append([cell or NOTHING for cell in (*expected, *cells)])
    header = ("hypothesis", "expected", "compared with", "came out so", "came out otherwise", "not recorded")
    return (
        f"{markdown_table(header, rows)}\n\nIn the sweeps 'higher', 'lower' and 'no different' are beyond chance "
        f"({TEST}); 'above' the majority class is who has the whole interval above it. Gains of the final run are in "
        "percentage points with 95% paired bootstrap intervals, a seed each, and are expected to be above zero in each."
    )


def _complete(name: str) -> dict[str, TrialResult]:
    recorded = recorded_sweep(name)
    return {trial.name: trial for trial in recorded.trials if trial.state == "complete"} if recorded else {}


def _share(trial: TrialResult, what: str) -> str:
    return share_text(shares(trial)[what][0])


def _majority_in(trial: TrialResult) -> float:
    return trial.seeds[0].majority_class["letter_count"]


def _majority(run: FinalRun) -> float:
    return next(iter(run.evaluations.values())).baselines["letter_count_majority_class"].value
