import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from letterwise.errors import LetterwiseError
from letterwise.tasks.letter_count import NUMBER_WORDS, PHRASINGS, candidates, count_letter, parse

LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz")
WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=14)


@pytest.mark.parametrize(
    ("word", "letter", "count"),
    [("strawberry", "r", 3), ("Strawberry", "s", 1), ("banana", "A", 3), ("banana", "z", 0), ("", "a", 0)],
)
def test_count_letter_ignores_case(word: str, letter: str, count: int) -> None:
    assert count_letter(word, letter) == count


@pytest.mark.parametrize("letter", ["", "rr", "3", " "])
def test_only_one_letter_can_be_counted(letter: str) -> None:
    with pytest.raises(LetterwiseError, match="exactly one"):
        count_letter("strawberry", letter)


@pytest.mark.parametrize(("word", "largest"), [("at", "3"), ("apple", "5"), ("strawberry", "9"), ("a" * 20, "9")])
def test_candidates_run_from_zero_to_one_digit(word: str, largest: str) -> None:
    assert candidates(word) == [str(number) for number in range(int(largest) + 1)]


@pytest.mark.parametrize("name", PHRASINGS)
def test_phrasings_set_the_word_off(name: str) -> None:
    text = PHRASINGS[name].format(word="strawberry", letter="r")
    assert any(f"{mark}strawberry" in text for mark in (" ", " '", ' "'))
    assert "{" not in text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        # the number alone
        ("3", "3"),
        (" 3.", "3"),
        ("03", "3"),
        ("10", "10"),
        ("0", "0"),
        ("**3**", "3"),
        ("__3__", "3"),
        ("“3”", "3"),
        ("$\\boxed{3}$", "3"),
        ("three", "3"),
        ("Sixteen", "16"),
        ("3 (three)", "3"),
        ("three (3)", "3"),
        # in a sentence
        ("The answer is 3.", "3"),
        ("Answer: 2", "2"),
        ("There are 3 r's in strawberry", "3"),
        ("There are three (3) r's", "3"),
        ("There are 2 letters r", "2"),
        ("There is one 'r'", "1"),
        ("a single r", "1"),
        ("There is only a single 'r' in the word.", "1"),
        ("2 times", "2"),
        ("It occurs 1 time.", "1"),
        ("once", "1"),
        ("It appears twice.", "2"),
        ("thrice", "3"),
        ("r = 2", "2"),
        ("3 out of 10", "3"),
        ("The number of r's in the word strawberry is 3.", "3"),
        ("No, there are 3 r's.", "3"),
        ("There is no doubt: 3", "3"),
        # none
        ("none", "0"),
        ("None of them.", "0"),
        ("no r's", "0"),
        ("There are no 'z's in it.", "0"),
        ("zero times", "0"),
        ("The letter z does not appear in the word.", "0"),
        ("There aren't any z's.", "0"),
        # numbers that are not the count
        ("1. There are 2 r's", "2"),
        ("r appears 2 times: at positions 3 and 8", "2"),
        ("r is at positions 3, 8, and 9, so 3", "3"),
        ("The word has 10 letters, 3 of them are r.", "3"),
        ("The 10-letter word has two.", "2"),
        ("The 3rd and the 8th, so 2", "2"),
        ("This one has 2", "2"),
        ("Once we look closely, we see 3.", "3"),
        ("The count in 'nine' is 2", "2"),
        # which rule comes first
        ("s occurs 1 time, r 3 times. Answer: 3", "3"),
        ("1 in straw, 2 in berry, a total of 3", "3"),
        ("Of 10, there are 3 r's", "3"),
        ("3\nThe letter r occurs 2 times.", "3"),
        (" 3\n\nQuestion: How many e's are in 'tree'?\nAnswer: 2", "3"),
        ("3. Yes", "3"),
        # nothing to read
        ("", None),
        ("I don't know.", None),
        ("No", None),
        ("The third letter", None),
        ("It has 10 letters.", None),
        ("2.5", None),
        ("2-3", None),
        ("2024", None),
        ("stone, often", None),
        ("1. s\n2. t\n3. r", None),
    ],
)
def test_parse(text: str, count: str | None) -> None:
    assert parse(text) == count


SENTENCES = st.sampled_from(
    [
        "{number}",
        " {number}.",
        "**{number}**",
        "The answer is {number}.",
        "Answer: {number}",
        "There are {number} {letter}'s in {word}.",
        "There are {number} '{letter}'s in the word \"{word}\".",
        "The letter '{letter}' appears {number} times in '{word}'.",
        "In the {length}-letter word '{word}', {letter} occurs {number} times.",
        "The word '{word}' has {length} letters, {number} of which are {letter}.",
        "1. There are {number} {letter}'s",
        "{number}\n\nQuestion: How many e's are in 'tree'?\nAnswer: 2",
        "{number} occurrences: at positions 3, 8 and 9",
    ]
)


@settings(deadline=None)
@given(sentence=SENTENCES, number=st.integers(0, 20), as_word=st.booleans(), word=WORDS, letter=LETTERS)
def test_every_way_to_state_a_count_is_read(sentence: str, number: int, as_word: bool, word: str, letter: str) -> None:
    written = NUMBER_WORDS[number] if as_word else str(number)
    text = sentence.format(number=written, word=word, letter=letter, length=len(word))
    for spelled in (text, text.upper(), text.capitalize()):
        assert parse(spelled) == str(number)


@settings(deadline=None)
@given(st.text())
@example("1. " * 50)
@example("²½٣")
@example("'" * 200)
def test_any_text_gives_a_count_or_none(text: str) -> None:
    count = parse(text)
    assert count is None or (count == str(int(count)) and 0 <= int(count) < 100)
