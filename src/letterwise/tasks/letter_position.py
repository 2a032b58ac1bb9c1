"""Letter position: how the question is put, its true answer, and how a model's answer is read.

Knows nothing about which words are asked about, nor about models: an answer is read from the text alone.
"""

from __future__ import annotations

import re
from string import ascii_lowercase

from letterwise.errors import LetterwiseError
from letterwise.tasks.answer_text import tidy

PHRASINGS: dict[str, str] = {
    "letter_in": "What is the {ordinal} letter in '{word}'?",
    "letter_of_word": 'What is the {ordinal} letter of the word "{word}"?',
    "comes": "Which letter comes {ordinal} in the word {word}?",
    "at_position": "Which letter is at position {position} in '{word}'?",
    "which_of": 'Which letter is the {ordinal} letter of "{word}"?',
    "in_the_word": "In the word {word}, what is the {ordinal} letter?",
    "in_position": "What letter is in position {position} of the word {word}?",
    "name_the_letter": "Name the {ordinal} letter of the word {word}.",
}
"""Name → question with the places {word} and {ordinal} or {position}."""


def letter_at(word: str, position: int) -> str:
    """The letter at the 1-based `position` of `word`, in lower case.

    Raises:
        LetterwiseError: the word has no such position.
    """
    if not 1 <= position <= len(word):
        raise LetterwiseError(f"'{word}' has no position {position}; give one from 1 to {len(word)}.")
    return word[position - 1].lower()


def ordinal(number: int) -> str:
    """1 → "1st", 2 → "2nd", 11 → "11th", 23 → "23rd"."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def candidates() -> list[str]:
    """The answers to score: "a" to "z"."""
    return list(ascii_lowercase)


# A letter that stands alone: not the s of "it's", nor a part of "s-t-r", "n/a" or "e.g.".
_ALONE = r"(?<![\w/-])(?<!\w['.]){}(?![\w/-]|['.]\w)"
_QUOTED = r"""(?<!\w)(?:"[a-z][.,]?"|'[a-z][.,]?')(?!\w)"""
# "a" and "i" are letters only where they cannot be the article and the pronoun: no other word follows.
_BARE = (
    rf"(?:{_ALONE.format('[b-hj-z]')}|{_ALONE.format('[ai]')}(?!\s+(?!(?:is|in|at|and|as|because|since|which)\b)\w))"
)
_LETTER = rf"(?P<letter>{_QUOTED}|{_BARE})"
_NAMED_LETTER = rf"(?P<named>{_QUOTED}|{_ALONE.format('[a-z]')})"
_AFTER_CUE = rf"[\s('\"]*(?:(?:(?:the\s+)?letter\s+){_NAMED_LETTER}|(?:an?\s+)?{_LETTER})"

_NOTHING_ELSE = re.compile(r"\W*([a-z])\W*")
_NOT_THE_ANSWER = re.compile(
    r"""
      (?<!\w)(?<!\w')[a-z](?:[\t ,.|>→"'-]+[a-z]\b(?!'\w)){2,}  # a word spelled out
    | \bnot\s+(?:an?\s+)?["']?[a-z]\b["']?                     # "not s but r"
    """,
    re.VERBOSE,
)
_RULES = (
    re.compile(rf"\banswer(?:\s+is)?:?{_AFTER_CUE}"),
    re.compile(rf"(?:\b(?:is|was|be)\b:?|'s\b|[:=]){_AFTER_CUE}"),
    re.compile(rf"\bletter\s+{_NAMED_LETTER}"),
    re.compile(rf"(?P<letter>{_QUOTED})"),
    re.compile(_LETTER),
)


def parse(text: str) -> str | None:
    """Read a letter from what a model wrote.

    A word spelled out ("s t r a w") and what the answer is said not to be ("not s") never count. The first match
    of the first rule that applies is the answer:

    1. a first line that holds one letter and no other: "r", "**R**", "'r'.", "A";
    2. a letter after "answer": "The answer is a.", "Answer: r";
    3. a letter after a form of "be", a colon or an equals sign: "The third letter is 'r'.", "it's an s";
    4. a letter after "letter": "the letter R";
    5. a letter in quotes: "'r' comes third";
    6. any letter that stands alone: "r (the third letter)".

    Without quotes or "letter" before it, "a" or "I" followed by another word is the article or the pronoun,
    except before a few words that only follow a name ("A is the third letter").

    Returns:
        A lower-case letter from a to z, or None when no letter can be read.
    """
    answer = tidy(text)
    first_line = answer.partition("\n")[0]
    if alone := _NOTHING_ELSE.fullmatch(first_line):
        return alone[1]
    answer = _NOT_THE_ANSWER.sub(" ", answer)
    for rule in _RULES:
        if match := rule.search(answer):
            return next(character for found in match.groups() if found for character in found if character.isalpha())
    return None
