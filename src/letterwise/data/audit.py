"""Proof that the data does not leak and that training text is spelling only.

Knows what a leak and an impure text are; knows nothing about how the data was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from letterwise.errors import LetterwiseError
from letterwise.tasks.questions import Question


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


IMPURE_WORDS: dict[str, frozenset[str]] = {
    "number_word": _words(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million",
        "billion trillion dozen ones twos threes fours fives sixes sevens eights nines tens hundreds thousands",
        "millions billions dozens once twice thrice single double triple",
    ),
    "ordinal": _words(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth",
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth hundredth thousandth nth",
        "seconds thirds fourths fifths last firstly secondly thirdly lastly",
    ),
    "count_or_position_word": _words(
        "count counts counted counting number numbers numbered numbering numeral numerals numeric numerical digit",
        "digits many position positions positioned positional positioning index indexes indices indexed ordinal",
        "ordinals length lengths",
    ),
}
"""Words that no training text may hold, also not as the word that is spelled; by kind."""

ALL_IMPURE_WORDS: frozenset[str] = frozenset().union(*IMPURE_WORDS.values())

_WORD = re.compile(r"[^\W\d_]{2,}")
_QUESTION = r"how (?:many|often|long)|what is the .{0,20}letter|which letter|number of|count of|letter at"
_PATTERNS = {
    "digit": re.compile(r"\d"),
    **{
        kind: re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(words))})(?![^\W_])", re.IGNORECASE)
        for kind, words in IMPURE_WORDS.items()
    },
    "count_or_position_question": re.compile(_QUESTION, re.IGNORECASE),
}
_SUSPICIOUS = re.compile(rf"\d|{_QUESTION}", re.IGNORECASE)


def impurities(text: str) -> list[str]:
    """The kinds of impurity in one training text; empty when it is spelling only."""
    # Nearly every text is pure, and looking its words up in a set tells that ten times faster than the patterns do.
    if ALL_IMPURE_WORDS.isdisjoint(_WORD.findall(text.lower())) and not _SUSPICIOUS.search(text):
        return []
    return [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]


def count_violations(texts: Iterable[str]) -> tuple[dict[str, int], str | None]:
    """How many texts have each kind of impurity, and the first such text."""
    counts = dict.fromkeys(_PATTERNS, 0)
    example: str | None = None
    for text in texts:
        for kind in impurities(text):
            counts[kind] += 1
            example = example or text
    return counts, example


class TextAudit:
    """What the audit has to know about training texts, noted as they come, so that they need not all be in memory."""

    def __init__(self) -> None:
        self.n = 0
        self.words: set[str] = set()
        self.templates: Counter[str] = Counter()
        self.violations = dict.fromkeys(_PATTERNS, 0)
        self.impure_example: str | None = None

    def add(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Take note of rows of the config `spelling`; the length templates are impure on purpose."""
        self.n += len(rows)
        self.words |= words_in(row["text"] for row in rows)
        self.templates.update(row["template"] for row in rows)
        counts, example = count_violations(row["text"] for row in rows if not row["template"].startswith("length_"))
        self.violations = {kind: count + counts[kind] for kind, count in self.violations.items()}
        self.impure_example = self.impure_example or example


def word_overlaps(word_sets: Mapping[str, Collection[str]]) -> tuple[dict[str, int], str | None]:
    """Shared words of each pair of sets, in no regard of letter case, and a sentence about the first one found."""
    folded = {name: {word.lower() for word in words} for name, words in word_sets.items()}
    overlaps: dict[str, int] = {}
    example: str | None = None
    for first, second in combinations(folded, 2):
        shared = folded[first] & folded[second]
        overlaps[f"{first}∩{second}"] = len(shared)
        if shared and example is None:
            example = f"'{min(shared)}' is both in {first} and in {second}"
    return overlaps, example


def words_in(texts: Iterable[str]) -> set[str]:
    """Every run of two or more letters in the texts, lower-case."""
    found: set[str] = set()
    for text in texts:
        found.update(_WORD.findall(text.lower()))
    return found


def answer_distribution(questions: Mapping[str, Sequence[Question]]) -> dict[str, dict[str, int]]:
    """For each '<split>.<question type>', how many questions have each class of answer."""
    distribution: dict[str, Counter[str]] = {}
    for split, asked in questions.items():
        for question in asked:
            classes = distribution.setdefault(f"{split}.{question.question_type}", Counter())
            classes[question.count_class or question.position_class or ""] += 1
    return {key: dict(sorted(classes.items())) for key, classes in distribution.items()}


def require_clean(overlap_example: str | None, impure_example: str | None, single_token_words: Sequence[str]) -> None:
    """Fail the build when anything leaks.

    Raises:
        LetterwiseError: names the word or text that leaks.
    """
    if overlap_example:
        raise LetterwiseError(f"The data would leak: {overlap_example}.")
    if impure_example:
        kinds = ", ".join(impurities(impure_example))
        raise LetterwiseError(f"A training text is not spelling only ({kinds}): {impure_example.strip()!r}.")
    if single_token_words:
        raise LetterwiseError(f"The held-out word '{single_token_words[0]}' is a single token where it is asked about.")
