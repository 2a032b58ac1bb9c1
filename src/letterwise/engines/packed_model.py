"""A causal language model over packed rows: no token of padding goes through its linear layers.

The tokens of all rows stand one behind the other in a single sequence. Only inside attention they are laid out as rows.
Every row sees some of the batch's prefix tokens, whose keys and values are kept from an earlier pass and never copied
for each row: the queries of all rows are multiplied with them in one product, and with the rows' own keys as usual; one
softmax spans both. Same mathematics as attention over the concatenation (compare Juravsky et al., 2024, "Hydragen").
Works for every architecture of transformers that takes its attention from the attention interface. Knows nothing about
prompts or how the tensors were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

_NAME = "letterwise_packed"


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass of a batch: which tokens run, and what they see.

    Rows may have different numbers of new tokens; `width` is the largest. All tensors lie on the model's device.
    """

    ids: Tensor
    """Token ids, row after row, shape (tokens,)."""
    positions: Tensor
    """Place of each token in its text, shape (tokens,)."""
    unpack: Tensor
    """For each cell of the rows, row by row, the token that stands there (any where there is none), shape
    (rows x width,)."""
    pack: Tensor
    """For each token, its cell, shape (tokens,)."""
    prefix: Tensor
    """Keys and values of the prefix tokens, layer by layer, shape (2 x layers, key heads, prefix tokens, head size)."""
    sees_prefix: Tensor
    """Which prefix tokens each row sees: bool, shape (rows, prefix tokens)."""
    sees_own: Tensor
    """Which of its own earlier and new cells each cell sees: bool, shape (rows, width, earlier + width)."""
    past: tuple[Tensor, ...]
    """Keys and values of the rows' earlier cells, two tensors a layer, shape (rows, key heads, earlier, head size); or
    empty where there are none."""
    keep: Tensor
    """Tokens whose logits are wanted, shape (kept,)."""


@dataclass(slots=True)
class _Packing:
    """What the attention layers are told; each appends the keys and values that its rows now have."""

    unpack: Tensor
    pack: Tensor
    prefix: Tensor
    prefix_mask: Tensor
    own_mask: Tensor
    past: tuple[Tensor, ...]
    present: list[Tensor] = field(default_factory=list)
    _windowed: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def masks(self, window: int | None) -> tuple[Tensor, Tensor]:
        """To add to the scores of prefix tokens, shape (rows, 1 or width, prefix tokens), and of own cells.

        Args:
            window: how many tokens, itself the last of them, a token sees; None for all.
        """
        if window is None:
            return self.prefix_mask[:, None], self.own_mask
        if window not in self._windowed:
            prefix = self.prefix_mask[:, None].expand(-1, self.own_mask.shape[1], -1)
            mask = torch.cat([prefix, self.own_mask], dim=2)
            # What a token sees are all tokens of its text up to itself, in order: counted backwards, their distance.
            nearer = (mask == 0).flip(2).cumsum(2).flip(2)
            mask = mask.masked_fill(nearer > window, torch.finfo(mask.dtype).min / 2)
            self._windowed[window] = mask[..., : prefix.shape[2]], mask[..., prefix.shape[2] :]
        return self._windowed[window]


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packing: _Packing | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers' attention interface asks for.

    Args:
        module: the attention layer, which knows its index.
        query: shape (1, heads, tokens, head size).
        key: shape (1, key heads, tokens, head size).
        value: as `key`.
        attention_mask: unused; the packing says who sees whom.
        scaling: factor on the scores; by default one over the square root of the head size.
        sliding_window: how many tokens, itself the last of them, a token sees; None for all.
        softcap: bound that scores approach, by the hyperbolic tangent; None for none.
        packing: how the tokens are laid out in rows.

    Returns:
        Shape (1, tokens, heads, head size), and no weights.
    """
    assert packing is not None
    heads, _tokens, size = query.shape[1:]
    key_heads = key.shape[1]
    group = heads // key_heads
    rows, width = packing.own_mask.shape[:2]

    def in_rows(packed: Tensor) -> Tensor:
        cells = packed[0].transpose(0, 1).index_select(0, packing.unpack)
        return cells.reshape(rows, width, -1, size).transpose(1, 2)

    query = in_rows(query * (size**-0.5 if scaling is None else scaling)).reshape(rows, key_heads, group * width, size)
    key, value = in_rows(key), in_rows(value)
    layer = 2 * module.layer_idx
    if packing.past:
        key = torch.cat([packing.past[layer], key], dim=2)
        value = torch.cat([packing.past[layer + 1], value], dim=2)
    packing.present.extend((key, value))

    prefix_key, prefix_value = packing.prefix[layer], packing.prefix[layer + 1]
    prefix = prefix_key.shape[1]
    all_queries = query.transpose(0, 1).reshape(key_heads, rows * group * width, size)
    prefix_mask, own_mask = packing.masks(sliding_window)
    own_scores = (query @ key.transpose(-1, -2)).reshape(rows, key_heads, group, width, -1)
    own_scores = _capped(own_scores, softcap) + own_mask[:, None, None]
    prefix_scores = (all_queries @ prefix_key.transpose(-1, -2)).reshape(key_heads, rows, group, width, prefix)
    prefix_scores = _capped(prefix_scores.transpose(0, 1), softcap) + prefix_mask[:, None, None]
    scores = torch.cat([prefix_scores, own_scores], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    prefix_weights = weights[..., :prefix].transpose(0, 1).reshape(key_heads, rows * group * width, prefix)
    own_weights = weights[..., prefix:].reshape(rows, key_heads, group * width, -1)
    from_prefix = (prefix_weights @ prefix_value).reshape(key_heads, rows, group * width, size).transpose(0, 1)
    mixed = (from_prefix + own_weights @ value).reshape(rows, heads, width, size)
    cells = mixed.transpose(1, 2).reshape(rows * width, heads, size)
    return cells.index_select(0, packing.pack)[None], None


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


AttentionInterface.register(_NAME, _attention)


class PackedModel(torch.nn.Module):
    """A causal language model as a function of the tensors of a `Step`, masks as numbers to add."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        unpack: Tensor,
        pack: Tensor,
        prefix: Tensor,
        prefix_mask: Tensor,
        own_mask: Tensor,
        keep: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        """Logits of the kept tokens, shape (kept, vocabulary), and the keys and values of all cells, as `past`."""
        packing = _Packing(unpack, pack, prefix, prefix_mask, own_mask, past)
        with _packed_attention(self.model):
            logits = self.model(
                input_ids=ids[None],
                # Of four dimensions, so that transformers takes it as it is and makes none of its own.
                attention_mask=own_mask[:1, None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=keep,
                packing=packing,
            ).logits[0]
        return logits, *packing.present


@contextmanager
def _packed_attention(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: 0 where something is seen, a number close to the smallest elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
        ~visible, torch.finfo(dtype).min / 2
    )
