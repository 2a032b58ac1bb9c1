"""Families of word forms, so that a word and its inflections can be kept on one side of a split.

Knows Hunspell's English dictionary; knows nothing about tokens or models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hunspell import Hunspell
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def word_families(words: Sequence[str]) -> NDArray[np.int64]:
    """A number for each word, the same for all words of one family.

    Two words are of one family if they are the same letters in whatever case, or have a stem in common in Hunspell's
    English dictionary, as "walks" and "walked" or "ran" and "running" do, or are joined by a chain of such words.

    Args:
        words: of letters only.

    Returns:
        Shape (words,).
    """
    dictionary = Hunspell("en_US")
    lowered = [word.lower() for word in words]
    related = [(word, stem.lower()) for word in dict.fromkeys(lowered) for stem in dictionary.stem(word)]
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*lowered, *(stem for _, stem in related)]))}
    ends = np.array([(numbers[word], numbers[stem]) for word, stem in related], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(numbers), len(numbers)))
    _, families = connected_components(graph, directed=False)
    return np.array([families[numbers[word]] for word in lowered], dtype=np.int64)
