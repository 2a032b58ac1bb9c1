"""Passes rounded up to sizes that come again give what they gave."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from letterwise.engines.openvino_engine import example_step
from letterwise.engines.packed_model import Step
from letterwise.engines.runner import TorchRunner, key_shape
from letterwise.engines.shapes import padded, rounded, unpadded
from letterwise.models import BaseModel, load_model

CPU = torch.device("cpu")


def test_sizes_come_again_and_are_not_much_larger() -> None:
    sizes = [rounded(size) for size in range(1, 1000)]
    assert sizes == sorted(sizes)
    assert all(size <= after <= max(size + 3, 1.25 * size) for size, after in enumerate(sizes, start=1))
    assert len(set(sizes)) < 40
    assert [rounded(size) for size in sizes] == sizes


@pytest.mark.parametrize("beginning", [True, False])
def test_a_padded_pass_gives_the_same(tiny_base: BaseModel, beginning: bool) -> None:
    model = load_model(tiny_base, CPU, torch.float32)
    step = with_values(example_step(key_shape(model)))
    if beginning:
        step = replace(step, past=(), sees_own=step.sees_own[:, :, 2:])
    runner = TorchRunner(model)
    expected, larger = runner.run(step), padded(step)

    assert (len(larger.ids), len(larger.keep)) == (4, 4)
    assert len(larger.sees_own) == (4 if beginning else 2)
    given = unpadded(runner.run(larger), step)

    torch.testing.assert_close(given.logits, expected.logits)
    assert len(given.present) == len(expected.present)
    real = step.pack  # a cell without a token holds anything
    for one, other in zip(given.present, expected.present, strict=True):
        assert one.shape == other.shape
        new = [tensor[:, :, -2:].transpose(1, 2).flatten(0, 1)[real] for tensor in (one, other)]
        torch.testing.assert_close(*new)


def with_values(step: Step) -> Step:
    """The example with keys and values that make a difference."""
    torch.manual_seed(0)
    causal = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1]], dtype=torch.bool)[None].repeat(2, 1, 1)
    return replace(
        step,
        prefix=torch.randn_like(step.prefix),
        past=tuple(torch.randn_like(tensor) for tensor in step.past),
        sees_own=causal,
    )
