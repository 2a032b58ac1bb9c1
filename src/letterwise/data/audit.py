"""Proof that the data does not leak, that training text is spelling only, and that no template is over-represented.

Knows what a leak and an impure text are; knows nothing about how the data was made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from letterwise.errors import LetterwiseError
from letterwise.tasks.questions import Question
from letterwise.tasks.template_mix import TemplateGroup


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

PLACE_OR_AMOUNT_WORDS: frozenset[str] = _words(
    "begin begins beginning beginnings start starts starting end ends ending endings middle centre center initial",
    "initials final finally front rear penultimate leftmost rightmost previous next place places slot slots rank ranks",
    "half halfway times occur occurs occurrence occurrences appear appears amount amounts total totals tally frequency",
)
"""Words that no text may hold beside the words it spells: they name a place in a word or an amount."""

_WORD = re.compile(r"[^\W\d_]{2,}")
_QUESTION = (
    r"how (?:many|often|long)|what is the .{0,20}letter|which letter|what letter|name the .{0,20}letter|number of|"
    r"count of|letter at"
)
_PROMPT = r"^(?:Question|Answer):"
_PATTERNS = {
    "digit": re.compile(r"\d"),
    **{
        kind: re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(words))})(?![^\W_])", re.IGNORECASE)
        for kind, words in IMPURE_WORDS.items()
    },
    "count_or_position_question": re.compile(_QUESTION, re.IGNORECASE),
    "evaluation_prompt": re.compile(_PROMPT, re.MULTILINE),
}
_SUSPICIOUS = re.compile(rf"\d|{_QUESTION}|{_PROMPT}", re.IGNORECASE | re.MULTILINE)
_BESIDE = "place_or_amount_word"
_LETTER_BY_LETTER = "impure_word_letter_by_letter"

# A colon stands before a spelling, not inside it: the A of "A: m u s e" is no letter of it.
_SPELLED = re.compile(r"(?<![^\W_])[^\W\d_](?:[^\w\n:;!?=]{1,7}[^\W\d_](?![^\W_]))+")
_GROUP = re.compile(r" ?[^\w\s]+ ?")


def impurities(text: str) -> list[str]:
    """The kinds of impurity in one training text; empty when it is spelling only.

    Part of a spelling may spell an impure word: "o n e" is the rest of "s t o n e".
    """
    kinds = [] if ALL_IMPURE_WORDS.isdisjoint(spelled_in([text])) else [_LETTER_BY_LETTER]
    # Nearly every text is pure, and looking its words up in a set tells that ten times faster than the patterns do.
    if ALL_IMPURE_WORDS.isdisjoint(_WORD.findall(text.lower())) and not _SUSPICIOUS.search(text):
        return kinds
    return [*(kind for kind, pattern in _PATTERNS.items() if pattern.search(text)), *kinds]


def row_impurities(row: Mapping[str, str | None]) -> list[str]:
    """The kinds of impurity in one row of the config `spelling`, with words that stand beside those it is about.

    "middle" may be spelled, but no wording may say "the middle of".
    """
    text = str(row["text"])
    kinds = impurities(text)
    if not PLACE_OR_AMOUNT_WORDS.isdisjoint(_WORD.findall(text.lower())):
        own = "|".join(re.escape(str(row[name]).strip()) for name in ("surface", "partner") if row.get(name))
        beside = re.sub(rf"(?<![^\W_])(?:{own})(?![^\W_])", " ", text, flags=re.IGNORECASE)
        if not PLACE_OR_AMOUNT_WORDS.isdisjoint(_WORD.findall(beside.lower())):
            kinds.append(_BESIDE)
    return kinds


class TextAudit:
    """What the audit has to know about training texts, noted as they come, so that they need not all be in memory."""

    def __init__(self, held_out: Collection[str]) -> None:
        """Begin an audit.

        Args:
            held_out: lower-case words that no text may hold, neither joined nor letter by letter.
        """
        self.held_out = frozenset(held_out)
        self.n = 0
        self.leaked: set[str] = set()
        self.leaked_letters: set[str] = set()
        self.templates: Counter[str] = Counter()
        self.exercises: Counter[str] = Counter()
        self.violations = dict.fromkeys([*_PATTERNS, _LETTER_BY_LETTER, _BESIDE], 0)
        self.impure_example: str | None = None

    def add(self, rows: Sequence[Mapping[str, str | None]]) -> None:
        """Take note of rows of the config `spelling`; the length templates are impure on purpose."""
        self.n += len(rows)
        texts = [str(row["text"]) for row in rows]
        self.leaked |= words_in(texts) & self.held_out
        self.leaked_letters |= spelled_in(texts) & self.held_out
        self.templates.update(str(row["template"]) for row in rows)
        self.exercises.update(str(row["exercise"]) for row in rows)
        for row in rows:
            if not str(row["template"]).startswith("length_") and (kinds := row_impurities(row)):
                for kind in kinds:
                    self.violations[kind] += 1
                self.impure_example = self.impure_example or str(row["text"])

    def shares(self, counted: Counter[str]) -> dict[str, float]:
        """Counted texts as shares of all."""
        return {name: round(count / self.n, 6) for name, count in sorted(counted.items())}


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


def spelled_in(texts: Iterable[str]) -> set[str]:
    """Every run of two or more single letters in the texts, joined, lower-case.

    Of "s t, r a w" that is "straw" and, between the commas, "st" and "raw".
    """
    found: set[str] = set()
    for text in texts:
        for run in _SPELLED.findall(text.lower()):
            found.add(re.sub(r"[\W_]", "", run))
            found.update(re.sub(r"\s", "", group) for group in _GROUP.split(run))
    return {letters for letters in found if len(letters) > 1}


def answer_distribution(questions: Mapping[str, Sequence[Question]]) -> dict[str, dict[str, int]]:
    """For each '<split>.<question type>', how many questions have each class of answer."""
    distribution: dict[str, Counter[str]] = {}
    for split, asked in questions.items():
        for question in asked:
            classes = distribution.setdefault(f"{split}.{question.question_type}", Counter())
            classes[question.count_class or question.position_class or ""] += 1
    return {key: dict(sorted(classes.items())) for key, classes in distribution.items()}


def misused_template(plain: Mapping[str, int], groups: Sequence[TemplateGroup]) -> str | None:
    """A sentence about a template that is used more or less than asked for; None where every one has its share.

    Each group has its share of the plain spellings to within one text, and two templates of a group differ by one text
    at most.

    Args:
        plain: how many plain spellings each template makes.
        groups: what was asked for.
    """
    total = sum(plain.values())
    asked: dict[str, float] = {}
    even = True
    for group in groups:
        wanted, counts = total * group.share, [plain.get(template.name, 0) for template in group.templates]
        asked |= {template.name: wanted / len(counts) for template in group.templates}
        even = even and abs(sum(counts) - wanted) <= 1 and max(counts) - min(counts) <= 1
    if even and plain.keys() <= asked.keys():
        return None
    names = sorted({*asked, *plain})
    worst = max(names, key=lambda name: abs(plain.get(name, 0) - asked.get(name, 0.0)))
    count, wanted = plain.get(worst, 0), asked.get(worst, 0.0)
    return f"'{worst}' makes {count:,} of {total:,} plain spellings, where {wanted:,.1f} were asked for"


def require_clean(
    overlap_example: str | None,
    impure_example: str | None,
    single_token_words: Sequence[str],
    misused: str | None = None,
) -> None:
    """Fail the build when anything leaks, or a template is over-represented.

    Raises:
        LetterwiseError: names the word, text or template.
    """
    if overlap_example:
        raise LetterwiseError(f"The data would leak: {overlap_example}.")
    if impure_example:
        # Only that of words beside the one spelled is not seen in the text alone.
        kinds = ", ".join(impurities(impure_example) or [_BESIDE])
        raise LetterwiseError(f"A training text is not spelling only ({kinds}): {impure_example.strip()!r}.")
    if single_token_words:
        raise LetterwiseError(f"The held-out word '{single_token_words[0]}' is a single token where it is asked about.")
    if misused:
        raise LetterwiseError(f"The templates are not mixed as asked for: {misused}.")
