"""What a model's output tokens say: where a line ends, which letter a token is, and the text that they come to.

Knows a tokenizer; knows nothing about models.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from letterwise.engines.engine import Generation

LETTERS = string.ascii_lowercase


class WrittenText:
    """Reads the tokens that a model writes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> None:
        self._tokenizer: Any = tokenizer
        texts = self._tokenizer.batch_decode([[token] for token in range(vocabulary_size)])
        ends = {token for token, text in enumerate(texts) if "\n" in text}
        self.end_ids: set[int] = ends | {id_ for id_ in [self._tokenizer.eos_token_id] if id_ is not None}
        """Tokens that end what is written: those with a line break in them, and the end of the text."""
        found = {token: index for token, text in enumerate(texts) if (index := _letter_index(text)) is not None}
        self.letter_tokens = list(found)
        """Tokens that are one letter, small or capital, with or without spaces."""
        self.letter_indices = list(found.values())
        """Which letter each of them is, from 0."""

    def ended(self, tokens: Sequence[int], max_new_tokens: int) -> bool:
        """Whether nothing more is to be written."""
        return len(tokens) >= max_new_tokens or any(token in self.end_ids for token in tokens)

    def generation(self, tokens: Sequence[int], steps: Sequence[Sequence[float]]) -> Generation:
        """What was written.

        Args:
            tokens: all of them, the one that ends the line too.
            steps: for each token the probabilities of the 26 letters and, last, of any other token; empty where
                they are not wanted.
        """
        length = next((place for place, token in enumerate(tokens) if token in self.end_ids), len(tokens))
        # The ending token may hold text before its line break (".\n").
        text = self._tokenizer.decode(list(tokens[: length + 1]), skip_special_tokens=True)
        return Generation(
            text=text.lstrip("\n").partition("\n")[0] if length else text.partition("\n")[0],
            token_texts=tuple(self._tokenizer.decode([token]) for token in tokens[:length]),
            letter_probabilities=tuple(dict(zip([*LETTERS, ""], step, strict=True)) for step in steps[:length]),
        )


def _letter_index(token_text: str) -> int | None:
    letter = token_text.strip().lower()
    return LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS else None
