from __future__ import annotations

import pytest

from letterwise.data.audit import (
    ALL_IMPURE_WORDS,
    answer_distribution,
    count_violations,
    impurities,
    require_clean,
    word_overlaps,
    words_in,
)
from letterwise.errors import LetterwiseError
from letterwise.tasks.questions import count_question, position_question


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The word cat has 3 letters: c a t", "digit"),
        ("Spell cat٣: c a t", "digit"),
        ("The word cat has three letters: c a t", "number_word"),
        ("In capitals, one is ONE.", "number_word"),
        ('The word "Twelve" is spelled: t w e l v e', "number_word"),
        ("She said it twice: c a t", "number_word"),
        ("The first letter of cat is c", "ordinal"),
        ("Third: t h i r d", "ordinal"),
        ("The last letter", "ordinal"),
        ("How many t's are in cat?", "count_or_position_word"),
        ("Count the letters of cat", "count_or_position_word"),
        ("Position: c", "count_or_position_word"),
        ("Word: cat\nLength: c a t", "count_or_position_word"),
        ("How long is cat?", "count_or_position_question"),
        ("What is the middle letter of cat?", "count_or_position_question"),
        ("Which letter comes after c?", "count_or_position_question"),
    ],
)
def test_each_impurity_is_seen(text: str, kind: str) -> None:
    assert kind in impurities(text)
    counts, example = count_violations(["The word dog is spelled: d o g", text])
    assert counts[kind] == 1
    assert example == text


@pytest.mark.parametrize(
    "text",
    ["How do you spell stone? s t o n e", "The word often is spelled: o f t e n", "Counter: c-o-u-n-t-e-r", "o-n-e"],
)
def test_words_that_only_contain_a_number_word_are_pure(text: str) -> None:
    assert impurities(text) == []
    assert count_violations([text])[1] is None


def test_the_impure_words_are_lower_case_letters() -> None:
    assert all(word.isalpha() and word.islower() for word in ALL_IMPURE_WORDS)
    assert {"one", "first", "count", "position", "third", "many"} <= ALL_IMPURE_WORDS


def test_overlaps_are_counted_for_each_pair_in_any_letter_case() -> None:
    overlaps, example = word_overlaps({"train": ["Straw", "berry"], "validation": ["plum"], "test": ["straw", "PLUM"]})
    assert overlaps == {"train∩validation": 0, "train∩test": 1, "validation∩test": 1}
    assert example == "'straw' is both in train and in test"
    assert word_overlaps({"train": ["a"], "test": ["b"]}) == ({"train∩test": 0}, None)


def test_words_are_found_wherever_they_stand() -> None:
    assert words_in(['The "Plum" is P-L-U-M: p l u m.', "kiwi\nfig_tree"]) == {
        *("the", "plum", "is", "kiwi", "fig", "tree")
    }


def test_answers_are_counted_by_class() -> None:
    questions = [
        *(count_question("banana", letter) for letter in "abnz"),
        *(position_question("banana", place) for place in (1, 2, 3, 6)),
    ]
    assert answer_distribution({"test": questions}) == {
        "test.letter_count": {"0": 1, "1": 1, "2": 1, "3+": 1},
        "test.letter_position": {"first": 1, "inner": 2, "last": 1},
    }


def test_the_leak_is_named() -> None:
    require_clean(None, None, [])
    with pytest.raises(LetterwiseError, match="The data would leak: 'plum' is both in train and in test"):
        require_clean("'plum' is both in train and in test", None, [])
    with pytest.raises(LetterwiseError, match=r"not spelling only \(digit\): 'cat has 3'"):
        require_clean(None, "cat has 3\n", [])
    with pytest.raises(LetterwiseError, match="The held-out word 'plum' is a single token where it is asked about"):
        require_clean(None, None, ["plum"])
