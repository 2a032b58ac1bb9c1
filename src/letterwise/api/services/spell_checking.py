"""Spell checking: is a word known, and if it is not, which known word was probably meant?

Near words come from a symmetric-delete index (symspellpy). A softmax over few features of each of them, the language
model's probability among them, gives the suggestion and its confidence (a log-linear noisy channel; compare Kernighan,
Church and Gale, 1990). Knows words and how a model is asked; knows nothing about HTTP or which model it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from hunspell import Hunspell
from numpy.typing import NDArray
from rapidfuzz.distance import OSA
from scipy.special import expit, softmax
from symspellpy import SymSpell, Verbosity
from wordfreq import freq_to_zipf, get_frequency_dict

from letterwise.engines.engine import Engine
from letterwise.tasks.questions import Prompt

Floats = NDArray[np.float64]

MAX_DISTANCE = 2
"""A word further off, in edits (optimal string alignment), is not near: letters inserted, deleted, changed, swapped."""
MAX_CANDIDATES = 5
"""Most near words among which to choose; on development words a sixth was the right one in less than 1 of 300."""
MIN_ODDS = 1 / 200
"""A near word with worse odds than this against the best is no candidate, so that most words need no model."""

TINY = 1e-9
"""Smallest probability of a model that counts."""

EXAMPLES = (
    ("recieve", "receive"),
    ("definately", "definitely"),
    ("seperate", "separate"),
    ("wich", "which"),
    ("tommorow", "tomorrow"),
    ("fone", "phone"),
    ("adress", "address"),
    ("untill", "until"),
    ("langauge", "language"),
    ("buisness", "business"),
)
"""Corrections that show the model what is asked."""


class Weights(NamedTuple):
    """Weights of a softmax over the candidates and one more outcome: that none of them is right."""

    zipf: float
    """Per unit of the candidate's Zipf frequency: base-10 logarithm of occurrences per billion words."""
    distance: float
    """Per edit between word and candidate."""
    first_letter: float
    """For the same first letter."""
    last_letter: float
    """For the same last letter."""
    letters: float
    """For the same set of letters."""
    length: float
    """Per letter that the candidate is longer."""
    model: float
    """Per unit of the natural logarithm of the model's probability."""
    none: float
    """For the outcome that no candidate is right."""


# Fitted by `python benchmarks/spell_check.py MODEL --fit`, on development words.
WITHOUT_MODEL = Weights(1.1, -3.48, 2.23, 2.41, 2.6, 1.01, 0.0, 1.59)
WITH_MODEL = Weights(1.1, -3.84, 1.84, 2.29, 2.28, 1.34, 0.21, 0.85)
KNOWN_CONFIDENCE = (2.79, 1.12)
"""Logistic regression that a known word is correct: intercept, and slope per unit of its Zipf frequency."""
NO_SUGGESTION_CONFIDENCE = 0.6
"""Share of misspelled words among unknown ones without a suggestion; the others are rare words."""


@dataclass(frozen=True, slots=True)
class SpellCheck:
    """Whether a word is spelled correctly."""

    word: str
    is_correct: bool
    suggestion: str | None
    """The word that was probably meant; None when the word is correct or none is near enough."""
    confidence: float
    """Probability that the verdict is right, where as many words are misspelled as correct."""


@dataclass(frozen=True, slots=True)
class KnownWords:
    """The words that may have been meant, and what is known about them; nothing here changes."""

    hunspell: Hunspell
    zipf: Mapping[str, float]
    listed: frozenset[str]
    """The words of symspellpy's list."""
    index: SymSpell
    """Every known word by what is left of it without one or two letters."""


@cache
def _known_words() -> KnownWords:
    hunspell = Hunspell("en_US")
    zipf = {word: freq_to_zipf(value) for word, value in get_frequency_dict("en").items() if _is_plain(word)}
    lines = (files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_text(encoding="utf-8-sig").splitlines()
    listed = frozenset(word for word in (line.partition(" ")[0] for line in lines) if _is_plain(word))
    index = SymSpell(max_dictionary_edit_distance=MAX_DISTANCE)
    for word in listed.union(filter(hunspell.spell, zipf)):
        index.create_dictionary_entry(word, 1)
    return KnownWords(hunspell, zipf, listed, index)


class SpellChecker:
    """Checks single words of lower-case letters a to z.

    A server that batches calls `prepare`, lets a model score `prompt` where `needs_model` says so, and then calls
    `decide`; `check` does it all for a list of words.
    """

    def __init__(
        self, ask_model: bool = False, without_model: Weights = WITHOUT_MODEL, with_model: Weights = WITH_MODEL
    ) -> None:
        """Look the known words up; the first in a process builds their index, which takes some seconds.

        Args:
            ask_model: let a model choose between candidates. Off by default: on development words its suggestions were
                right no more often, and they take a forward pass (benchmarks/spell_check.py).
            without_model: weights for verdicts without a model.
            with_model: weights for verdicts with one.
        """
        self._ask_model = ask_model
        self._without_model = without_model
        self._with_model = with_model
        self._words = _known_words()

    def knows(self, word: str) -> bool:
        """Whether the word counts as correct: for Hunspell's or symspellpy's dictionary.

        Hunspell, which has the American words and builds inflections, takes a word in capitals for what it is in any
        case, so that names are known; symspellpy adds British words.
        """
        return word in self._words.listed or self._words.hunspell.spell(word.upper())

    def zipf(self, word: str) -> float:
        """The word's Zipf frequency (wordfreq); 0 for a word that is very rare."""
        return self._words.zipf.get(word, 0.0)

    def prepare(self, word: str) -> list[str]:
        """The words that may have been meant, best first without a model; none when the word is known."""
        if self.knows(word):
            return []
        near = [item.term for item in self._words.index.lookup(word, Verbosity.ALL, MAX_DISTANCE)]
        scores = (self.features(word, near) @ self._without_model)[:-1]
        best_first = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        return [near[place] for place in best_first if scores[place] >= scores.max() + math.log(MIN_ODDS)]

    def needs_model(self, candidates: Sequence[str]) -> bool:
        """Whether a model is to choose between these candidates."""
        return self._ask_model and len(candidates) > 1

    def prompt(self, word: str, candidates: Sequence[str]) -> tuple[Prompt, list[str]]:
        """What to let a model score: a prompt without other context, and the answers."""
        return correction_prompt(word), list(candidates)

    def decide(
        self, word: str, candidates: Sequence[str], model_probabilities: Sequence[float] | None = None
    ) -> SpellCheck:
        """The verdict on a word.

        Args:
            word: the word.
            candidates: what `prepare` gave.
            model_probabilities: the model's, one for each candidate; None where it was not asked.
        """
        if self.knows(word):
            intercept, slope = KNOWN_CONFIDENCE
            return SpellCheck(word, True, None, float(expit(intercept + slope * self.zipf(word))))
        weights = self._without_model if model_probabilities is None else self._with_model
        outcomes = softmax(self.features(word, candidates, model_probabilities) @ weights)
        best = int(outcomes.argmax())
        if best == len(candidates):
            return SpellCheck(word, False, None, NO_SUGGESTION_CONFIDENCE)
        return SpellCheck(word, False, candidates[best], float(outcomes[best]))

    def check(self, engine: Engine, words: Sequence[str]) -> list[SpellCheck]:
        """The verdicts on some words; the model is asked once, about all that need it."""
        candidates = [self.prepare(word) for word in words]
        unsure = [place for place, found in enumerate(candidates) if self.needs_model(found)]
        asked = [self.prompt(words[place], candidates[place]) for place in unsure]
        scores = engine.score([prompt for prompt, _ in asked], [answers for _, answers in asked]) if asked else []
        probabilities = dict(zip(unsure, scores, strict=True))
        return [
            self.decide(word, found, probabilities.get(place))
            for place, (word, found) in enumerate(zip(words, candidates, strict=True))
        ]

    def features(
        self, word: str, candidates: Sequence[str], model_probabilities: Sequence[float] | None = None
    ) -> Floats:
        """What the weights apply to: each candidate's features and, last, those of "none of them".

        Args:
            word: an unknown word.
            candidates: known words.
            model_probabilities: the model's, one for each candidate.

        Returns:
            Shape (candidates + 1, weights).
        """
        rows = np.zeros((len(candidates) + 1, len(Weights._fields)))
        for row, candidate in zip(rows, candidates, strict=False):
            row[:6] = (
                self.zipf(candidate),
                OSA.distance(word, candidate),
                word[0] == candidate[0],
                word[-1] == candidate[-1],
                set(word) == set(candidate),
                len(candidate) - len(word),
            )
        if model_probabilities is not None:
            rows[:-1, Weights._fields.index("model")] = np.log(np.maximum(model_probabilities, TINY))
        rows[-1, Weights._fields.index("none")] = 1
        return rows


def correction_prompt(word: str) -> Prompt:
    """Ask for the correction of a word after a few examples; it follows after a space."""
    return Prompt(_HEADER, f"\n\nMisspelled: {word}\nCorrect:")


_HEADER = "\n\n".join(f"Misspelled: {wrong}\nCorrect: {right}" for wrong, right in EXAMPLES)


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha()
