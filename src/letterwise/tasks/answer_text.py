"""What a model wrote, made ready for an answer to be read from it.

Knows how generated text runs on and is decorated; knows nothing about letters, counts or words.
"""

from __future__ import annotations

import re

_NEXT_QUESTION = re.compile(r"\n\s*(?:question|q)\s*:", re.IGNORECASE)
_STRAIGHT_QUOTES = str.maketrans("‘’“”", "''\"\"")
_MARKUP = re.compile(r"[*_`]")


def tidy(text: str) -> str:
    """The answer in lower case, with straight quotes, without Markdown emphasis.

    A base model that has seen a few examples goes on with a question of its own; that part is dropped.
    """
    answer = _NEXT_QUESTION.split(text.strip(), maxsplit=1)[0]
    return _MARKUP.sub("", answer.translate(_STRAIGHT_QUOTES)).strip().lower()
