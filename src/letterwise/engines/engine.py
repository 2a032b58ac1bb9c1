"""The protocol that every inference backend fulfils: generate text, score candidate answers.

Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from letterwise.tasks.questions import Prompt


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote after a prompt, by greedy decoding."""

    text: str
    """Up to, not including, the first line break after some text."""
    token_texts: tuple[str, ...] = ()
    """The tokens written, decoded one by one."""
    letter_probabilities: tuple[dict[str, float], ...] = ()
    """For each of `token_texts`, the probability of each letter 'a' to 'z' and of any other token (key '')."""


class Engine(Protocol):
    """A model that answers prompts."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        """Greedy continuation of each prompt, one line at most.

        Args:
            prompts: what to continue.
            max_new_tokens: most tokens to write.
            letter_probabilities: whether they are wanted.
            drafts: what each continuation may turn out to be, after a space. It saves time where it is right, and
                changes nothing about what is written.
        """
        ...

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Probability of each prompt's candidates, normalised over them; a candidate follows after a space."""
        ...

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        """What `score` and `generate` give, for the price of little more than one of them."""
        ...
