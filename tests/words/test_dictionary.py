import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase
from wordfreq import zipf_frequency

from letterwise.errors import LetterwiseError
from letterwise.words.dictionary import dictionary_words, held_out_candidates, tokens_in_context
from letterwise.words.vocabulary import LetterToken

NOTHING: frozenset[str] = frozenset()


def test_dictionary_words_are_frequent_lower_case_ascii_words_of_the_wanted_lengths() -> None:
    words = dictionary_words(min_letters=6, max_letters=12, min_zipf=3.0)
    assert "strawberry" in words
    assert words == sorted(set(words))
    for word in words:
        assert word.isascii()
        assert word.isalpha()
        assert word.islower()
        assert 6 <= len(word) <= 12
    assert min(zipf_frequency(word, "en") for word in words) >= 3.0


def test_contractions_do_not_become_words() -> None:
    words = dictionary_words(min_letters=2, max_letters=4, min_zipf=4.0)
    assert "does" in words
    assert {"im", "ive", "tis"}.isdisjoint(words)


@pytest.mark.parametrize("context", ["Word: {word}\n", "Spell ({word}) {now}", "say {word}", "{word} again"])
def test_tokens_in_context_gives_the_word_cut_by_its_tokens(
    any_tokenizer: PreTrainedTokenizerBase, context: str
) -> None:
    assert tokens_in_context(any_tokenizer, context, ["strawberry", "straw", "by"]) == [
        ["straw", "berry"],
        ["straw"],
        ["b", "y"],
    ]


def test_a_token_that_also_covers_text_around_the_word_counts(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokens_in_context(tokenizer, "be{word}y", ["rr"]) == [["rr"]]
    assert tokens_in_context(tokenizer, "st{word}berry", ["raw"]) == [["raw"]]


def test_no_words_give_no_splits(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokens_in_context(tokenizer, "{word}", []) == []


def test_tokens_in_context_needs_a_fast_tokenizer() -> None:
    with pytest.raises(LetterwiseError, match="choose a base model with a fast tokenizer"):
        tokens_in_context(ByT5Tokenizer(), "{word}", ["straw"])


@pytest.mark.parametrize("context", ["Word:", "{word} {word}"])
def test_the_context_must_hold_the_word_once(tokenizer: PreTrainedTokenizerBase, context: str) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        tokens_in_context(tokenizer, context, ["straw"])


def test_words_of_one_token_or_of_single_letters_are_not_held_out(any_tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["straw", "strawberry", "xyz"]
    assert held_out_candidates(words, [], any_tokenizer, ["Word: {word}\n"], NOTHING) == ["strawberry"]


def test_a_word_must_be_split_in_every_context(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokens_in_context(tokenizer, "x {word}", ["traw"]) == [["t", "raw"]]
    assert tokens_in_context(tokenizer, "s{word}", ["traw"]) == [["traw"]]
    assert held_out_candidates(["traw"], [], tokenizer, ["x {word}"], NOTHING) == ["traw"]
    assert held_out_candidates(["traw"], [], tokenizer, ["x {word}", "s{word}"], NOTHING) == []


def test_training_words_in_any_letter_case_are_not_held_out(tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["berrystraw", "strawberry", "strawstraw", "berryberry"]
    trained = [LetterToken(token=" Strawberry", token_id=1, char_length=10), " BERRYSTRAW"]
    assert held_out_candidates(words, trained, tokenizer, ["Word: {word}"], frozenset({"strawstraw"})) == ["berryberry"]
