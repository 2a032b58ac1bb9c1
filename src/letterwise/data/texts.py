"""Training texts as a model meets them: true or shuffled spellings, one or several words a text.

Knows the rows of the config `spelling`; knows nothing about optimisation.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from letterwise.data import audit
from letterwise.data.packing import TokenizedExample, tokenize_examples
from letterwise.tasks.spelling import (
    LENGTH_TEMPLATES,
    SPELLING_TEMPLATES,
    SpellingExample,
    join_examples,
    with_length,
)


def shuffled_spelling(rows: Sequence[dict[str, str]], seed: int) -> list[SpellingExample]:
    """The control's training texts: the same, with each word's letters in a random order that is not the true one.

    Words of one letter repeated ("oo") have no other order and stay as they are.
    """
    templates = {template.name: template for template in SPELLING_TEMPLATES}
    rng = random.Random(f"{seed} control")
    examples = []
    for row in rows:
        letters = list(row["word"])
        folded = row["word"].lower()
        if len(set(folded)) > 1:
            while "".join(letters).lower() in {folded} | audit.ALL_IMPURE_WORDS:
                rng.shuffle(letters)
        template = templates.get(row["template"])
        if template is None:
            template = with_length(next(t for t in LENGTH_TEMPLATES if t.name == row["template"]), letters)
        examples.append(template.render(row["surface"], letters))
    return examples


def spelling_examples(rows: Sequence[dict[str, str]]) -> list[SpellingExample]:
    """Training rows as texts with the span to learn."""
    return [
        SpellingExample(row["text"], ((len(row["prompt"]), len(row["prompt"]) + len(row["completion"])),))
        for row in rows
    ]


def tokenized_texts(
    examples: Sequence[SpellingExample],
    templates: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    words_per_text: int,
    longest: int,
    seed: int,
) -> list[TokenizedExample]:
    """Tokenize the examples in texts of one to `words_per_text` words.

    A model that has only seen single words does worse after a prompt's examples than without them. Texts of more than
    `longest` tokens are taken apart again.
    """
    groups = _same_template_groups(examples, templates, words_per_text, seed)
    texts = tokenize_examples(tokenizer, [join_examples(group) for group in groups])
    fitting: list[TokenizedExample] = []
    for group, text in zip(groups, texts, strict=True):
        fits = len(text.input_ids) <= longest
        fitting.extend([text] if fits else tokenize_examples(tokenizer, group))
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
