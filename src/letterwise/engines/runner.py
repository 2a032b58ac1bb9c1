"""What a backend has to do: run one forward pass over packed rows. And the one of PyTorch.

Knows tensors; knows nothing about prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from letterwise.engines.packed_model import PackedModel, Step, additive


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gives."""

    logits: Tensor
    """Of the kept tokens, shape (kept, vocabulary)."""
    present: tuple[Tensor, ...]
    """Keys and values of all cells that the rows now have, in the form of `Step.past`."""


class Runner(Protocol):
    """A causal language model on some device."""

    device: torch.device
    """Where the tensors of a `Step` must lie."""
    dtype: torch.dtype
    """Number type of keys and values."""

    def run(self, step: Step) -> Output:
        """One forward pass."""
        ...


@dataclass(frozen=True, slots=True)
class KeyShape:
    """Of a model's keys and values."""

    layers: int
    heads: int
    size: int

    def no_prefix(self, dtype: torch.dtype, device: torch.device, tokens: int = 0) -> Tensor:
        """Keys and values of a prefix that nobody sees, by default of no tokens."""
        return torch.zeros(2 * self.layers, self.heads, tokens, self.size, dtype=dtype, device=device)


def key_shape(model: PreTrainedModel) -> KeyShape:
    """How many layers and key heads a model has, and how large a head is."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    return KeyShape(
        layers=config.num_hidden_layers,
        heads=getattr(config, "num_key_value_heads", None) or heads,
        size=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


class TorchRunner:
    """Runs a model of transformers or peft with PyTorch, eagerly, on the device and in the number type it has."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self._model = PackedModel(model)

    @torch.inference_mode()
    def run(self, step: Step) -> Output:
        """One forward pass."""
        return self._pass(step)

    def _pass(self, step: Step) -> Output:
        logits, *present = self._model(
            step.ids,
            step.positions,
            step.unpack,
            step.pack,
            step.prefix,
            additive(step.sees_prefix, self.dtype),
            additive(step.sees_own, self.dtype),
            step.keep,
            *step.past,
        )
        return Output(logits, tuple(present))
