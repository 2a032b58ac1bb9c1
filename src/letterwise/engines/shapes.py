"""Fewer shapes: forward passes rounded up to sizes that come again.

A compiler prepares something for every shape it meets, which takes time and memory; passes of any size would hardly
ever meet one twice. Knows tensors; knows nothing about compilers.
"""

from __future__ import annotations

from dataclasses import replace

from torch.nn.functional import pad

from letterwise.engines.packed_model import Step
from letterwise.engines.runner import Output

_GRID = ((32, 4), (64, 8), (256, 16))
"""Up to the first number, sizes are multiples of the second."""
_COARSEST = 64


def rounded(size: int) -> int:
    """The next size on the grid: at most a quarter more, or three."""
    multiple = next((multiple for most, multiple in _GRID if size <= most), _COARSEST)
    return -(-size // multiple) * multiple


def padded(step: Step) -> Step:
    """The same pass with more tokens, logits and, where rows have no past, more and wider rows, which nobody sees."""
    rows, width = step.sees_own.shape[:2]
    tokens, kept = rounded(len(step.ids)) - len(step.ids), rounded(len(step.keep)) - len(step.keep)
    # Adding to the keys and values of a past would cost more than it saves.
    more, wider = (0, 0) if step.past else (rounded(rows) - rows, rounded(width) - width)
    cells = step.unpack.reshape(rows, width)
    row, column = step.pack // width, step.pack % width
    return replace(
        step,
        ids=pad(step.ids, (0, tokens)),
        positions=pad(step.positions, (0, tokens)),
        unpack=pad(cells, (0, wider, 0, more)).flatten(),
        pack=pad(row * (width + wider) + column, (0, tokens)),
        sees_prefix=pad(step.sees_prefix, (0, 0, 0, more)),
        sees_own=pad(step.sees_own, (0, wider, 0, wider, 0, more)),
        keep=pad(step.keep, (0, kept)),
    )


def unpadded(output: Output, step: Step) -> Output:
    """What a padded pass gives, without what was added to the step."""
    rows, _, seen = step.sees_own.shape
    present = tuple(tensor[:rows, :, :seen] for tensor in output.present)
    return Output(output.logits[: len(step.keep)], present)
