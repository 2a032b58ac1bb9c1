"""Rows of tokens and what they share: from lists of token ids to the tensors of forward passes.

Knows token ids, keys and values; knows nothing about text.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from letterwise.engines.packed_model import Step
from letterwise.engines.runner import KeyShape, Runner
from letterwise.engines.shapes import rounded

_KEPT_PREFIXES = 256
"""Some megabytes each for the examples of a small model, a twentieth of that for what follows them."""

Path = tuple[tuple[int, ...], ...]
"""What a row's tokens begin with, in pieces that are kept apart because other rows share only the first of them."""


@dataclass(slots=True)
class Rows:
    """Rows on their way through the model."""

    headers: list[Tensor]
    """Keys and values of what each row begins with, the same tensor for rows that share it."""
    positions: Tensor
    """Place in its text of each row's next token, shape (rows,)."""
    seen: Tensor
    """Which of the cells run so far hold a token that counts: bool, shape (rows, cells)."""
    past: tuple[Tensor, ...] = ()
    prefix: Tensor = field(init=False)
    sees_prefix: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Lay the headers side by side."""
        kept = {id(header): header for header in self.headers}
        lengths = [header.shape[2] for header in kept.values()]
        owner = torch.tensor(list(kept)).repeat_interleave(torch.tensor(lengths))
        more = rounded(len(owner)) - len(owner)
        self.prefix = pad(torch.cat(list(kept.values()), dim=2), (0, 0, 0, more))
        sees = owner == torch.tensor([id(header) for header in self.headers])[:, None]
        self.sees_prefix = pad(sees, (0, more)).to(self.seen.device)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        places = torch.tensor(rows, device=self.seen.device)
        self.headers = [self.headers[row] for row in rows]
        self.sees_prefix, self.positions = self.sees_prefix[places], self.positions[places]
        self.seen, self.past = self.seen[places], tuple(tensor[places] for tensor in self.past)

    def take_back(self, row: int, tokens: int) -> None:
        """Let a row forget the last of the tokens that it was run with."""
        if tokens:
            places = self.seen[row].nonzero()[-tokens:, 0]
            self.seen[row, places] = False
            self.positions[row] -= tokens

    def close_up(self, cells: int) -> None:
        """Move what each row sees to its first cells, of which there are to be so many."""
        order = (~self.seen).int().argsort(dim=1, stable=True)[:, :cells]
        lacking = cells - order.shape[1]
        self.seen = pad(self.seen.gather(1, order), (0, lacking))
        places = order[:, None, :, None]
        self.past = tuple(
            pad(tensor.gather(2, places.expand(-1, tensor.shape[1], -1, tensor.shape[3])), (0, 0, 0, lacking))
            for tensor in self.past
        )


@dataclass(slots=True)
class PrefixStore:
    """Keys and values of prefixes, computed once; the least recently used go first."""

    runner: Runner
    shape: KeyShape
    _kept: OrderedDict[tuple[int, ...], Tensor] = field(default_factory=OrderedDict)

    def start(self, paths: Sequence[Path]) -> Rows:
        """Rows that begin behind these paths, with no token of their own yet."""
        depth = max(map(len, paths), default=0)
        for level in range(1, depth + 1):
            self._ensure([path[:level] for path in paths if len(path) >= level])
        rows = self._rows(paths)
        while len(self._kept) > max(_KEPT_PREFIXES, len(paths) * depth):
            self._kept.popitem(last=False)
        return rows

    def _rows(self, paths: Sequence[Path]) -> Rows:
        """As `start`, where all pieces are kept already.

        What follows a header is copied to each of its rows: as a prefix, every row of the batch would pass over it.
        """
        nothing = self.shape.no_prefix(self.runner.dtype, self.runner.device)
        pieces = [[nothing, *(self._recall(path[:level]) for level in range(1, len(path) + 1))] for path in paths]
        later = [torch.cat([nothing, *each[2:]], dim=2) for each in pieces]
        lengths = torch.tensor([tensor.shape[2] for tensor in later], device=self.runner.device)
        width = int(lengths.max())
        cells = [pad(tensor, (0, 0, 0, width - tensor.shape[2])) for tensor in later] if width else []
        return Rows(
            headers=[each[:2][-1] for each in pieces],
            positions=torch.tensor([sum(map(len, path)) for path in paths], device=self.runner.device),
            seen=torch.arange(width, device=self.runner.device) < lengths[:, None],
            past=torch.stack(cells, dim=1).unbind() if cells else (),
        )

    def _recall(self, path: Path) -> Tensor:
        """Keys and values of the last piece of a path, which is kept."""
        node = _joined(path)
        self._kept.move_to_end(node)
        return self._kept[node]

    def _ensure(self, paths: Sequence[Path]) -> None:
        """Compute what is not kept of these paths, whose earlier pieces are, in one pass."""
        new = [path for path in dict.fromkeys(paths) if _joined(path) not in self._kept]
        if not new:
            return
        rows = self._rows([path[:-1] for path in new])
        earlier = rows.seen.shape[1]
        run(self.runner, rows, [list(path[-1]) for path in new], keep=[1] * len(new))
        for row, path in enumerate(new):
            keys = torch.stack([tensor[row, :, earlier : earlier + len(path[-1])] for tensor in rows.past])
            self._kept[_joined(path)] = keys


def together(parts: Sequence[Rows]) -> Rows:
    """Rows of several batches as one; each has been run with some tokens."""
    if len(parts) == 1:
        return parts[0]
    cells = max(int(part.seen.sum(dim=1).max()) for part in parts)
    for part in parts:
        part.close_up(cells)
    return Rows(
        headers=[header for part in parts for header in part.headers],
        positions=torch.cat([part.positions for part in parts]),
        seen=torch.cat([part.seen for part in parts]),
        past=tuple(torch.cat(tensors) for tensors in zip(*(part.past for part in parts), strict=True)),
    )


def run(runner: Runner, rows: Rows, tokens: Sequence[Sequence[int]], keep: Sequence[int]) -> Tensor:
    """Let rows go on with some tokens each.

    Args:
        runner: the model.
        rows: the rows; they now hold the tokens too.
        tokens: one or more for each row.
        keep: for how many of its last tokens each row's logits are wanted.

    Returns:
        The logits wanted, row after row, shape (sum of `keep`, vocabulary).
    """
    device = rows.seen.device
    lengths = torch.tensor([len(each) for each in tokens])
    width = int(lengths.max())
    cells = torch.arange(width)
    real = cells < lengths[:, None]
    firsts = lengths.cumsum(0) - lengths
    # A cell without a token holds the row's last one, which no other cell sees.
    unpack = firsts[:, None] + torch.minimum(cells, lengths[:, None] - 1)
    pack = real.flatten().nonzero()[:, 0]
    lasts = firsts + lengths
    kept = torch.cat([torch.arange(last - count, last) for last, count in zip(lasts, torch.tensor(keep), strict=True)])
    positions = (rows.positions.cpu()[:, None] + cells).flatten()[pack]
    ids = torch.tensor([token for each in tokens for token in each])
    real = real.to(device)
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    new = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=device)
    earlier = rows.seen[:, None, :].expand(-1, width, -1)
    step = Step(
        ids=ids.to(device),
        positions=positions.to(device),
        unpack=unpack.flatten().to(device),
        pack=pack.to(device),
        prefix=rows.prefix,
        sees_prefix=rows.sees_prefix,
        sees_own=torch.cat([earlier, new], dim=2),
        past=rows.past,
        keep=kept.to(device),
    )
    output = runner.run(step)
    rows.past = output.present
    rows.seen = torch.cat([rows.seen, real], dim=1)
    rows.positions = rows.positions + lengths.to(device)
    return output.logits


def _joined(path: Path) -> tuple[int, ...]:
    return tuple(token for piece in path for token in piece)
