"""Training texts as fixed-shape rows: several texts a row, none of which sees another, or one text a row.

Fixed shapes let compiled training run without recompiling and waste no work on padding. Knows nothing about where
the texts come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from letterwise.errors import LetterwiseError
from letterwise.tasks.spelling import SpellingExample

IGNORED = -100
"""Label of a token that carries no loss (PyTorch's cross-entropy default)."""
_OPEN_ROWS = 16


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """Token ids of one text and, for each, whether the model is to learn it."""

    input_ids: list[int]
    wanted: list[bool]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Fixed-shape training rows; every array has shape (rows, row_length)."""

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    """The token wanted *after* each position (already shifted), `IGNORED` elsewhere."""
    segments: NDArray[np.int64]
    """Which text of the row a token belongs to, from 1; 0 is padding."""
    position_ids: NDArray[np.int64]
    """Positions, starting from 0 in each text."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int((self.segments > 0).sum())


def tokenize_examples(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[SpellingExample],
    loss_on: Literal["letters", "all"] = "letters",
) -> list[TokenizedExample]:
    """Tokenize texts and mark what to learn: the tokens of the wanted spans and the one that ends each, or all tokens.

    The token after a span is learned too, because it is what tells the model to stop.
    """
    encoded = tokenizer([example.text for example in examples], return_offsets_mapping=True)
    tokenized = []
    for example, ids, offsets in zip(examples, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if loss_on == "all":
            tokenized.append(TokenizedExample(list(ids), [True] * len(ids)))
            continue
        wanted = [any(start < last and end > first for first, last in example.spans) for start, end in offsets]
        ends = [place for place, inside in enumerate(wanted[:-1]) if inside and not wanted[place + 1]]
        for place in ends:
            wanted[place + 1] = True
        tokenized.append(TokenizedExample(list(ids), wanted))
    return tokenized


def pack(examples: Iterable[TokenizedExample], row_length: int, padding_id: int) -> PackedRows:
    """Put texts into rows of `row_length` tokens, each into the first of a few open rows with room for it.

    Rows keep the order of the texts up to those few rows, so that a prefix of the rows is a prefix of the data.

    Raises:
        LetterwiseError: a text is longer than a row.
    """
    finished: list[list[TokenizedExample]] = []
    open_rows: list[tuple[int, list[TokenizedExample]]] = []
    for example in examples:
        length = _checked_length(example, row_length)
        for index, (used, members) in enumerate(open_rows):
            if used + length <= row_length:
                open_rows[index] = (used + length, [*members, example])
                break
        else:
            if len(open_rows) == _OPEN_ROWS:
                fullest = max(range(_OPEN_ROWS), key=lambda row: open_rows[row][0])
                finished.append(open_rows.pop(fullest)[1])
            open_rows.append((length, [example]))
    finished.extend(members for _, members in open_rows)
    return _to_arrays(finished, row_length, padding_id)


def pack_singly(examples: Iterable[TokenizedExample], row_length: int, padding_id: int) -> PackedRows:
    """Put each text into a row of its own, for attention that knows no mask but the causal one.

    Raises:
        LetterwiseError: a text is longer than a row.
    """
    rows = [[example] for example in examples if _checked_length(example, row_length)]
    return _to_arrays(rows, row_length, padding_id)


def _checked_length(example: TokenizedExample, row_length: int) -> int:
    length = len(example.input_ids)
    if length > row_length:
        raise LetterwiseError(
            f"A training text has {length} tokens, more than training.row_length = {row_length}; raise row_length."
        )
    return length


def _to_arrays(rows: list[list[TokenizedExample]], row_length: int, padding_id: int) -> PackedRows:
    shape = (len(rows), row_length)
    input_ids = np.full(shape, padding_id, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    segments = np.zeros(shape, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    for row, members in enumerate(rows):
        start = 0
        for segment, example in enumerate(members, start=1):
            ids = np.asarray(example.input_ids)
            end = start + len(ids)
            input_ids[row, start:end] = ids
            segments[row, start:end] = segment
            position_ids[row, start:end] = np.arange(len(ids))
            wanted = np.asarray(example.wanted[1:], dtype=bool)
            labels[row, start : end - 1][wanted] = ids[1:][wanted]
            start = end
    return PackedRows(input_ids, labels, segments, position_ids)


def attention_masks(
    config: PreTrainedConfig, segments: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """What keeps the texts of a row apart, as this model's layers take it: one mask, or one for each kind of layer.

    A mask that is given is taken as it is, so a sliding window has to be in it.

    Args:
        config: of the model; says whether layers see a window only, and which.
        segments: which text of its row a token belongs to, shape (rows, row_length).
        dtype: number type of the masks.
    """
    config = config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not window or window >= segments.shape[1] or (kinds and "sliding_attention" not in kinds):
        return attention_mask(segments, dtype)
    if not kinds:
        return attention_mask(segments, dtype, window)
    return {kind: attention_mask(segments, dtype, window if kind == "sliding_attention" else None) for kind in kinds}


def attention_mask(segments: torch.Tensor, dtype: torch.dtype, window: int | None = None) -> torch.Tensor:
    """Additive causal mask that keeps texts of a row apart, shape (rows, 1, row_length, row_length).

    With a window, a token sees so many tokens, itself the last of them. Padding sees padding only, so that no row of
    the softmax is empty.
    """
    same = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    allowed = same & (causal if window is None else causal.triu(1 - window))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]
