"""From prompts and answers to token ids, whatever the tokenizer does at the seams.

Knows a tokenizer; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from letterwise.engines.packing import Path
from letterwise.tasks.questions import Prompt

_REMEMBERED = 4096


class PromptTokens:
    """Tokenizes prompts, and finds where what they share ends."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self.encode_shared = lru_cache(_REMEMBERED)(self._encode)
        self._seam = lru_cache(_REMEMBERED)(self._find_seam)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [list(ids) for ids in self._tokenizer(list(texts))["input_ids"]] if texts else []

    def split(self, prompt: Prompt, ids: Sequence[int]) -> tuple[Path, list[int]]:
        """A row's tokens: those that stand for the prompt's header and for its lead, and its own, one or more."""
        own = 0
        path = []
        for shared in dict.fromkeys((prompt.header, prompt.header + prompt.lead)):
            end = min(common_prefix([self.encode_shared(shared), ids]), len(ids) - 1)
            if end > own:
                path.append(tuple(ids[own:end]))
                own = end
        return tuple(path), list(ids[own:])

    def continuations(self, text: str, ids: Sequence[int], answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt, and for each answer the ids that follow them.

        Tokens at the seam may merge with the answer's, so those that do are left to the endings. Only the prompt's
        last line is tokenized again: no tokenizer merges across a line break and a word.
        """
        last_line = text.rpartition("\n")[2]
        seams = [self._seam(last_line, answer) for answer in answers]
        kept = len(ids) - max(dropped for dropped, _ in seams)
        endings = [[*ids[kept : len(ids) - dropped], *added] for dropped, added in seams]
        shared = min(common_prefix(endings), min(map(len, endings)) - 1)
        return [*ids[:kept], *endings[0][:shared]], [ending[shared:] for ending in endings]

    def draft(self, text: str, expected: str) -> list[int]:
        """The ids that would follow the text if the model wrote what is expected; none where the two merge."""
        dropped, added = self._seam(text.rpartition("\n")[2], expected)
        return [] if dropped else list(added)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text)["input_ids"])

    def _find_seam(self, last_line: str, answer: str) -> tuple[int, tuple[int, ...]]:
        """How many tokens the line loses at its end when the answer follows after a space, and the ids it gains."""
        alone, joined = self._encode(last_line), self._encode(f"{last_line} {answer}")
        shared = common_prefix([alone, joined])
        return len(alone) - shared, joined[shared:]


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest prefix that all sequences share."""
    shortest = min(map(len, sequences))
    first = sequences[0]
    for place in range(shortest):
        if any(sequence[place] != first[place] for sequence in sequences):
            return place
    return shortest
