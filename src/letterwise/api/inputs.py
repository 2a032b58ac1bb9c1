"""What callers may write: words, letters and questions about words, made plain before anything else sees them.

Knows text; knows nothing about models or which requests there are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

MAX_LETTERS = 32
"""Longest word that may be asked about, in letters."""
MAX_TEXT = 300
"""Longest text that may be asked about, in characters."""

_WORD = re.compile(rf"[a-z]{{1,{MAX_LETTERS}}}")
# The word in quotation marks, or after "spell" or "spelling of", or a text that is one word.
_QUOTED = re.compile(r"""["'‘’“”«»`]([A-Za-z]+)["'‘’“”«»`]""")
_AFTER_SPELL = re.compile(
    r"\bspell(?:ing\s+of)?\s+(?:out\s+)?(?:(?:the|this)\s+)?(?:word\s+)?:?\s*([A-Za-z]+)\W*$", re.IGNORECASE
)
_ALONE = re.compile(r"\W*([A-Za-z]+)\W*")


def _normal(value: object) -> object:
    """Compatibility forms (full-width letters, ligatures) become plain ones; spaces around go."""
    return unicodedata.normalize("NFKC", value).strip() if isinstance(value, str) else value


def _whole(value: object) -> object:
    """JSON has one kind of number, so 3.0 is the integer 3 (JSON Schema, 6.1.1)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain_word(value: str) -> str:
    word = value.lower()
    if not _WORD.fullmatch(word):
        raise ValueError(f"must be one word of 1 to {MAX_LETTERS} letters a to z")
    return word


def _plain_letter(value: str) -> str:
    letter = value.lower()
    if not re.fullmatch("[a-z]", letter):
        raise ValueError("must be one letter a to z")
    return letter


def word_in_question(text: str) -> str:
    """The word that a text such as "How do you spell 'algorithm'?" asks about, in lower case.

    Raises:
        ValueError: no word, or no single one, can be made out.
    """
    quoted = set(_QUOTED.findall(text))
    if len(quoted) > 1:
        raise ValueError("must ask about one word; put only that one in quotation marks")
    match = _AFTER_SPELL.search(text) or _ALONE.fullmatch(text)
    word = quoted.pop() if quoted else match[1] if match else None
    if word is None:
        raise ValueError("must be a word or ask about one in quotation marks, such as: How do you spell 'algorithm'?")
    return _plain_word(word)


def _spelling_question(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co") for character in text):
        raise ValueError("must not hold control characters")
    word_in_question(text)
    return text


Word = Annotated[
    str,
    BeforeValidator(_normal),
    Field(
        min_length=1,
        max_length=MAX_LETTERS,
        description="One word of letters a to z, in any case.",
        json_schema_extra={"pattern": f"^[A-Za-z]{{1,{MAX_LETTERS}}}$"},
    ),
    AfterValidator(_plain_word),
]
Letter = Annotated[
    str,
    BeforeValidator(_normal),
    Field(
        min_length=1,
        max_length=1,
        description="One letter a to z, in any case.",
        json_schema_extra={"pattern": "^[A-Za-z]$"},
    ),
    AfterValidator(_plain_letter),
]
Text = Annotated[
    str,
    BeforeValidator(_normal),
    Field(
        min_length=1,
        max_length=MAX_TEXT,
        description="A word, or a question with a word in quotation marks.",
        json_schema_extra={"format": "spelling-question"},
    ),
    AfterValidator(_spelling_question),
]
# The bounds come first: behind the conversion pydantic would leave them out of the JSON schema.
Position = Annotated[
    int, Field(ge=1, le=MAX_LETTERS, strict=True, description="1 is the first letter."), BeforeValidator(_whole)
]
