from __future__ import annotations

from collections import Counter
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterwise.data.audit import impurities
from letterwise.tasks.spelling import (
    LENGTH_TEMPLATES,
    SEPARATORS,
    SPELLING_FEW_SHOT,
    SPELLING_TEMPLATES,
    SpellingTemplate,
    join_examples,
    parse_spelling,
    spell,
    spelling_prompt,
    with_length,
)

each_template = pytest.mark.parametrize("template", SPELLING_TEMPLATES, ids=lambda template: template.name)
words = st.text(ascii_lowercase, min_size=2, max_size=20)


def test_the_templates_are_many_and_varied() -> None:
    assert len(SPELLING_TEMPLATES) >= 30
    assert len({template.name for template in SPELLING_TEMPLATES}) == len(SPELLING_TEMPLATES)
    assert len({template.text for template in SPELLING_TEMPLATES}) == len(SPELLING_TEMPLATES)
    tones = Counter(template.tone for template in SPELLING_TEMPLATES)
    assert tones.keys() == {"plain", "narrative", "formal", "emphatic", "structured"}
    assert min(tones.values()) >= 5
    assert {template.separator for template in SPELLING_TEMPLATES} == SEPARATORS.keys()
    assert {template.direction for template in SPELLING_TEMPLATES} == {"word_first", "spelling_first"}
    assert {template.letter_case for template in SPELLING_TEMPLATES} == {"lower", "upper"}


@each_template
def test_each_slot_stands_once_after_a_space(template: SpellingTemplate) -> None:
    for slot in ("{word}", "{letters}"):
        assert template.text.count(slot) == template.text.count(f" {slot}") == 1
    assert template.text.count("{") == 2


@each_template
@pytest.mark.parametrize("surface", [" straw", "berry", " The", "NASA"])
def test_a_text_is_spelling_only(template: SpellingTemplate, surface: str) -> None:
    assert impurities(template.render(surface, surface.strip()).text) == []


@each_template
@pytest.mark.parametrize(("surface", "shown"), [(" Straw", " Straw"), ("Straw", ' "Straw"')])
def test_the_span_is_what_stands_last(template: SpellingTemplate, surface: str, shown: str) -> None:
    example = template.render(surface, "Straw")
    spelling = " " + spell("Straw", template.separator, template.letter_case)
    wanted = {"word_first": spelling, "spelling_first": shown}[template.direction]
    given_ = {"word_first": shown, "spelling_first": spelling}[template.direction]
    ((start, end),) = example.spans
    assert example.text[start:end] == wanted
    assert given_ in example.text[:start]
    assert example.text.endswith("\n")
    assert example.text[end:].strip(".!\n") == ""


@pytest.mark.parametrize(
    ("name", "surface", "text", "wanted"),
    [
        ("plain_colon", " straw", "The word straw is spelled: s t r a w\n", " s t r a w"),
        ("plain_colon", "straw", 'The word "straw" is spelled: s t r a w\n', " s t r a w"),
        ("plain_capitals", " straw", "In capitals, straw is STRAW.\n", " STRAW"),
        ("plain_makes", " straw", "The letters s t r a w make straw\n", " straw"),
        ("plain_spells", "straw", 'The letters s-t-r-a-w spell "straw".\n', ' "straw"'),
        ("narrative_child", " Ma", "The child wrote Ma on the board: M-A\n", " M-A"),
    ],
)
def test_a_text_as_it_reads(name: str, surface: str, text: str, wanted: str) -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == name)
    example = template.render(surface, surface.strip())
    assert example.text == text
    ((start, end),) = example.spans
    assert example.text[start:end] == wanted


def test_a_word_that_occurs_in_its_template_is_learned_where_it_belongs() -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == "plain_makes")
    example = template.render(" make", "make")
    assert example.text == "The letters m a k e make make\n"
    ((start, _),) = example.spans
    assert example.text[:start] == "The letters m a k e make"


def test_joined_texts_stand_as_in_a_prompt_with_examples() -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == "structured_pair")
    examples = [template.render(f" {word}", word) for word in ("plum", "fig", "pear")]
    joined = join_examples(examples)
    assert joined.text == (
        "Word: plum\nSpelling: p l u m\n\nWord: fig\nSpelling: f i g\n\nWord: pear\nSpelling: p e a r\n"
    )
    assert [joined.text[start:end] for start, end in joined.spans] == [" p l u m", " f i g", " p e a r"]
    assert join_examples(examples[:1]) == examples[0]


@pytest.mark.parametrize(("letters", "length"), [("ab", "two"), ("straw", "five"), ("a" * 20, "twenty")])
def test_length_templates_are_impure_and_say_the_length(letters: str, length: str) -> None:
    for template in LENGTH_TEMPLATES:
        text = with_length(template, letters).render(f" {letters}", letters).text
        assert f" {length}" in text
        assert "number_word" in impurities(text)
    assert "many" in with_length(LENGTH_TEMPLATES[0], "a" * 21).text


def test_the_prompt_shows_the_examples_and_ends_where_the_letters_go() -> None:
    prompt = spelling_prompt("strawberry")
    assert prompt.text == (
        "Word: garden\nSpelling: g a r d e n\n\nWord: window\nSpelling: w i n d o w\n\nWord: strawberry\nSpelling:"
    )
    assert prompt.header == spelling_prompt("pear").header
    assert SPELLING_FEW_SHOT == ("garden", "window")


@given(words, st.sampled_from([name for name in SEPARATORS if name != "none"]), st.sampled_from(["lower", "upper"]))
def test_every_way_to_spell_is_read(word: str, separator: str, letter_case: str) -> None:
    assert parse_spelling(" " + spell(word, separator, letter_case)) == word  # type: ignore[arg-type]
    assert parse_spelling(f"{spell(word, separator, letter_case)}.\n\nWord: other") == word  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        (" s t r a w b e r r y", "strawberry"),
        ("\n\n S-T-R-A-W\nWord: cat\nSpelling: c a t", "straw"),
        ("s, t, r, a, w", "straw"),
        ("s,t,r,a,w.", "straw"),
        ("s . . . t . . . r", "str"),
        ("s → t → r", "str"),
        ("**S** - **T** - **R**", "str"),
        ("'s' 't' 'r'", "str"),
        ("Here is a spelling: s t r a w", "straw"),
        ("The letters are s, t and r", "st"),
        ("s t r aw", "str"),
        ("1. s 2. t 3. r", "s"),
        ("x", "x"),
        ("straw", ""),
        ("", ""),
        (" \n \n", ""),
        ("42", ""),
        ("n a ï v e", "naïve"),
    ],
)
def test_what_models_write(text: str, letters: str) -> None:
    assert parse_spelling(text) == letters


@given(st.text())
def test_any_text_gives_letters_or_nothing(text: str) -> None:
    letters = parse_spelling(text)
    assert not any(character.isspace() or character.isdecimal() or character in "-,._>" for character in letters)
