"""Held-out words: dictionary words that no single token of the vocabulary spells.

Knows the dictionary and how a tokenizer splits a word in its context; the contexts themselves come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from english_words import get_english_words_set
from wordfreq import get_frequency_dict, zipf_frequency

from letterwise.errors import LetterwiseError
from letterwise.words.vocabulary import LetterToken

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLACEHOLDER = "{word}"
_WORDS_AT_A_TIME = 10_000


def dictionary_words(min_letters: int, max_letters: int, min_zipf: float) -> list[str]:
    """English dictionary words (GCIDE and Webster's Second) in lower-case ASCII letters, sorted.

    Args:
        min_letters: shortest word, in letters.
        max_letters: longest word, in letters.
        min_zipf: lowest Zipf frequency (wordfreq; base-10 logarithm of occurrences per billion words).
    """
    # The package's own `alpha=True` would delete apostrophes and hyphens, and so make words such as "dont".
    known = get_frequency_dict("en")
    entries = get_english_words_set(["gcide", "web2"], lower=True)
    return sorted(
        word
        for word in entries
        if min_letters <= len(word) <= max_letters
        and word.isascii()
        and word.isalpha()
        # Of a word that the list does not have the frequency is 0; looking that up is ten times as fast.
        and (min_zipf == 0 or (word in known and zipf_frequency(word, "en") >= min_zipf))
    )


def tokens_in_context(tokenizer: PreTrainedTokenizerBase, context: str, words: Sequence[str]) -> list[list[str]]:
    """How the tokenizer splits each word when it stands in `context`.

    Args:
        tokenizer: a fast tokenizer.
        context: text with ``{word}`` once, such as ``"Word: {word}\\n"``.
        words: the words to put there.

    Returns:
        For each word, its part in each token that overlaps it; together the parts give the word. What else a token
        covers, such as a leading space, is left out: ``" straw"`` and ``"berry"`` give ``["straw", "berry"]``.

    Raises:
        LetterwiseError: the tokenizer is not a fast one, so it does not say which characters a token covers.
        ValueError: ``{word}`` is not in `context` exactly once.
    """
    if not tokenizer.is_fast:
        raise LetterwiseError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} does not say which characters its "
            "tokens cover; choose a base model with a fast tokenizer (a tokenizer.json file)."
        )
    if context.count(PLACEHOLDER) != 1:
        raise ValueError(f"{PLACEHOLDER} must be in the context exactly once: {context!r}")
    if not words:
        return []
    before, _, after = context.partition(PLACEHOLDER)
    # Asked directly, the tokenizer spares the lists of ids and masks that transformers would make of them.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    first = len(before)
    parts: list[list[str]] = []
    for start in range(0, len(words), _WORDS_AT_A_TIME):
        some = words[start : start + _WORDS_AT_A_TIME]
        encodings = backend.encode_batch([before + word + after for word in some], add_special_tokens=False)
        parts.extend(_parts(word, first, encoding.offsets) for word, encoding in zip(some, encodings, strict=True))
    return parts


def _parts(word: str, first: int, spans: Iterable[tuple[int, int]]) -> list[str]:
    """Cut `word`, which stands at `first`, where tokens begin."""
    last = first + len(word)
    # A set, because a lone "▁" put before the text claims the first letter as well as the token that holds it.
    starts = sorted({max(low - first, 0) for low, high in spans if low < last and high > first})
    return [word[low:high] for low, high in pairwise([*starts, len(word)])]


def held_out_candidates(
    words: Iterable[str],
    training_words: Iterable[LetterToken | str],
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[str],
    excluded: frozenset[str],
) -> list[str]:
    """The words that may be held out, in the order given.

    A word stays if it is not a training word in any letter case, is not in `excluded`, and is split in every context
    into two or more tokens, at least one of them with two or more of its letters: its spelling has then to be put
    together from tokens, and is not handed over letter by letter.

    Args:
        words: lower-case words.
        training_words: words trained on, as tokens or as text with or without a leading space.
        tokenizer: a fast tokenizer.
        contexts: texts with ``{word}`` once each, in which the word will stand.
        excluded: lower-case words to leave out.

    Raises:
        LetterwiseError: the tokenizer is not a fast one.
    """
    seen = {(word if isinstance(word, str) else word.token).removeprefix(" ").lower() for word in training_words}
    kept = [word for word in words if word not in seen and word not in excluded]
    for context in contexts:
        splits = tokens_in_context(tokenizer, context, kept)
        kept = [word for word, split in zip(kept, splits, strict=True) if len(split) > 1 and max(map(len, split)) > 1]
    return kept
