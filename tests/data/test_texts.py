from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.config import DataConfig
from letterwise.data.audit import ALL_IMPURE_WORDS, impurities
from letterwise.data.build import build_data, load_data
from letterwise.data.packing import tokenize_examples
from letterwise.data.texts import shuffled_spelling, spelling_examples, tokenized_texts
from letterwise.tasks.spelling import SPELLING_TEMPLATES, SpellingExample, parse_spelling

Rows = list[dict[str, str]]


@pytest.fixture
def rows(data_folder: Path) -> Rows:
    training_rows: Rows = load_data(data_folder)[0]["train"].to_list()
    return training_rows


def wanted(example: SpellingExample) -> str:
    ((start, end),) = example.spans
    return example.text[start:end]


def test_a_row_is_a_text_with_the_completion_to_learn(rows: Rows) -> None:
    for row, example in zip(rows, spelling_examples(rows), strict=True):
        assert example.text == row["text"]
        assert wanted(example) == row["completion"]


def test_the_control_differs_in_the_order_of_the_letters_only(rows: Rows) -> None:
    for row, true, control in zip(rows, spelling_examples(rows), shuffled_spelling(rows, 0), strict=True):
        ((start, end),) = control.spans
        assert control.spans == true.spans
        assert sorted(control.text) == sorted(true.text)
        assert impurities(control.text) == []
        several = len(set(row["word"].lower())) > 1
        assert (control.text != true.text) == several
        if row["direction"] == "word_first":
            assert control.text[:start] + control.text[end:] == true.text[:start] + true.text[end:]
            assert (parse_spelling(wanted(control)) != row["word"].lower()) or not several
        else:
            assert wanted(control) == wanted(true)
            changed = [
                place for place, pair in enumerate(zip(control.text, true.text, strict=True)) if len({*pair}) > 1
            ]
            assert len(changed) <= len(row["word"])


def test_the_control_never_spells_the_word_nor_an_impure_one() -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == "plain_capitals")
    for word in ("neo", "eno", "net", "on", "tow"):
        repeated = [{"word": word, "surface": f" {word}", "template": template.name}] * 50
        spelled = {wanted(control).strip().lower() for control in shuffled_spelling(repeated, 0)}
        assert all(sorted(letters) == sorted(word) for letters in spelled)
        assert spelled.isdisjoint({word, *ALL_IMPURE_WORDS})


def test_a_word_of_one_letter_repeated_has_no_other_order() -> None:
    (control,) = shuffled_spelling([{"word": "Oo", "surface": " Oo", "template": "plain_spell"}], 0)
    assert control.text == "Spell Oo: o o\n"


def test_the_control_is_shuffled_by_its_seed(rows: Rows) -> None:
    assert shuffled_spelling(rows, 0) == shuffled_spelling(rows, 0) != shuffled_spelling(rows, 1)


def test_the_control_says_the_same_lengths(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = DataConfig(train_examples=200, count_questions=4, position_questions=4, length_sentences=True)
    build_data(settings, tiny_tokenizer, 0, words_folder, tmp_path / "data")
    impure = [row for row in load_data(tmp_path / "data")[0]["train"].to_list() if row["template"] == "length_has"]
    assert impure
    for row, control in zip(impure, shuffled_spelling(impure, 0), strict=True):
        assert control.text.partition(":")[0] == row["text"].partition(":")[0]


def test_texts_hold_every_example_once_and_one_template_each(
    rows: Rows, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    examples, templates = spelling_examples(rows), [row["template"] for row in rows]
    texts = tokenized_texts(examples, templates, tiny_tokenizer, words_per_text=3, longest=10**6, seed=0)
    members = [tiny_tokenizer.decode(text.input_ids).split("\n\n") for text in texts]
    assert Counter(member.strip() for text in members for member in text) == Counter(
        example.text.strip() for example in examples
    )
    assert Counter(map(len, members)).keys() == {1, 2, 3}
    template_of = {example.text.strip(): template for example, template in zip(examples, templates, strict=True)}
    assert all(len({template_of[member.strip()] for member in text}) == 1 for text in members)


def test_one_word_a_text_changes_nothing(rows: Rows, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    examples, templates = spelling_examples(rows), [row["template"] for row in rows]
    texts = tokenized_texts(examples, templates, tiny_tokenizer, words_per_text=1, longest=128, seed=0)
    assert texts == tokenize_examples(tiny_tokenizer, examples)


def test_a_text_too_long_for_a_row_is_taken_apart(rows: Rows, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    examples, templates = spelling_examples(rows), [row["template"] for row in rows]
    alone = tokenize_examples(tiny_tokenizer, examples)
    longest = max(len(text.input_ids) for text in alone)
    texts = tokenized_texts(examples, templates, tiny_tokenizer, words_per_text=3, longest=longest, seed=0)
    assert max(len(text.input_ids) for text in texts) <= longest
    assert sum(sum(text.wanted) for text in texts) == sum(sum(text.wanted) for text in alone)


def test_tuned_and_control_texts_are_grouped_alike(rows: Rows, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    templates = [row["template"] for row in rows]
    true, control = (
        tokenized_texts(examples, templates, tiny_tokenizer, 3, 10**6, 0)
        for examples in (spelling_examples(rows), shuffled_spelling(rows, 0))
    )
    assert [sorted(tiny_tokenizer.decode(text.input_ids)) for text in true] == [
        sorted(tiny_tokenizer.decode(text.input_ids)) for text in control
    ]
