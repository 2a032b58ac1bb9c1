"""What docs/transfer_learning.md says became of the study's hypotheses: each expectation beside what the runs show.

Called from a cog block and run by `make docs`. Knows the hypotheses of the plan, as far as a test can decide them.
"""

from __future__ import annotations

from dataclasses import dataclass

from generated_study import TEST_IN_WORDS
from study_evidence import OUTCOMES, CountsOfTheCeiling, Evidence, Expected, GainInFinalRun, InSweep

from letterwise.reporting.summary import NOTHING
from letterwise.reporting.templating import markdown_table


@dataclass(frozen=True)
class Expectation:
    """What a hypothesis expects, and where to look."""

    hypothesis: str
    expected: str
    evidence: tuple[Evidence, ...]


LONGER = ("twice_the_steps", "four_times_the_steps", "eight_times_the_steps")
MORE: tuple[tuple[str, str, Expected], ...] = (
    ("more raises spelling", "spelling", "higher"),
    ("and with it positions, `direct`", "positions", "higher"),
    ("but not counts, `direct`", "counts", "not higher"),
)
INSIDE = ("inside", "backwards", "gaps", "parts", "pairs", "every_plain")
CHOOSING = ("groups", "choice", "hangman", "everything")
MIXED_IN = ("two_thousand", "eight_thousand", "sixteen_thousand")
EMBEDDINGS = ("rank_128", "embeddings_whole", "embeddings_and_head_whole")
CLOSER = ("structured", "spaces", "never_the_word")
FURTHER = ("capitals", "the_word_in_half")
FORMS = ("structured", "spaces", "never_joined", "never_the_word", "the_word_in_half")
"""Tone, what stands between letters, and direction."""
POSITIONS, COUNTS = "letter_position_accuracy", "letter_count_accuracy"

EXPECTATIONS = (
    *(
        Expectation(
            "Amount",
            expected,
            (
                InSweep("amount", what, way, "half_the_steps", LONGER),
                InSweep("small", what, way, "mostly_words", ("mostly_words_sixteen_times",)),
            ),
        )
        for expected, what, way in MORE
    ),
    *(
        Expectation(
            "Amount",
            f"the tuned model is better at {what}, `{mode}`",
            (GainInFinalRun(metric, mode, "base_to_finetuned"),),
        )
        for mode in ("spell_first", "computed")
        for what, metric in (("positions", POSITIONS), ("counts", COUNTS))
    ),
    Expectation(
        "Places",
        "exercises inside a word raise positions",
        (InSweep("exercises", "positions", "higher", "plain", INSIDE),),
    ),
    Expectation(
        "Recurrence",
        "exercises that choose letters raise counts",
        (InSweep("exercises", "counts", "higher", "plain", CHOOSING),),
    ),
    Expectation(
        "Recurrence",
        "the others do not",
        (InSweep("exercises", "counts", "not higher", "plain", (*INSIDE, "strings")),),
    ),
    Expectation(
        "Words of several tokens",
        "they raise spelling more than whole tokens",
        (
            InSweep("words", "spelling", "higher", "whole_tokens_alone", ("sixteen_thousand_alone",)),
            InSweep("small", "spelling", "higher", "whole_tokens_alone", ("sixteen_thousand_words_alone",)),
        ),
    ),
    Expectation(
        "Words of several tokens",
        "mixed in, they raise it too",
        (
            InSweep("words", "spelling", "higher", "base", MIXED_IN),
            InSweep("small", "spelling", "higher", "base", ("sixteen_thousand_words",)),
        ),
    ),
    Expectation(
        "Capacity",
        "more rank or whole embeddings raise spelling",
        tuple(InSweep(sweep, "spelling", "higher", "base", EMBEDDINGS) for sweep in ("capacity", "small")),
    ),
    Expectation("Capacity", "less rank lowers it", (InSweep("capacity", "spelling", "lower", "base", ("rank_8",)),)),
    Expectation(
        "Capacity",
        "the limit in counts is the model's, if they stay at the majority class even for the ceiling",
        (CountsOfTheCeiling(),),
    ),
    *(
        Expectation(
            "Controls",
            f"the gain in {what} over {name} counts as transfer",
            (GainInFinalRun(metric, None, f"{role}_to_finetuned"),),
        )
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
    Expectation(
        "Form",
        "texts closer to the evaluation raise spelling",
        tuple(InSweep(sweep, "spelling", "higher", "base", CLOSER) for sweep in ("templates", "small")),
    ),
    Expectation(
        "Form",
        "capitals alone, and half of the texts asking for the word, lower it",
        tuple(InSweep(sweep, "spelling", "lower", "base", FURTHER) for sweep in ("templates", "small")),
    ),
    *(
        Expectation(
            "Form",
            f"separators, tone and direction do not change {what}, `direct`",
            (
                InSweep("templates", what, "no different", "base", ("plain", *FORMS)),
                InSweep("small", what, "no different", "base", FORMS),
            ),
        )
        for what in ("positions", "counts")
    ),
)


def verdicts() -> str:
    """Every expectation with what came out so, what came out otherwise, and what is open."""
    rows = []
    for expectation in EXPECTATIONS:
        for evidence in expectation.evidence:
            found = list(evidence.found())
            cells = ["; ".join(text for outcome, text in found if outcome == each) for each in OUTCOMES]
            where = (evidence.source, evidence.reference())
            rows.append((expectation.hypothesis, expectation.expected, *where, *(cell or NOTHING for cell in cells)))
    header = ("hypothesis", "expected", "in", "compared with", "came out so", "came out otherwise", "open")
    return (
        f"{markdown_table(header, rows)}\n\nIn the sweeps 'higher' and 'lower' are beyond chance ({TEST_IN_WORDS}), "
        "and 'no different' is what is not: on a thousand items it hides differences of four points, and how far apart "
        "two trainings of one variant are, no sweep shows. Gains of the final run are in percentage points with 95% "
        "paired bootstrap intervals, one for each seed that has both models; they came out so where all are above zero."
    )
