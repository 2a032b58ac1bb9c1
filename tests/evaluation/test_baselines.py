from __future__ import annotations

import pandas as pd
import pytest

from letterwise.evaluation.baselines import compute_baselines, guess_counts, guess_letters

WORDS = ["tree", "seen", "moon", "door", "at", "of"]


def questions(rows: list[tuple[str, str, str | None, str | None, int]]) -> pd.DataFrame:
    columns = ["question_type", "answer", "letter", "position_class", "word_length"]
    return pd.DataFrame(rows, columns=columns)


def test_guessed_count_knows_the_letter_and_the_word_length() -> None:
    # In words of four letters: e occurs 2, 2, 0, 0 times (a tie, the smaller count wins), o 0, 0, 2, 2, s 0, 1, 0, 0.
    # Of two letters: a 1, 0. No word has nine letters, so all six count: e 2, 2, 0, 0, 0, 0.
    guesses = guess_counts(["e", "o", "s", "a", "e"], [4, 4, 4, 2, 9], WORDS)
    assert guesses == ["0", "0", "0", "0", "0"]
    assert guess_counts(["e", "e"], [4, 9], ["tree", "seen", "moon", "at", "of", "in"]) == ["2", "0"]


def test_guessed_letter_knows_the_class_of_the_position() -> None:
    # First: t s m d a o, all once, so a. Inner: r e e e o o o o, so o (4 against 3). Last: e n n r t f, so n.
    assert guess_letters(["first", "inner", "last", "inner"], WORDS) == ["a", "o", "n", "o"]


def test_words_of_two_letters_teach_no_inner_letter() -> None:
    assert guess_letters(["inner"], ["at", "it"]) == ["t"]


def test_majority_class_is_the_number_to_beat() -> None:
    asked = questions(
        [("letter_count", answer, "e", None, 4) for answer in ["1", "1", "1", "0", "2"]]
        + [("letter_position", answer, None, "first", 4) for answer in ["t", "s", "s", "t"]]
    )
    baselines = compute_baselines(asked, WORDS)
    assert baselines["letter_count_majority_class"].value == pytest.approx(3 / 5)
    assert baselines["letter_count_majority_class"].n == 5
    assert "'1'" in baselines["letter_count_majority_class"].description
    assert baselines["letter_position_majority_class"].value == pytest.approx(2 / 4)
    assert "'s'" in baselines["letter_position_majority_class"].description  # a tie: the first of the alphabet


def test_letter_frequency_is_scored_on_the_same_questions() -> None:
    asked = questions(
        [
            ("letter_count", "2", "o", None, 4),  # guess 0
            ("letter_count", "0", "o", None, 4),  # guess 0: right
            ("letter_position", "o", None, "inner", 4),  # guess o: right
            ("letter_position", "n", None, "last", 4),  # guess n: right
            ("letter_position", "t", None, "first", 4),  # guess a
        ]
    )
    baselines = compute_baselines(asked, WORDS)
    assert baselines["letter_count_letter_frequency"].value == pytest.approx(1 / 2)
    assert baselines["letter_position_letter_frequency"].value == pytest.approx(2 / 3)
    low, high = baselines["letter_position_letter_frequency"].interval
    assert low < 2 / 3 < high


def test_a_question_type_that_was_not_asked_has_no_baseline() -> None:
    baselines = compute_baselines(questions([("letter_count", "1", "e", None, 4)]), WORDS)
    assert baselines.keys() == {"letter_count_majority_class", "letter_count_letter_frequency"}
    assert compute_baselines(questions([]), WORDS) == {}
