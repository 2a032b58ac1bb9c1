"""Held-out words divided into validation and test.

Knows how to draw two disjoint samples stratified by length; knows nothing about where the words come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from letterwise.errors import LetterwiseError


@dataclass(frozen=True)
class HeldOutWords:
    """Two disjoint lists of words, each in random order, so that the first few are a fair sample too."""

    validation: list[str]
    test: list[str]


def split_held_out(candidates: Iterable[str], validation: int, test: int, seed: int) -> HeldOutWords:
    """Draw disjoint validation and test words whose lengths are distributed as among the candidates.

    The draw depends on the set of candidates and the seed, not on the order of the candidates.

    Args:
        candidates: words; repeated ones count once.
        validation: number of validation words.
        test: number of test words.
        seed: seed of the draw.

    Raises:
        LetterwiseError: there are fewer candidates than words wanted.
    """
    pool = sorted(set(candidates))
    if len(pool) < validation + test:
        raise LetterwiseError(
            f"{validation} validation and {test} test words are wanted but only {len(pool)} words can be held out; "
            "lower words.validation_words or words.test_words, lower words.min_zipf, "
            "or widen words.min_letters to words.max_letters."
        )
    random = Random(seed)
    # Dividing one stratified sample keeps the two disjoint even where a length has few words.
    drawn = _stratified_sample(pool, validation + test, random)
    validation_words = _stratified_sample(drawn, validation, random)
    in_validation = set(validation_words)
    return HeldOutWords(validation=validation_words, test=[word for word in drawn if word not in in_validation])


def _stratified_sample(words: Sequence[str], size: int, random: Random) -> list[str]:
    """Draw `size` of the distinct `words`, each length in proportion (largest-remainder method)."""
    by_length: dict[int, list[str]] = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    shares = {length: divmod(size * len(same), len(words)) for length, same in sorted(by_length.items())}
    unassigned = size - sum(whole for whole, _ in shares.values())
    rounded_up = set(sorted(shares, key=lambda length: -shares[length][1])[:unassigned])
    sample = [
        word
        for length, (whole, _) in shares.items()
        for word in random.sample(by_length[length], whole + (length in rounded_up))
    ]
    random.shuffle(sample)
    return sample
