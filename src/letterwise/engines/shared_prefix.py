"""Attention over tokens that all rows of a batch share, without a copy of their keys and values for each row.

The rows' queries are multiplied with the shared keys in one matrix product, and with their own keys as usual; one
softmax spans both. Same mathematics as attention over the concatenation (compare Juravsky et al., 2024, "Hydragen").
Works for every architecture of transformers that takes its attention from the attention interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache, PreTrainedModel

_NAME = "letterwise_shared_prefix"


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Keys and values of the shared tokens, for each layer a pair of shape (key heads, tokens, head size)."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    length: int

    @classmethod
    def from_cache(cls, cache: DynamicCache, length: int) -> SharedPrefix:
        """Take over the first tokens of a cache of one row."""
        return cls(tuple((layer.keys[0, :, :length], layer.values[0, :, :length]) for layer in cache.layers), length)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    shared_prefix: SharedPrefix | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form that transformers' attention interface asks for.

    Args:
        module: the attention layer, which knows its index.
        query: shape (rows, heads, new tokens, head size).
        key: the rows' own keys, shape (rows, key heads, own tokens, head size).
        value: as `key`.
        attention_mask: added to the scores of own tokens, shape (rows, 1, new tokens, own tokens).
        scaling: factor on the scores; by default one over the square root of the head size.
        shared_prefix: what all rows see before their own tokens.

    Returns:
        Shape (rows, new tokens, heads, head size), and no weights.
    """
    assert shared_prefix is not None
    shared_key, shared_value = shared_prefix.layers[module.layer_idx]
    rows, heads, new, size = query.shape
    key_heads, shared = shared_key.shape[:2]
    group = heads // key_heads
    query = query * (size**-0.5 if scaling is None else scaling)
    own_query = query.reshape(rows, key_heads, group * new, size)
    all_queries = own_query.transpose(0, 1).reshape(key_heads, rows * group * new, size)
    own_scores = (own_query @ key.transpose(-1, -2)).view(rows, key_heads, group, new, -1) + attention_mask[:, :, None]
    shared_scores = (all_queries @ shared_key.transpose(-1, -2)).view(key_heads, rows, group, new, shared)
    scores = torch.cat([shared_scores.transpose(0, 1), own_scores], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    shared_weights = weights[..., :shared].transpose(0, 1).reshape(key_heads, rows * group * new, shared)
    own_weights = weights[..., shared:].reshape(rows, key_heads, group * new, -1)
    from_shared = (shared_weights @ shared_value).view(key_heads, rows, group * new, size).transpose(0, 1)
    mixed = (from_shared + own_weights @ value).reshape(rows, heads, new, size)
    return mixed.transpose(1, 2), None


AttentionInterface.register(_NAME, _attention)


@contextmanager
def shared_prefix_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let the model attend with `_attention` for a while; every forward pass then needs `shared_prefix=`."""
    before = model.config._attn_implementation
    model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
