"""Training texts as a model meets them: one or several words a text, cut into tokens.

Knows the rows of the config `spelling`; knows nothing about optimisation.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from letterwise.data.packing import TokenizedExample, tokenize_examples
from letterwise.tasks.spelling import SpellingExample, join_examples


def spelling_examples(rows: Sequence[Mapping[str, str | None]]) -> list[SpellingExample]:
    """Training rows as texts with the span to learn."""
    examples = []
    for row in rows:
        start = len(str(row["prompt"]))
        examples.append(SpellingExample(str(row["text"]), ((start, start + len(str(row["completion"]))),)))
    return examples


def tokenized_texts(
    examples: Sequence[SpellingExample],
    templates: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    words_per_text: int,
    longest: int,
    seed: int,
    loss_on: Literal["letters", "all"] = "letters",
) -> list[TokenizedExample]:
    """Tokenize the examples in texts of one to `words_per_text` words, in about the order of the examples.

    A model that has only seen single words does worse after a prompt's examples than without them. Texts of more than
    `longest` tokens are taken apart again.
    """
    groups = _same_template_groups(examples, templates, words_per_text, seed)
    texts = tokenize_examples(tokenizer, [join_examples(group) for group in groups], loss_on)
    fitting: list[TokenizedExample] = []
    for group, text in zip(groups, texts, strict=True):
        fits = len(text.input_ids) <= longest
        fitting.extend([text] if fits else tokenize_examples(tokenizer, group, loss_on))
    return fitting


def _same_template_groups(
    examples: Sequence[SpellingExample], templates: Sequence[str], most: int, seed: int
) -> list[list[SpellingExample]]:
    rng = random.Random(f"{seed} groups")
    waiting: dict[str, list[SpellingExample]] = {}
    wanted: dict[str, int] = {}
    groups = []
    for example, template in zip(examples, templates, strict=True):
        group = waiting.setdefault(template, [])
        group.append(example)
        if len(group) >= wanted.setdefault(template, rng.randint(1, most)):
            groups.append(waiting.pop(template))
            del wanted[template]
    return [*groups, *waiting.values()]
