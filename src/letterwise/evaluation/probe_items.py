"""What probes are asked: which token has which letters, and which tokens probes are fitted and tested on.

Follows Kaushal and Mahowald (NAACL 2022, "What do tokens know about their characters and how do they know it?"): for
each letter as many tokens that contain it as tokens that do not, and no test token of a word family that a probe has
seen. Knows tokens; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from letterwise.errors import LetterwiseError
from letterwise.words.vocabulary import SURFACE_FORMS, LetterToken, training_words
from letterwise.words.word_families import word_families

PARTS = ("fit", "validation", "test")
FIT, VALIDATION, TEST = range(3)
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.16
"""A fifth of what is not for testing."""
FEWEST = 5
"""A letter has a probe if each part has so many tokens with it and so many without it."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ProbeItems:
    """Tokens and what is asked about them; arrays have a row for each token."""

    token_ids: Ints
    families: Ints
    parts: Ints
    """`FIT`, `VALIDATION` or `TEST`."""
    letters: str
    """The letters that have a probe."""
    contains: Bools
    """Shape (tokens, letters)."""
    asked: Bools
    """Shape (tokens, letters): whether the token is one of the balanced ones of this letter."""
    first: Ints
    """Place of the first letter in the alphabet, from 0."""
    last: Ints
    appearance: NDArray[np.float32]
    """Shape (tokens, features): number of letters, letter case and leading space, one-hot."""

    def test_items(self) -> pd.DataFrame:
        """What is asked about test tokens: question, letter ('' where none is named) and word family.

        One row for each letter asked about each token, then one for each token's first and one for its last letter.
        """
        test = self.parts == TEST
        rows, columns = np.nonzero(self.asked[test])
        families = self.families[test]
        pairs = {"letter": np.array(list(self.letters))[columns], "family": families[rows]}
        frames = [pd.DataFrame({"question": "contains_letter", **pairs})]
        for question in ("first_letter", "last_letter"):
            frames.append(pd.DataFrame({"question": question, "letter": "", "family": families}))
        return pd.concat(frames, ignore_index=True)

    def majority_is_right(self) -> Bools:
        """Whether always giving the answer that is most frequent among the tokens to fit on is right, by test item."""
        fit, test = self.parts == FIT, self.parts == TEST
        contains = ~self.contains[test][self.asked[test]]  # balanced, so that no answer is more frequent
        places = [labels[test] == np.bincount(labels[fit]).argmax() for labels in (self.first, self.last)]
        return np.concatenate([contains, *places])


def draw_items(tokens: Sequence[LetterToken], seed: int) -> ProbeItems:
    """Divide tokens by word family, and choose the balanced ones of each letter.

    Raises:
        LetterwiseError: there are too few tokens for the probe of any letter.
    """
    kept = training_words(tokens, excluded=frozenset())  # one for each text
    words = [token.letters.lower() for token in kept]
    rng = np.random.default_rng(seed)
    families = word_families(words)
    parts = _divide(families, rng)
    contains = np.array([[letter in word for letter in ascii_lowercase] for word in words])
    asked = np.stack([_balanced(contains[:, letter], parts, rng) for letter in range(len(ascii_lowercase))], axis=1)
    probed = asked.sum(axis=0) > 0
    if not probed.any():
        raise LetterwiseError(
            f"{len(kept)} letter tokens are too few to probe: in each of three parts, some letter has to be in "
            f"{FEWEST} of them; choose a base model with a larger vocabulary."
        )
    return ProbeItems(
        token_ids=np.array([token.token_id for token in kept]),
        families=families,
        parts=parts,
        letters="".join(letter for letter, has_probe in zip(ascii_lowercase, probed, strict=True) if has_probe),
        contains=contains[:, probed],
        asked=asked[:, probed],
        first=np.array([ascii_lowercase.index(word[0]) for word in words]),
        last=np.array([ascii_lowercase.index(word[-1]) for word in words]),
        appearance=_appearance(kept),
    )


def _divide(families: Ints, rng: np.random.Generator) -> Ints:
    """The part of each token, drawn by family."""
    distinct, codes = np.unique(families, return_inverse=True)
    draws = rng.permutation(len(distinct)) / len(distinct)
    part_of = np.where(draws < TEST_SHARE, TEST, np.where(draws < TEST_SHARE + VALIDATION_SHARE, VALIDATION, FIT))
    return part_of[codes]


def _balanced(contains: Bools, parts: Ints, rng: np.random.Generator) -> Bools:
    """Of each part as many tokens with the letter as without it, as many as there are; none where there are too few."""
    asked = np.zeros(len(contains), dtype=bool)
    for part in range(len(PARTS)):
        sides = [np.flatnonzero((parts == part) & (contains == answer)) for answer in (True, False)]
        size = min(map(len, sides))
        if size < FEWEST:
            return np.zeros(len(contains), dtype=bool)
        for side in sides:
            asked[rng.choice(side, size, replace=False)] = True
    return asked


def _appearance(tokens: Sequence[LetterToken]) -> NDArray[np.float32]:
    lengths = np.array([token.char_length for token in tokens])
    columns = [lengths == length for length in np.unique(lengths)]
    columns += [np.array([token.surface_form == form for token in tokens]) for form in SURFACE_FORMS]
    columns.append(np.array([token.leading_space for token in tokens]))
    return np.stack(columns, axis=1).astype(np.float32)
