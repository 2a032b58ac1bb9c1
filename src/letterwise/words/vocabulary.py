"""The letter tokens of a tokenizer: the vocabulary entries that are written with letters only.

Knows how to read any Hugging Face tokenizer's vocabulary; knows nothing about models, questions or held-out words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from letterwise.errors import LetterwiseError
from letterwise.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SurfaceForm = Literal["lower", "capitalized", "upper", "mixed"]
SURFACE_FORMS: tuple[SurfaceForm, ...] = get_args(SurfaceForm)


@dataclass(frozen=True, slots=True)
class LetterToken:
    """A vocabulary entry whose text is two or more ASCII letters, with or without one leading space."""

    token: str
    """Decoded text, the leading space kept: ``" straw"``."""
    token_id: int
    char_length: int
    """Number of letters; the leading space does not count."""

    @property
    def letters(self) -> str:
        """The text without the leading space."""
        return self.token.removeprefix(" ")

    @property
    def leading_space(self) -> bool:
        """Whether the token begins a word."""
        return self.token.startswith(" ")

    @property
    def surface_form(self) -> SurfaceForm:
        """How the letters are capitalized."""
        if self.letters.islower():
            return "lower"
        if self.letters.isupper():
            return "upper"
        return "capitalized" if self.letters.istitle() else "mixed"


_FIELDS = ("token", "token_id", "char_length")


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: list[LetterToken]


def extract_letter_tokens(tokenizer: PreTrainedTokenizerBase) -> list[LetterToken]:
    """Every vocabulary entry that decodes to two or more ASCII letters, apart from one leading space.

    Only ASCII letters count because a letter outside a-z is not one well-defined thing to spell: "é" is one or two
    characters depending on its Unicode normalization, and byte-level tokenizers cut it into bytes. Special and
    added tokens are left out.

    Returns:
        The tokens in order of their id. Two of them may have the same text (see `training_words`).

    Raises:
        LetterwiseError: the vocabulary has no such entry, as with character- and byte-level tokenizers.
    """
    # Decoders drop the space (or the "##" of WordPiece) of the first token of a text, so each entry is decoded
    # behind some other text. This asks the tokenizer itself and needs no knowledge of "Ġ", "▁" or "##".
    anchor = tokenizer.encode("a", add_special_tokens=False)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = sorted(set(tokenizer.get_vocab().values()) - special)
    anchor_text, *texts = tokenizer.batch_decode(
        [anchor, *([*anchor, token_id] for token_id in ids)], clean_up_tokenization_spaces=False
    )
    pattern = re.compile(re.escape(anchor_text) + "( ?([A-Za-z]{2,}))")
    tokens = [
        LetterToken(token=match[1], token_id=token_id, char_length=len(match[2]))
        for token_id, text in zip(ids, texts, strict=True)
        if (match := pattern.fullmatch(text))
    ]
    if not tokens:
        raise LetterwiseError(
            f"The tokenizer {tokenizer.name_or_path or type(tokenizer).__name__} has no token of two or more letters, "
            "as is usual for character- and byte-level tokenizers; choose a base model with a subword tokenizer."
        )
    return tokens


def training_words(tokens: Iterable[LetterToken], excluded: frozenset[str]) -> list[LetterToken]:
    """The tokens to train on: one for each text, without those whose letters are in `excluded`.

    Args:
        tokens: letter tokens; of several with the same text the first is kept.
        excluded: lower-case words, left out in every letter case and with or without a leading space.
    """
    by_text: dict[str, LetterToken] = {}
    for token in tokens:
        if token.letters.lower() not in excluded:
            by_text.setdefault(token.token, token)
    return list(by_text.values())


def write_tokens(path: Path, tokens: Sequence[LetterToken]) -> None:
    """Write ``{"tokens": [{"token", "token_id", "char_length"}]}``, atomically."""
    write_json(path, {"tokens": [{name: getattr(token, name) for name in _FIELDS} for token in tokens]})


def read_tokens(path: Path) -> list[LetterToken]:
    """Read what `write_tokens` wrote.

    Raises:
        LetterwiseError: the file is missing or does not have that shape.
    """
    raw = read_json(path)
    try:
        return _TokenFile.model_validate(raw).tokens
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise LetterwiseError(f"{path} is not a token file: {where}: {first['msg']}.") from error


def token_table(tokens: Sequence[LetterToken]) -> pd.DataFrame:
    """Count tokens by number of letters and by surface form and leading space.

    Returns:
        One row for each number of letters that occurs and one ``total`` row; one column for each pair of a surface
        form and ``"space"`` or ``"no space"``, and one ``("total", "")`` column.
    """
    table = pd.crosstab(
        index=pd.Series([token.char_length for token in tokens], name="letters"),
        columns=[
            pd.Categorical([token.surface_form for token in tokens], categories=SURFACE_FORMS),
            pd.Categorical(
                ["space" if token.leading_space else "no space" for token in tokens], categories=["space", "no space"]
            ),
        ],
        colnames=["surface_form", "leading_space"],
        dropna=False,
    )
    table[("total", "")] = table.sum(axis="columns")
    table.loc["total"] = table.sum()
    return table
