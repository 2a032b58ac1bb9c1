from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.data.build import load_data
from letterwise.data.controls import shuffled_spelling
from letterwise.data.packing import tokenize_examples
from letterwise.data.texts import spelling_examples, tokenized_texts
from letterwise.tasks.spelling import SpellingExample

Rows = list[dict[str, str | None]]


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
