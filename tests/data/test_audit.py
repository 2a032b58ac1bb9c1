from __future__ import annotations

import pytest

from letterwise.data.audit import (
    ALL_IMPURE_WORDS,
    TextAudit,
    answer_distribution,
    impurities,
    require_clean,
    row_impurities,
    spelled_in,
    word_overlaps,
    words_in,
)
from letterwise.errors import LetterwiseError
from letterwise.tasks.questions import count_question, position_question
from letterwise.tasks.spelling import SPELLING_TEMPLATES, SpellingTemplate


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
        ("The word stone goes on after s t with o n e", "impure_word_letter_by_letter"),
        ("Parts: of + ten\nSpelling: o f + t e n", "impure_word_letter_by_letter"),
        ("Backwards: l-a-s-t", "impure_word_letter_by_letter"),
    ],
)
def test_each_impurity_is_seen(text: str, kind: str) -> None:
    assert kind in impurities(text)


@pytest.mark.parametrize(
    "text",
    ["How do you spell stone? s t o n e", "The word often is spelled: o f t e n", "Counter: c-o-u-n-t-e-r"],
)
def test_words_that_only_contain_a_number_word_are_pure(text: str) -> None:
    assert impurities(text) == []


@pytest.mark.parametrize("template", SPELLING_TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize("word", ["what", "which", "somewhat", "how", "name", "letter", "long", "often", "question"])
def test_no_word_turns_a_template_into_a_question(template: SpellingTemplate, word: str) -> None:
    for surface in (word, f" {word}", f" {word.capitalize()}"):
        text = template.render(surface, list(word)).text
        assert row_impurities({"text": text, "surface": surface}) == [], text


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


def row(
    text: str, surface: str = " cat", partner: str | None = None, exercise: str = "spelling"
) -> dict[str, str | None]:
    return {"text": text, "surface": surface, "partner": partner, "exercise": exercise, "template": "any"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The middle of cat: c a t", "place_or_amount_word"),
        ("The letter at the beginning of cat", "place_or_amount_word"),
        ("r occurs in cat", "place_or_amount_word"),
        ("Question: c a t", "evaluation_prompt"),
        ("Word: cat\nAnswer: c a t", "evaluation_prompt"),
        ("What letter of cat is that?", "count_or_position_question"),
        ("Name the missing letter of cat", "count_or_position_question"),
    ],
)
def test_wording_that_names_places_or_resembles_evaluation_is_seen(text: str, kind: str) -> None:
    assert kind in row_impurities(row(text))


@pytest.mark.parametrize(
    ("text", "surface", "partner"),
    [
        ("The word middle is spelled: m i d d l e", " middle", None),
        ('In capitals, "Start" is START.', "Start", None),
        ("Both start and end have n", " start", " end"),
        ('It is easy! "Question": q, u, e', "Question", None),
    ],
)
def test_the_word_that_is_spelled_may_name_a_place(text: str, surface: str, partner: str | None) -> None:
    assert row_impurities(row(text, surface, partner)) == []


def test_letters_are_joined_over_any_separator_and_between_them() -> None:
    spelled = spelled_in(["Spelled: s-t-r-a-w.", "B — e — d", "p, l, u, m", "f i g + o a k", "Q: Spell x.\nA: m u s e"])
    assert {"straw", "bed", "plum", "fig", "oak", "figoak", "muse"} <= spelled
    assert "amuse" not in spelled
    assert spelled_in(["The word straw, I say", "one by one"]) == set()


def test_held_out_words_are_found_joined_and_letter_by_letter() -> None:
    audit = TextAudit(["plum", "straw", "fig"])
    audit.add([row("Parts: plum + met"), row("Then: s t r a w"), row("Fig tree", exercise="chunks")])
    assert audit.leaked == {"plum", "fig"}
    assert audit.leaked_letters == {"straw"}
    assert audit.shares(audit.exercises) == {"chunks": 0.333333, "spelling": 0.666667}


def test_an_impure_row_is_counted_and_named() -> None:
    audit = TextAudit([])
    audit.add([row("Spell cat: c a t"), row("Spell the middle of cat: a"), row("Spell cat twice: 2")])
    found = {kind: count for kind, count in audit.violations.items() if count}
    assert found == {"place_or_amount_word": 1, "digit": 1, "number_word": 1}
    with pytest.raises(LetterwiseError, match=r"not spelling only \(place_or_amount_word\): 'Spell the middle of cat"):
        require_clean(None, audit.impure_example, [])
