"""What guessers reach that never see a word's letters: the numbers every accuracy is read against.

Knows the questions and a list of reference words; knows nothing about models.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache

import pandas as pd

from letterwise.evaluation.statistics import wilson_interval
from letterwise.results import Baseline


def compute_baselines(questions: pd.DataFrame, reference_words: Sequence[str]) -> dict[str, Baseline]:
    """The baselines of `EvaluationResults.baselines`, for the question types that were asked.

    Args:
        questions: One row per question, with columns of `POSITION_COUNT_PREDICTION_COLUMNS`.
        reference_words: Lower-case words from which letter frequencies are learned: the training words, at least one.

    Returns:
        For each question type two guessers, ties broken by the smaller count or the earlier letter of the alphabet:
        `majority_class` always gives the most frequent true answer among these very questions, so it is the number to
        beat; `letter_frequency` knows the word's length and the asked letter, or the class of the asked position.
    """
    baselines: dict[str, Baseline] = {}
    counts = questions[questions["question_type"] == "letter_count"]
    if len(counts):
        baselines |= _majority_class("letter_count", counts["answer"])
        baselines["letter_count_letter_frequency"] = _baseline(
            guess_counts(counts["letter"], counts["word_length"], reference_words),
            counts["answer"],
            "the most likely count of the asked letter in a training word of the same length",
        )
    positions = questions[questions["question_type"] == "letter_position"]
    if len(positions):
        baselines |= _majority_class("letter_position", positions["answer"])
        baselines["letter_position_letter_frequency"] = _baseline(
            guess_letters(positions["position_class"], reference_words),
            positions["answer"],
            "the most frequent letter of the training words at the same place: first, inner or last",
        )
    return baselines


def guess_counts(letters: Iterable[str], word_lengths: Iterable[int], reference_words: Sequence[str]) -> list[str]:
    """The most likely count of each letter in a reference word of that length, or of any length if there is none."""
    by_length = defaultdict(list)
    for word in reference_words:
        by_length[len(word)].append(word)

    @cache
    def guess(letter: str, length: int) -> str:
        return _most_frequent(str(word.count(letter)) for word in by_length.get(length, reference_words))

    return [guess(letter, length) for letter, length in zip(letters, word_lengths, strict=True)]


def guess_letters(position_classes: Iterable[str], reference_words: Sequence[str]) -> list[str]:
    """The most frequent letter of the reference words at each class of position: first, inner or last."""
    places = {"first": slice(None, 1), "inner": slice(1, -1), "last": slice(-1, None)}
    guesses = {
        # Words of two letters have no inner ones; any letter is then the best that is known.
        name: _most_frequent("".join(word[place] for word in reference_words) or "".join(reference_words))
        for name, place in places.items()
    }
    return [guesses[name] for name in position_classes]


def majority_class_accuracy(answers: Sequence[str]) -> float:
    """What always giving the most frequent of the true answers comes to; there has to be one."""
    return answers.count(_most_frequent(answers)) / len(answers)


def _majority_class(question_type: str, answers: pd.Series[str]) -> dict[str, Baseline]:
    guess = _most_frequent(answers)
    description = f"always the most frequent answer, '{guess}'"
    return {f"{question_type}_majority_class": _baseline([guess] * len(answers), answers, description)}


def _baseline(guesses: Sequence[str], answers: Iterable[str], description: str) -> Baseline:
    n = len(guesses)
    right = sum(guess == answer for guess, answer in zip(guesses, answers, strict=True))
    return Baseline(value=right / n, interval=wilson_interval(right, n), n=n, description=description)


def _most_frequent(answers: Iterable[str]) -> str:
    """The most frequent answer; of equally frequent ones the smallest number or the first letter."""
    frequencies = Counter(answers)
    return min(frequencies, key=lambda answer: (-frequencies[answer], len(answer), answer))
