"""Letter-count and letter-position questions: how they are sampled, phrased and put to a model.

Knows nothing about tokenizers or models; which words are held out is decided elsewhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from operator import itemgetter
from string import ascii_lowercase
from typing import Literal, TypeVar

from letterwise.errors import LetterwiseError
from letterwise.results import POSITION_CLASSES, PositionClass, QuestionType
from letterwise.tasks import letter_count, letter_position

CountClass = Literal["0", "1", "2", "3+"]
COUNT_CLASSES: tuple[CountClass, ...] = ("0", "1", "2", "3+")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its true answer; the fields are the columns of the published config `position_count`."""

    id: str
    question: str
    answer: str
    """A number in digits, or a lower-case letter."""
    question_type: QuestionType
    word: str
    letter: str | None = None
    """The letter to count; None for letter_position."""
    position: int | None = None
    """1-based; None for letter_count."""

    @property
    def count_class(self) -> CountClass | None:
        """The class by which count questions are balanced; None for letter_position."""
        return _count_class(int(self.answer)) if self.letter is not None else None

    @property
    def position_class(self) -> PositionClass | None:
        """The class by which position questions are balanced; None for letter_count."""
        return _position_class(self.word, self.position) if self.position is not None else None

    def candidates(self) -> list[str]:
        """The answers to score."""
        return letter_count.candidates(self.word) if self.letter is not None else letter_position.candidates()

    def parse(self, text: str) -> str | None:
        """Read an answer to this kind of question from what a model wrote; None when there is none."""
        return letter_count.parse(text) if self.letter is not None else letter_position.parse(text)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given, in parts, so that an engine can keep what it computed of those that prompts share.

    The header ends before a space or a line break, where tokenizers split anyway.
    """

    header: str
    """Shared by many prompts, such as the examples."""
    body: str
    """Of this prompt alone."""
    lead: str = ""
    """Between the two, shared by fewer prompts: a question up to its word."""

    @property
    def text(self) -> str:
        """The whole prompt."""
        return self.header + self.lead + self.body


def count_question(word: str, letter: str, phrasing: str = "plural_in_word", question_id: str = "") -> Question:
    """Ask how often `letter` occurs in `word`; `phrasing` is a name in `letter_count.PHRASINGS`.

    Raises:
        LetterwiseError: `letter` is not exactly one letter.
    """
    text = letter_count.PHRASINGS[phrasing].format(word=word, letter=letter)
    return Question(
        question_id, text, str(letter_count.count_letter(word, letter)), "letter_count", word, letter=letter
    )


def position_question(word: str, position: int, phrasing: str = "letter_in", question_id: str = "") -> Question:
    """Ask for the letter at the 1-based `position`; `phrasing` is a name in `letter_position.PHRASINGS`.

    Raises:
        LetterwiseError: the word has no such position.
    """
    text = letter_position.PHRASINGS[phrasing].format(
        word=word, position=position, ordinal=letter_position.ordinal(position)
    )
    answer = letter_position.letter_at(word, position)
    return Question(question_id, text, answer, "letter_position", word, position=position)


def question_contexts() -> tuple[str, ...]:
    """One question, with the place {word}, for each way in which text touches the word.

    How a tokenizer splits a word depends on the characters that touch it, not on words further off.
    """
    texts = [count_question("{word}", "e", name).question for name in letter_count.PHRASINGS]
    texts += [position_question("{word}", 3, name).question for name in letter_position.PHRASINGS]
    by_surroundings = {next(part for part in text.split() if "{word}" in part): text for text in texts}
    return tuple(by_surroundings.values())


def question_context(question: Question) -> str:
    """The question with the place {word} where its word stands.

    Raises:
        LetterwiseError: it is not worded in any of the ways that this version knows.
    """
    for template in _templates(question.letter, question.position):
        if template.replace("{word}", question.word) == question.question:
            return template
    raise LetterwiseError(
        f"The question '{question.question}' is worded as this version asks none; build the data anew."
    )


@cache
def _templates(letter: str | None, position: int | None) -> tuple[str, ...]:
    """The phrasings, filled but for the word."""
    if letter is not None:
        return tuple(text.format(word="{word}", letter=letter) for text in letter_count.PHRASINGS.values())
    ordinal = letter_position.ordinal(position or 1)
    return tuple(
        text.format(word="{word}", position=position, ordinal=ordinal) for text in letter_position.PHRASINGS.values()
    )


def make_questions(words: Sequence[str], count: int, position: int, seed: int, prefix: str) -> list[Question]:
    """Make `count` letter-count and then `position` letter-position questions about lower-case `words`.

    Counts are spread evenly over the answers 0, 1, 2 and 3+, positions over first, inner and last letter; where the
    words give too few questions of a class, the others make up for it. Within a class words are used as evenly as
    possible, (word, letter) and (word, position) are never repeated, and phrasings are dealt in turn. The classes
    alternate, so that the first questions of a type are as balanced as all of them.

    The absent letters of answer 0 are drawn in proportion to how often each letter occurs in the words: drawn
    uniformly they would mostly be rare letters, and "0 if the letter is rare" would pass for counting.

    The result depends on the set of words and on `seed` alone, not on the order of the words.

    Raises:
        LetterwiseError: there are no words, or too few for that many different questions.
    """
    unique = sorted(set(words))
    if not unique:
        raise LetterwiseError("There are no words to ask about; loosen the word filter to let some through.")
    # Each type has a stream of its own: asking for more of one leaves the other as it is.
    rng = random.Random(f"{seed} letter_count")
    counts = _phrase(_deal(_count_pools(unique, rng), count, rng), letter_count.PHRASINGS)
    rng = random.Random(f"{seed} letter_position")
    positions = _phrase(_deal(_position_pools(unique, rng), position, rng), letter_position.PHRASINGS)
    return [
        count_question(word, letter, phrasing, f"{prefix}-count-{number:04d}")
        for number, (word, letter, phrasing) in enumerate(counts, start=1)
    ] + [
        position_question(word, place, phrasing, f"{prefix}-position-{number:04d}")
        for number, (word, place, phrasing) in enumerate(positions, start=1)
    ]


FEW_SHOT_EXAMPLES: dict[QuestionType, tuple[Question, ...]] = {
    "letter_count": (
        count_question("butter", "t", "plural_in_word"),
        count_question("mountain", "e", "times_occur"),
        count_question("cheese", "e", "times_appear"),
        count_question("hospital", "s", "number_of"),
    ),
    "letter_position": (
        position_question("bridge", 3, "letter_in"),
        position_question("yellow", 6, "letter_of_word"),
        position_question("castle", 1, "comes"),
        position_question("breakfast", 5, "at_position"),
    ),
}
"""The fixed examples that show the form of an answer; every class of answer occurs."""

FEW_SHOT_WORDS: frozenset[str] = frozenset(
    example.word for examples in FEW_SHOT_EXAMPLES.values() for example in examples
)
"""Words of the examples, lower-case: they may be neither trained on nor asked about."""


def direct_prompt(question: Question) -> Prompt:
    """Mode `direct`: a few fixed examples, then the question; the model continues with `" " + answer`."""
    return _prompt(question, None)


def spell_first_prompt(question: Question, spelling: str) -> Prompt:
    """Mode `spell_first`: as `direct_prompt`, with each word's letters between question and answer.

    Args:
        question: the question to put.
        spelling: the letters that the model wrote for the word, joined ("strawberry"); right or wrong, even "".
    """
    return _prompt(question, spelling)


def _prompt(question: Question, spelling: str | None) -> Prompt:
    asked = "\n\n" + _ask(question, spelling)
    # Any place is right; before the word, all questions about that letter or position share what is cached.
    lead, word, rest = asked.partition(question.word)
    return Prompt(_examples(question.question_type, spelling is not None), word + rest, lead)


@cache
def _examples(question_type: QuestionType, spelled: bool) -> str:
    return "\n\n".join(
        f"{_ask(example, example.word if spelled else None)} {example.answer}"
        for example in FEW_SHOT_EXAMPLES[question_type]
    )


def _ask(question: Question, spelling: str | None) -> str:
    lines = [f"Question: {question.question}"]
    if spelling is not None:
        lines.append(f"Spelling: {' '.join(spelling)}".rstrip())
    return "\n".join([*lines, "Answer:"])


def _count_class(count: int) -> CountClass:
    return COUNT_CLASSES[min(count, 3)]


def _position_class(word: str, position: int) -> PositionClass:
    if position == 1:
        return "first"
    return "last" if position == len(word) else "inner"


Class = TypeVar("Class", bound=str)
Asked = TypeVar("Asked", str, int)
"""What is asked of a word: a letter or a position."""


def _count_pools(words: list[str], rng: random.Random) -> dict[CountClass, list[tuple[str, str]]]:
    pools: dict[CountClass, list[tuple[str, str]]] = {name: [] for name in COUNT_CLASSES}
    for word in words:
        for letter in ascii_lowercase:
            pools[_count_class(word.count(letter))].append((word, letter))
    occurrences = Counter("".join(words))
    lacking = Counter(letter for _, letter in pools["0"])
    for pool in pools.values():
        rng.shuffle(pool)
    # A weighted shuffle by an exponential race (Efraimidis and Spirakis, 2006): letters come up in proportion to their
    # occurrences, however many words lack them. One is added so that no weight is zero.
    pools["0"].sort(key=lambda pair: rng.expovariate((occurrences[pair[1]] + 1) / lacking[pair[1]]))
    return pools


def _position_pools(words: list[str], rng: random.Random) -> dict[PositionClass, list[tuple[str, int]]]:
    pools: dict[PositionClass, list[tuple[str, int]]] = {name: [] for name in POSITION_CLASSES}
    for word in words:
        for position in range(1, len(word) + 1):
            pools[_position_class(word, position)].append((word, position))
    for pool in pools.values():
        rng.shuffle(pool)
    return pools


def _deal(
    pools: Mapping[Class, list[tuple[str, Asked]]], total: int, rng: random.Random
) -> list[list[tuple[str, Asked]]]:
    """Take `total` pairs off the pools, as evenly over them as they allow, and of each pool the least used words."""
    if total > (available := sum(map(len, pools.values()))):
        raise LetterwiseError(
            f"The words give only {available} different questions of a type where {total} are asked for; "
            "use more words or ask fewer questions."
        )
    chosen: dict[Class, list[tuple[str, Asked]]] = {}
    used: Counter[str] = Counter()
    # The smallest pool goes first: it chooses while all words are unused, and the others share out what it lacks.
    for pools_left, name in zip(
        range(len(pools), 0, -1), sorted(pools, key=lambda name: len(pools[name])), strict=True
    ):
        uses = used.copy()
        by_use: list[tuple[int, tuple[str, Asked]]] = []
        for pair in pools[name]:
            by_use.append((uses[pair[0]], pair))
            uses[pair[0]] += 1
        by_use.sort(key=itemgetter(0))
        quota = min(len(by_use), total // pools_left)
        chosen[name] = [pair for _, pair in by_use[:quota]]
        rng.shuffle(chosen[name])
        used.update(word for word, _ in chosen[name])
        total -= quota
    return [chosen[name] for name in pools]


def _phrase(chosen: list[list[tuple[str, Asked]]], phrasings: Iterable[str]) -> Iterator[tuple[str, Asked, str]]:
    """Take one pair of each class in turn, every turn with the next phrasing."""
    for turn, phrasing in zip(range(max(map(len, chosen))), cycle(phrasings), strict=False):
        for pairs in chosen:
            if turn < len(pairs):
                word, asked = pairs[turn]
                yield word, asked, phrasing
