from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from letterwise.data.packing import IGNORED, PackedRows, TokenizedExample, attention_masks, pack, tokenize_examples
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, load_model
from letterwise.tasks.spelling import SPELLING_TEMPLATES, SpellingExample, join_examples

PADDING = 0
ROW_LENGTH = 24
TEXTS = [
    template.render(surface, surface.strip())
    for template, surface in zip(SPELLING_TEMPLATES, [" straw", "berry", " The", "ing"] * 10, strict=False)
]

tokenized_examples = st.lists(
    st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=ROW_LENGTH).map(
        lambda pairs: TokenizedExample([token for token, _ in pairs], [wanted for _, wanted in pairs])
    ),
    max_size=80,
)


def unpack(rows: PackedRows) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Ids and labels of every text in the rows."""
    found = []
    for row in range(len(rows)):
        for segment in range(1, rows.segments[row].max(initial=0) + 1):
            (places,) = np.nonzero(rows.segments[row] == segment)
            assert (np.diff(places) == 1).all()
            assert (rows.position_ids[row, places] == np.arange(len(places))).all()
            found.append((tuple(rows.input_ids[row, places]), tuple(rows.labels[row, places])))
    return found


@given(tokenized_examples)
def test_every_text_is_packed_once_and_whole(examples: list[TokenizedExample]) -> None:
    rows = pack(examples, ROW_LENGTH, PADDING)
    expected = []
    for example in examples:
        after = zip(example.input_ids[1:], example.wanted[1:], strict=True)
        labels = [*(token if wanted else IGNORED for token, wanted in after), IGNORED]
        expected.append((tuple(example.input_ids), tuple(labels)))
    assert Counter(unpack(rows)) == Counter(expected)
    assert rows.tokens == sum(len(example.input_ids) for example in examples)


@given(tokenized_examples)
def test_rows_have_one_shape_and_plain_padding(examples: list[TokenizedExample]) -> None:
    rows = pack(examples, ROW_LENGTH, PADDING)
    padding = rows.segments == 0
    for array in (rows.input_ids, rows.labels, rows.segments, rows.position_ids):
        assert array.shape == (len(rows), ROW_LENGTH)
    assert (rows.input_ids[padding] == PADDING).all()
    assert (rows.labels[padding] == IGNORED).all()


def test_little_room_is_wasted() -> None:
    rng = np.random.default_rng(0)
    examples = [TokenizedExample([7] * length, [True] * length) for length in rng.integers(8, 24, size=2000)]
    rows = pack(examples, 96, PADDING)
    assert rows.tokens / rows.input_ids.size > 0.95


def test_a_prefix_of_the_rows_is_about_a_prefix_of_the_texts() -> None:
    examples = [TokenizedExample([number] * 10, [True] * 10) for number in range(1, 1001)]
    rows = pack(examples, 96, PADDING)
    assert rows.input_ids[: len(rows) // 2].max() < 700


def test_a_text_longer_than_a_row_is_refused() -> None:
    with pytest.raises(LetterwiseError, match=r"has 25 tokens, more than training.row_length = 24; raise row_length"):
        pack([TokenizedExample([1] * 25, [True] * 25)], ROW_LENGTH, PADDING)


def learned_text(tokenizer: PreTrainedTokenizerBase, example: SpellingExample) -> str:
    (tokenized,) = tokenize_examples(tokenizer, [example])
    rows = pack([tokenized], 96, PADDING)
    return tokenizer.decode(rows.labels[rows.labels != IGNORED])


def span_text(example: SpellingExample) -> str:
    ((start, end),) = example.spans
    return example.text[start:end]


@pytest.mark.parametrize("example", TEXTS, ids=lambda example: example.text)
def test_the_span_is_learned_and_the_token_that_ends_it(
    tiny_tokenizer: PreTrainedTokenizerBase, example: SpellingExample
) -> None:
    learned = learned_text(tiny_tokenizer, example)
    ending = learned.removeprefix(span_text(example))
    assert ending != learned
    assert example.text.partition(span_text(example))[2].startswith(ending)
    assert len(tiny_tokenizer.tokenize(ending)) == 1


def test_every_span_of_a_text_is_learned_with_its_end(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == "structured_pair")
    joined = join_examples([template.render(" plum", "plum"), template.render(" fig", "fig")])
    assert learned_text(tiny_tokenizer, joined) == " p l u m\n f i g\n"


def test_a_span_at_the_end_of_its_text_is_learned(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    assert learned_text(tiny_tokenizer, SpellingExample("Spell cat: c a t", ((10, 16),))) == " c a t"


def test_a_text_does_not_see_its_neighbours(tiny_base: BaseModel, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    model = load_model(tiny_base, torch.device("cpu"), torch.float32)
    examples = tokenize_examples(tiny_tokenizer, TEXTS)
    rows = pack(examples, 96, PADDING)
    alone = {tuple(each.input_ids): model(torch.tensor([each.input_ids])).logits[0] for each in examples}
    segments = torch.from_numpy(rows.segments)
    packed = model(
        input_ids=torch.from_numpy(rows.input_ids),
        attention_mask=attention_masks(model.config, segments, torch.float32),
        position_ids=torch.from_numpy(rows.position_ids),
    ).logits
    assert segments.max() > 2
    assert torch.isfinite(packed).all()
    for row in range(len(rows)):
        for segment in range(1, int(segments[row].max()) + 1):
            places = segments[row] == segment
            ids = tuple(rows.input_ids[row][places.numpy()])
            torch.testing.assert_close(packed[row, places], alone[ids], rtol=1e-3, atol=1e-4)
