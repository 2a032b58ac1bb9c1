"""Greedy writing of many texts: what goes on after one batch is read is written together with the next ones.

A pass over a few rows takes as long as one over many, and most texts end long before the last; so those that go on
wait until they are enough for a pass. Knows token ids and logits; knows nothing about text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from letterwise.engines.packing import Rows, run, together
from letterwise.engines.runner import Runner
from letterwise.engines.tokens import common_prefix


@dataclass(slots=True)
class Batch:
    """Texts that are in the model side by side."""

    texts: list[int]
    """Their indices."""
    rows: Rows
    tokens: list[list[int]]
    """What each is to be run with next."""


class Writer:
    """Writes after each text until it has ended.

    A draft of what a text goes on with is checked in one pass; what comes out is the same with and without.
    """

    def __init__(
        self,
        runner: Runner,
        drafts: Sequence[list[int]],
        ended: Callable[[list[int]], bool],
        on_logits: Callable[[int, Tensor], None],
        whole: bool = False,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            runner: the model.
            drafts: what each text will probably go on with.
            ended: whether a text that goes on with these tokens has ended.
            on_logits: called with a text and the logits behind each token that is written next, of shape
                (tokens, vocabulary).
            whole: give it the logits behind the whole of the draft at first, whether it is written or not.
        """
        self.runner = runner
        self.written: list[list[int]] = [[] for _ in drafts]
        """What each text goes on with."""
        self._drafts = list(drafts)
        self._ended = ended
        self._on_logits = on_logits
        self._whole = whole

    def write(self, batches: Iterable[Batch], enough: int) -> None:
        """Read batch after batch, and write what follows whenever so many texts go on."""
        going: list[Batch] = []
        for batch in batches:
            going.append(self._step(batch))
            while sum(len(each.texts) for each in going) >= enough:
                going = [self._step(_together(going))]
        while any(each.texts for each in going):
            going = [self._step(_together(going))]

    def _step(self, batch: Batch) -> Batch:
        """Run a batch once; what goes on of it."""
        rows, drafts = batch.rows, [self._drafts[text] for text in batch.texts]
        keep = [1 + len(draft) for draft in drafts]
        logits = run(self.runner, rows, [[*own, *draft] for own, draft in zip(batch.tokens, drafts, strict=True)], keep)
        chosen = torch.split(logits.max(dim=-1).indices, keep)
        going = []
        for row, (text, tokens, steps) in enumerate(zip(batch.texts, chosen, torch.split(logits, keep), strict=True)):
            draft, best, written = drafts[row], tokens.tolist(), self.written[text]
            agreed = common_prefix([best[:-1], draft])
            first = not written
            self._on_logits(text, steps if self._whole and first else steps[: agreed + 1])
            written.extend(best[: agreed + 1])
            rows.take_back(row, len(draft) - agreed)
            # One letter may be another one and the rest as expected; a draft that fails at once is out of step.
            self._drafts[text] = draft[agreed + 1 :] if agreed or not draft or len(written) == 1 else []
            if not self._ended(written):
                going.append(row)
        if 0 < len(going) < len(batch.texts):
            rows.select(going)
        texts = [batch.texts[row] for row in going]
        return Batch(texts, rows, [self.written[text][-1:] for text in texts])


def _together(batches: Sequence[Batch]) -> Batch:
    going = [batch for batch in batches if batch.texts]
    return Batch(
        [text for batch in going for text in batch.texts],
        together([batch.rows for batch in going]),
        [tokens for batch in going for tokens in batch.tokens],
    )
