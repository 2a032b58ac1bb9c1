from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterwise.errors import LetterwiseError
from letterwise.words.splits import split_held_out

WORDS = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=60, unique=True)


@given(words=WORDS, data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_any_split_is_exact_disjoint_and_stratified(words: list[str], data: st.DataObject, seed: int) -> None:
    validation = data.draw(st.integers(0, len(words)))
    test = data.draw(st.integers(0, len(words) - validation))
    split = split_held_out(words, validation, test, seed)
    assert len(split.validation) == validation
    assert len(split.test) == test
    assert len({*split.validation, *split.test} & {*words}) == validation + test
    lengths = Counter(map(len, words))
    for drawn in (split.validation, split.test):
        for length, count in lengths.items():
            # Rounded once when the words are drawn and once when they are divided.
            assert abs(sum(len(word) == length for word in drawn) - len(drawn) * count / len(words)) < 2


@given(words=WORDS, seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_candidates_does_not_matter(words: list[str], seed: int) -> None:
    shuffled = Random(seed).sample(words, len(words))
    size = len(words) // 2
    assert split_held_out(words, size, size, seed) == split_held_out([*shuffled, *shuffled], size, size, seed)


def test_another_seed_draws_other_words() -> None:
    words = [f"{first}{second}x" for first in "abcdefgh" for second in "abcdefgh"]
    assert split_held_out(words, 10, 10, seed=0) == split_held_out(words, 10, 10, seed=0)
    assert split_held_out(words, 10, 10, seed=0) != split_held_out(words, 10, 10, seed=1)


def test_the_first_words_of_a_split_have_mixed_lengths() -> None:
    words = [letter * length for letter in "abcdefghijklmnopqrstuvwxyz" for length in (3, 5, 7, 9)]
    assert len(set(map(len, split_held_out(words, 50, 50, seed=0).test[:20]))) == 4


@pytest.mark.parametrize("candidates", [[], ["straw", "berry", "straw"]])
def test_too_few_candidates_name_the_remedy(candidates: list[str]) -> None:
    with pytest.raises(LetterwiseError, match=r"only \d words can be held out; lower words\.validation_words"):
        split_held_out(candidates, 2, 1, seed=0)
