"""Letter count: how the question is put, its true answer, and how a model's answer is read.

Knows nothing about which words are asked about, nor about models: an answer is read from the text alone.
"""

from __future__ import annotations

import re

from letterwise.errors import LetterwiseError
from letterwise.tasks.answer_text import tidy

PHRASINGS: dict[str, str] = {
    "plural_in_word": "How many {letter}'s are in the word '{word}'?",
    "times_occur": 'How many times does the letter "{letter}" occur in {word}?',
    "times_appear": "How many times does the letter '{letter}' appear in '{word}'?",
    "plural_there_are": 'How many {letter}\'s are there in "{word}"?',
    "number_of": "What is the number of {letter}'s in the word {word}?",
    "occurrences": "How many occurrences of the letter '{letter}' are in the word \"{word}\"?",
    "in_the_word": "In the word {word}, how many {letter}'s are there?",
    "count_the_letter": "Count the letter '{letter}' in the word {word}.",
}
"""Name → question with the places {word} and {letter}."""


def count_letter(word: str, letter: str) -> int:
    """How often `letter` occurs in `word`, whatever the case of either.

    Raises:
        LetterwiseError: `letter` is not exactly one letter.
    """
    if len(letter) != 1 or not letter.isalpha():
        raise LetterwiseError(f"{letter!r} is not a letter; give exactly one.")
    return word.lower().count(letter.lower())


def candidates(word: str) -> list[str]:
    """The answers to score for `word`: "0" to its length, but at least to "3" and at most to "9".

    One digit each, so that no answer is put at a disadvantage by being several tokens.
    """
    return [str(number) for number in range(min(9, max(3, len(word))) + 1)]


NUMBER_WORDS: tuple[str, ...] = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)
"""English for 0 to 20, in order."""

_VALUES = {word: value for value, word in enumerate(NUMBER_WORDS)} | {"single": 1, "once": 1, "twice": 2, "thrice": 3}

# Neither a part of a word, an ordinal, a decimal number or a range, nor joined to a word ("ten-letter").
_NUMBER = rf"(?<![\w-])(?<![0-9][.,])(?:[0-9]{{1,2}}|{'|'.join(NUMBER_WORDS)})(?![\w-]|[.,][0-9])"
_UNIT = r"""(?:times?|occurrences?|instances?|(?:letters?\s+)?["']?(?!(?:is|as|us)\b)[a-z]["']?(?:'?s)?)(?!\w)"""

_LIST_MARKER = re.compile(r"^[ \t]*([0-9]{1,2})[.)][ \t]+(?=\S)", re.MULTILINE)
_NOT_THE_COUNT = re.compile(
    rf"""
      \b(?:positions?|index|indexes|indices|places?|letters?|characters?)\s+{_NUMBER}
        (?:\s*(?:,|and|,\s*and|&)\s*{_NUMBER})*                               # "at positions 3 and 8"
    | {_NUMBER}\s+(?:letters?|characters?|syllables?)\b(?!\s+["']?[a-z]\b)    # "has 10 letters", not "2 letters r"
    | \b(?:this|that|the|which|each|every|no|any|first|last|another)\s+one\b  # a pronoun
    | \bone\s+by\s+one\b
    | \b(?:word|in|of)\s+(?P<quote>["'])[a-z]+(?P=quote)                      # the word asked about may be 'nine'
    """,
    re.VERBOSE,
)
_ONLY_NUMBER = re.compile(rf"\A[^\w\n]*(?P<value>{_NUMBER})[^\w\n]*$", re.MULTILINE)
_CONCLUSION = re.compile(rf"\b(?:answer(?:\s+is)?|total(?:\s+(?:of|is))?)\W*(?P<value>{_NUMBER})")
_COUNTED = re.compile(
    rf"""
      (?P<value>
          {_NUMBER}(?=[\s)"']*{_UNIT}) | \bsingle(?=\s+{_UNIT})
        | \bonce\b(?!\s+(?:you|we|i)\b) | \b(?:twice|thrice)\b
      )
    | \b(?:none|never)\b | \bno\s+{_UNIT}
    | \b(?:do|does|is|are)(?:\s+not|n't)\s+(?:appear|occur|contain|have|include|in|present|any|an?)\b
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(rf"(?P<value>{_NUMBER})")


def parse(text: str) -> str | None:
    """Read a count from what a model wrote.

    Ordinals, positions ("at positions 3 and 8"), lengths ("10 letters"), list markers ("1. ") and a quoted word
    never count. Of what is left, the first match of the first rule that applies is the answer:

    1. a first line that holds a number and no word: "3", "**Three**.";
    2. a number after "answer" or "total": "Answer: 2", "a total of three";
    3. a number that says what it counts: "2 times", "three r's", "twice", "a single r", "no r's", "none",
       "does not appear";
    4. any number: "3 (three)", "r = 2";
    5. the list marker, if there is just one: "3. Yes".

    Numbers are digits below 100 or words up to twenty.

    Returns:
        The count in digits without leading zeros, or None when no count can be read.
    """
    answer = tidy(text)
    markers = _LIST_MARKER.findall(answer)
    answer = _NOT_THE_COUNT.sub(" ", _LIST_MARKER.sub("", answer))
    for rule in (_ONLY_NUMBER, _CONCLUSION, _COUNTED, _PLAIN):
        if match := rule.search(answer):
            return _digits(match["value"])
    return _digits(markers[0]) if len(markers) == 1 else None


def _digits(value: str | None) -> str:
    if value is None:  # matched one of the ways to say that there is none
        return "0"
    return str(_VALUES[value] if value in _VALUES else int(value))
