"""The word lists of an experiment: letter tokens to train on, dictionary words to hold out or to train on as well.

Knows nothing about texts and questions made from them, save where a held-out word will stand in one.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from letterwise.data import audit
from letterwise.data_config import WordsConfig
from letterwise.errors import LetterwiseError
from letterwise.files import read_json, write_json
from letterwise.tasks.questions import FEW_SHOT_WORDS, question_contexts
from letterwise.tasks.spelling import (
    LENGTH_TEMPLATES,
    LENGTH_WORDS,
    SPELLING_CONTEXT,
    SPELLING_FEW_SHOT,
    SPELLING_TEMPLATES,
)
from letterwise.tasks.spelling_exercises import WORDINGS
from letterwise.words.dictionary import dictionary_words, held_out_candidates, tokens_in_context
from letterwise.words.splits import HeldOutWords, split_held_out
from letterwise.words.vocabulary import LetterToken, extract_letter_tokens, read_tokens, write_tokens

TOKENS_FILE = "tokens.json"
HELD_OUT_FILE = "held_out_words.json"


def contexts() -> tuple[str, ...]:
    """Every text around a held-out word, with the place ``{word}``."""
    return (SPELLING_CONTEXT, *question_contexts())


def few_shot_words() -> frozenset[str]:
    """Words of the prompts' examples: neither trained on nor held out."""
    return FEW_SHOT_WORDS | frozenset(SPELLING_FEW_SHOT)


def build_words(config: WordsConfig, tokenizer: PreTrainedTokenizerBase, seed: int, folder: Path) -> HeldOutWords:
    """Write ``tokens.json`` (every letter token) and ``held_out_words.json`` (words to hold out, and extra ones).

    How many extra words there are changes nothing about the held-out ones.

    Raises:
        LetterwiseError: the tokenizer has no letter tokens, or there are too few words to hold out or to train on.
    """
    tokens = extract_letter_tokens(tokenizer)
    templates = [template.text for template in (*SPELLING_TEMPLATES, *LENGTH_TEMPLATES)]
    wordings = [wording.text for wording in WORDINGS.values()]
    template_words = audit.words_in([*templates, *wordings, *LENGTH_WORDS])
    candidates = held_out_candidates(
        dictionary_words(config.min_letters, config.max_letters, config.min_zipf),
        tokens,
        tokenizer,
        contexts(),
        frozenset(few_shot_words() | template_words),
    )
    held_out = split_held_out(candidates, config.validation_words, config.test_words, seed)
    reserved = {*held_out.validation, *held_out.test}
    uses = token_uses(tokenizer, [word for word in candidates if word not in reserved])
    write_tokens(folder / TOKENS_FILE, tokens)
    extra = _extra_words(candidates, reserved, config.extra_training_words, seed) if config.extra_training_words else []
    write_json(
        folder / HELD_OUT_FILE,
        {
            "validation": held_out.validation,
            "test": held_out.test,
            **({"extra_training": extra} if extra else {}),
            "token_uses": dict(sorted(uses.items())),
        },
    )
    return held_out


def _extra_words(candidates: Sequence[str], reserved: Collection[str], wanted: int, seed: int) -> list[str]:
    """So many of the words that are not held out, in random order; fewer are the beginning of more.

    A word that contains a held-out one, or stands in one, is left out: to spell "strawberries" is to spell
    "strawberry".
    """
    inside_reserved = {part for word in reserved for part in _parts(word)}
    free = [
        word
        for word in sorted(set(candidates) - audit.ALL_IMPURE_WORDS)
        if word not in inside_reserved and not any(part in reserved for part in _parts(word))
    ]
    if len(free) < wanted:
        raise LetterwiseError(
            f"words.extra_training_words asks for {wanted} words, but unlike the held-out ones there are {len(free)}; "
            "lower it, or lower words.min_zipf."
        )
    random.Random(f"{seed} extra training words").shuffle(free)
    return free[:wanted]


def _parts(word: str) -> Iterator[str]:
    """Every run of letters in a word, itself among them."""
    return (word[start:end] for start in range(len(word)) for end in range(start + 1, len(word) + 1))


def token_uses(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> Counter[str]:
    """In how many of the words each piece occurs, as the tokenizer splits them after a space.

    A piece that starts a word is written with a leading space, as its token has it.
    """
    uses: Counter[str] = Counter()
    for first, *rest in tokens_in_context(tokenizer, SPELLING_CONTEXT, words):
        uses.update({f" {first}", *rest})
    return uses


def read_words(folder: Path) -> tuple[list[LetterToken], HeldOutWords, dict[str, int]]:
    """Read what `build_words` wrote: tokens, held-out words, and how often each piece is used in other words.

    Raises:
        LetterwiseError: a file is missing or malformed.
    """
    with _well_formed(folder) as raw:
        held_out = HeldOutWords(validation=list(raw["validation"]), test=list(raw["test"]))
        return read_tokens(folder / TOKENS_FILE), held_out, dict(raw["token_uses"])


def read_extra_words(folder: Path) -> list[str]:
    """Read the further training words that `build_words` wrote; none where none were asked for.

    Raises:
        LetterwiseError: the file is missing or malformed.
    """
    with _well_formed(folder) as raw:
        return [str(word) for word in raw["extra_training"]] if "extra_training" in raw else []


@contextmanager
def _well_formed(folder: Path) -> Iterator[Any]:
    raw = read_json(folder / HELD_OUT_FILE)
    try:
        yield raw
    except (KeyError, TypeError, ValueError) as error:
        raise LetterwiseError(
            f"{folder / HELD_OUT_FILE} is malformed ({error}); run `letterwise words` again."
        ) from None
