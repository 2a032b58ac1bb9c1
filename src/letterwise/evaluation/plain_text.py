"""English prose that is at hand everywhere: the help texts on the language that come with Python.

`pydoc_data.topics` is taken because every Python brings it, it is written by people in whole sentences, it is about
neither spelling nor counting letters, and no dependency ships as much prose beside licences. Knows tokenizers; knows
nothing about models.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from letterwise.errors import LetterwiseError

PASSAGES = 128
PASSAGE_TOKENS = 128
_SHORTEST = 120
"""Characters of a paragraph."""
_NO_PROSE = re.compile(r">>>|::=|__|\.\.\.|[={}|\\<>]")
"""What code and grammars have and sentences do not."""


@dataclass(frozen=True, slots=True)
class Passages:
    """A text as passages of equal length."""

    source: str
    sha256: str
    ids: list[list[int]]
    """Token ids, shape (passages, tokens)."""


def prose_passages(
    tokenizer: PreTrainedTokenizerBase, passages: int = PASSAGES, passage_tokens: int = PASSAGE_TOKENS
) -> Passages:
    """Python's help texts as passages, spread evenly over the whole text.

    Args:
        tokenizer: of the model.
        passages: at most so many.
        passage_tokens: tokens of each passage.

    Raises:
        LetterwiseError: this Python was installed without its help texts.
    """
    text = "\n".join(_paragraphs())
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    whole = len(ids) // passage_tokens
    count = min(passages, whole)
    starts = [place * whole // count * passage_tokens for place in range(count)]
    return Passages(
        source=f"pydoc_data.topics of Python {platform.python_version()}, whole sentences only",
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        ids=[ids[start : start + passage_tokens] for start in starts],
    )


def _paragraphs() -> Iterator[str]:
    """Paragraphs of whole sentences, each once; no code, no grammar."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise LetterwiseError(
            "This Python lacks its help texts (pydoc_data.topics), on which retention is measured; use one from "
            "python.org, conda or your system's full package."
        ) from None
    seen = set()
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            paragraph = " ".join(re.sub(r"-\n\s*", "-", block).split())
            whole = paragraph[:1].isupper() and paragraph.endswith(".") and len(paragraph) >= _SHORTEST
            if whole and not _NO_PROSE.search(paragraph) and paragraph not in seen:
                seen.add(paragraph)
                yield paragraph
