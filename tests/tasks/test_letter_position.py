import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from letterwise.errors import LetterwiseError
from letterwise.tasks.letter_position import PHRASINGS, candidates, letter_at, ordinal, parse


@pytest.mark.parametrize(
    ("word", "position", "letter"),
    [("strawberry", 1, "s"), ("strawberry", 3, "r"), ("Strawberry", 10, "y"), ("A", 1, "a")],
)
def test_letter_at_counts_from_one(word: str, position: int, letter: str) -> None:
    assert letter_at(word, position) == letter


@pytest.mark.parametrize("position", [-1, 0, 11])
def test_a_position_outside_the_word_is_refused(position: int) -> None:
    with pytest.raises(LetterwiseError, match="from 1 to 10"):
        letter_at("strawberry", position)


def test_ordinals() -> None:
    numbers = (1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 101, 111)
    assert " ".join(map(ordinal, numbers)) == "1st 2nd 3rd 4th 10th 11th 12th 13th 20th 21st 22nd 23rd 101st 111th"


def test_candidates_are_the_alphabet() -> None:
    assert "".join(candidates()) == "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("name", PHRASINGS)
def test_phrasings_set_the_word_off(name: str) -> None:
    text = PHRASINGS[name].format(word="strawberry", ordinal="3rd", position=3)
    assert any(f"{mark}strawberry" in text for mark in (" ", " '", ' "'))
    assert "3" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # the letter alone
        ("r", "r"),
        (" R.", "r"),
        ("'r'", "r"),
        ("**r**", "r"),
        ("(r)", "r"),
        ("“R”", "r"),
        ("A", "a"),
        ("I", "i"),
        ("r</s>", "r"),
        ("1. r", "r"),
        ("r\nThe letter s comes first.", "r"),
        ("a\n\nQuestion: Which letter comes 1st in bee?\nAnswer: b", "a"),
        # in a sentence
        ("Answer: r", "r"),
        ("The answer is r", "r"),
        ("The third letter is r.", "r"),
        ("The 3rd letter in 'strawberry' is 'r'.", "r"),
        ("The 3rd letter of strawberry = r", "r"),
        ("The third letter would be 'r'.", "r"),
        ("The letter is 'r", "r"),
        ('It is "R"', "r"),
        ('The answer is: "r."', "r"),
        ("is an r", "r"),
        ("I think it's s", "s"),
        ("I'd say r", "r"),
        ("the letter 'R'", "r"),
        ("'r' comes third", "r"),
        ("r (the third letter)", "r"),
        ("It is a consonant, r", "r"),
        ("It's r, a consonant.", "r"),
        ("The third letter in strawberry's spelling is r", "r"),
        # a and I, the letters
        ("The answer is a.", "a"),
        ("a (the first letter)", "a"),
        ("A is the third letter.", "a"),
        ("The letter a comes third.", "a"),
        ("The third letter is a in 'strawberry'.", "a"),
        ("I think it is an A", "a"),
        ("it's a a", "a"),
        ("the letter is I", "i"),
        ("I is the second letter", "i"),
        ("It is an i.", "i"),
        # and the words
        ("It is a vowel", None),
        ("I am not sure.", None),
        ("As a language model, I cannot say.", None),
        # which rule comes first
        ("Spelling: s t r a w b e r r y. The third letter is r.", "r"),
        ("s, t, r: the third is r", "r"),
        ("It is not s but r", "r"),
        ("After the letter t comes the one that is r", "r"),
        ("The second is t. Answer: r", "r"),
        # nothing to read
        ("", None),
        ("strawberry", None),
        ("s t r a w b e r r y", None),
        ("s-t-r-a-w", None),
        ("'s', 't', 'r', 'a'", None),
        ("N/A", None),
        ("3", None),
        ("ñ", None),
    ],
)
def test_parse(text: str, letter: str | None) -> None:
    assert parse(text) == letter


SENTENCES = st.sampled_from(
    [
        "{letter}",
        " {letter}\n",
        "'{letter}'",
        "**{letter}**",
        "The answer is {letter}.",
        "Answer: {letter}",
        "It is the letter {letter}.",
        "It's an {letter}",
        "I think that it is a '{letter}'.",
        "{letter} (the {ordinal} letter)",
        "{letter} is the {ordinal} letter.",
        "The {ordinal} letter in '{word}' is '{letter}'.",
        'The {ordinal} letter of the word "{word}" is "{letter}".',
        "The letter at position {position} of {word} is {letter}.",
        "Spelling: {spelling}. The {ordinal} letter is {letter}.",
        "{letter}\n\nQuestion: Which letter comes 1st in tree?\nAnswer: t",
    ]
)


@settings(deadline=None)
@given(sentence=SENTENCES, word=st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=14), data=st.data())
def test_every_way_to_state_a_letter_is_read(sentence: str, word: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(1, len(word)))
    letter = letter_at(word, position)
    text = sentence.format(
        letter=letter, word=word, position=position, ordinal=ordinal(position), spelling=" ".join(word)
    )
    for spelled in (text, text.upper()):
        assert parse(spelled) == letter


@settings(deadline=None)
@given(st.text())
@example("'" * 200)
@example("a " * 200)
@example("ſ K")
def test_any_text_gives_a_letter_or_none(text: str) -> None:
    assert parse(text) in [*candidates(), None]
