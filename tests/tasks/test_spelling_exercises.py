from __future__ import annotations

import random
from string import ascii_lowercase
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterwise.data.audit import row_impurities
from letterwise.data_config import ExerciseName
from letterwise.tasks.exercise_draws import LONGEST_GROWING, letter_string
from letterwise.tasks.spelling import SPELLING_TEMPLATES
from letterwise.tasks.spelling_exercises import EXERCISES, WORDINGS, Exercise, Wording

each_exercise = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES.keys())
each_wording = pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS.keys())
words = st.text(ascii_lowercase, min_size=2, max_size=14)


def fields(exercise: Exercise, word: str, other: str, seed: int) -> dict[str, str] | None:
    return exercise.draw([word, other], [list(word), list(other)], random.Random(seed))


def is_right(name: str, word: str, other: str, shown: str, answer: str) -> bool:
    """Whether this is what the exercise asks for; letters are joined, groups stand between commas."""
    groups = answer.split(",")
    match name:
        case "continuation":
            return shown + answer == word and "" not in (shown, answer)
        case "from_letter":
            return answer == word[word.index(shown) :] and word.count(shown) == 1
        case "stretch":
            return answer in word and answer[0] == shown and len(answer) > 1
        case "backwards":
            return answer == word[::-1]
        case "cloze":
            pairs = list(zip(word, shown, strict=True))
            missing = [letter for letter, seen in pairs if seen == "_"]
            return "".join(missing) == answer and all(seen in ("_", letter) for letter, seen in pairs)
        case "chunks":
            return shown == answer and answer.replace("+", "") == word
        case "growing":
            return groups == [word[: end + 1] for end in range(len(word))]
        case "side_by_side":
            places = range(max(len(word), len(other)))
            return groups == [word[place : place + 1] + other[place : place + 1] for place in places]
        case "proofread":
            return answer == word != shown and abs(len(shown) - len(word)) < 2
        case "strings":
            return answer == word
        case "neighbours":
            return groups == [word[at : at + 2] for at in range(len(word) - 1) if word[at] == shown]
        case "shared":
            return set(answer) == set(word) & set(other) and len(set(answer)) == len(answer)
        case "sorted":
            return answer == "".join(sorted(word))
        case "grouped":
            return groups == [letter * word.count(letter) for letter in dict.fromkeys(word)]
        case "without":
            return shown in word and answer == word.replace(shown, "")
        case "picked":
            return answer == shown * word.count(shown) != ""
        case "hangman":
            return answer == "".join(letter if letter == shown else "_" for letter in word)
    raise AssertionError(f"{name} is not known here")


def test_there_is_an_exercise_of_every_name_that_the_configuration_knows() -> None:
    assert ["spelling", *EXERCISES] == list(get_args(ExerciseName))


@each_exercise
@given(words, words, st.integers(0, 99))
def test_what_is_produced_are_the_letters_asked_for(exercise: Exercise, word: str, other: str, seed: int) -> None:
    drawn = fields(exercise, word, other, seed)
    if drawn is not None:
        shown, answer = (drawn.get(name, "").replace(" ", "") for name in ("given", "answer"))
        assert is_right(exercise.name, word, other, shown, answer)
        assert " ".join(drawn["answer"].split()) == drawn["answer"] != ""


@each_exercise
def test_it_suits_most_words_of_five_letters_or_more(exercise: Exercise) -> None:
    long = ["straw", "berry", "window", "people", "letters"]
    drawn = [fields(exercise, word, "tree", seed) for word in long for seed in range(20)]
    assert sum(each is not None for each in drawn) > len(drawn) / 2


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *(("continuation", "it"), ("cloze", "it"), ("chunks", "its"), ("proofread", "it"), ("neighbours", "it")),
        *(("from_letter", "noon"), ("stretch", "add"), ("without", "zz"), ("growing", "a" * (LONGEST_GROWING + 1))),
    ],
)
def test_words_that_an_exercise_does_not_suit_are_left_to_others(name: str, word: str) -> None:
    assert all(fields(EXERCISES[name], word, "tree", seed) is None for seed in range(20))


def test_words_without_a_letter_in_common_share_nothing() -> None:
    assert fields(EXERCISES["shared"], "straw", "plum", 0) is None


def test_a_chunk_has_two_letters_or_more_and_shows_the_word_beside_other_letters() -> None:
    for seed in range(50):
        drawn = EXERCISES["chunks"].draw(["Strawberry"], [list("yrrebwarts")], random.Random(seed))
        assert drawn
        assert drawn["given"].replace(" + ", "") == "strawberry"
        assert drawn["answer"].replace(" + ", " ") == "y r r e b w a r t s"
        assert min(map(len, drawn["given"].split(" + "))) >= 2


def test_a_letter_that_recurs_is_picked_more_often_and_hangman_also_guesses_wrongly() -> None:
    picked = [(fields(EXERCISES["picked"], "banana", "", seed) or {})["given"] for seed in range(300)]
    assert 100 < picked.count("a") < 200
    boards = [(fields(EXERCISES["hangman"], "banana", "", seed) or {})["answer"] for seed in range(300)]
    assert 30 < boards.count("_ _ _ _ _ _") < 110


@each_wording
def test_each_place_stands_once_after_a_space(wording: Wording) -> None:
    for place in wording.places:
        assert wording.text.count(f"{{{place}}}") == 1
    assert wording.text.count("{") == len(wording.places) == len(set(wording.places))
    assert "word" in wording.places
    assert wording.places[-1] in ("answer", "word")


def test_wordings_differ_from_one_another_and_from_the_templates() -> None:
    texts = [wording.text for wording in WORDINGS.values()]
    names = [wording.name for wording in WORDINGS.values()]
    assert len({*texts, *(template.text for template in SPELLING_TEMPLATES)}) == len(texts) + len(SPELLING_TEMPLATES)
    assert len({*names, *(template.name for template in SPELLING_TEMPLATES)}) == len(names) + len(SPELLING_TEMPLATES)


@each_exercise
@pytest.mark.parametrize("surfaces", [(" straw", "Berry"), ("Middle", " start")])
def test_a_text_is_spelling_only(exercise: Exercise, surfaces: tuple[str, str]) -> None:
    """ "middle" and "start" may be spelled, though no wording may hold them."""
    for wording in exercise.wordings:
        for seed in range(10):
            example = exercise.render(wording, surfaces, [each.strip() for each in surfaces], random.Random(seed))
            if example:
                row = {"text": example.text, "surface": surfaces[0], "partner": surfaces[1]}
                assert row_impurities(row) == []


@pytest.mark.parametrize(
    ("name", "surfaces", "text", "wanted"),
    [
        ("backwards_1", (" straw",), "Word: straw\nBackwards: w a r t s\n", " w a r t s"),
        ("backwards_3", ("Straw",), 'Read backwards, w a r t s is "Straw".\n', ' "Straw"'),
        ("strings_3", (" qxxv",), "Joined, q x x v gives qxxv\n", " qxxv"),
        ("sorted_3", ("banana",), 'Sorted, "banana" is a a a b n n.\n', " a a a b n n"),
        ("shared_2", (" Ham", " aim"), "What Ham and aim share is a m\n", " a m"),
    ],
)
def test_a_text_as_it_reads(name: str, surfaces: tuple[str, ...], text: str, wanted: str) -> None:
    exercise = EXERCISES[name.rpartition("_")[0]]
    example = exercise.render(WORDINGS[name], surfaces, [surface.strip() for surface in surfaces], random.Random(0))
    assert example
    assert example.text == text
    ((start, end),) = example.spans
    assert example.text[start:end] == wanted


@pytest.mark.parametrize("name", ["continuation", "backwards", "cloze", "chunks", "growing", "side_by_side", "picked"])
def test_other_letters_in_the_same_places_are_asked_for_alike(name: str) -> None:
    """What the control is trained on has the form of what the tuned model is trained on."""

    def form(word: str, seed: int) -> str:
        drawn = fields(EXERCISES[name], word, "plum", seed) or {}
        shown = drawn.get("given", "") if name != "picked" else ""
        return "".join("x" if character.isalpha() else character for character in f"{shown}|{drawn['answer']}")

    for seed in range(20):
        assert form("streak", seed) == form("takers", seed)


def test_strings_have_letters_that_recur() -> None:
    strings = [letter_string(random.Random(seed)) for seed in range(200)]
    assert {3, 10} <= set(map(len, strings)) <= set(range(3, 11))
    assert sum(len(set(string)) < len(string) for string in strings) > 100
