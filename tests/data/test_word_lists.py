from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.data.audit import ALL_IMPURE_WORDS, words_in
from letterwise.data.word_lists import build_words, contexts, few_shot_words, read_extra_words, read_words, token_uses
from letterwise.data_config import WordsConfig
from letterwise.errors import LetterwiseError
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SPELLING_TEMPLATES, with_length
from letterwise.words.dictionary import tokens_in_context


def test_held_out_words_are_several_tokens_wherever_they_are_asked_about(
    words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens, held_out, _ = read_words(words_folder)
    words = [*held_out.validation, *held_out.test]
    assert len(held_out.validation) == len(held_out.test) == 60
    assert len(set(words)) == 120
    assert {token.letters.lower() for token in tokens}.isdisjoint(words)
    for context in contexts():
        assert min(map(len, tokens_in_context(tiny_tokenizer, context, words))) >= 2


def test_words_of_templates_and_examples_are_not_held_out(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    """All candidates are taken, so that any word that could be drawn is."""
    settings = WordsConfig(validation_words=1, test_words=1, min_zipf=4.5)
    with pytest.raises(LetterwiseError) as refused:
        build_words(settings.model_copy(update={"test_words": 10**6}), tiny_tokenizer, 0, tmp_path)
    available = int(str(refused.value).partition("only ")[2].split()[0])
    held_out = build_words(settings.model_copy(update={"test_words": available - 1}), tiny_tokenizer, 0, tmp_path)
    words = {*held_out.validation, *held_out.test}
    lengths = [with_length(LENGTH_TEMPLATES[0], "x" * length) for length in range(2, 22)]
    template_words = words_in(template.text for template in (*SPELLING_TEMPLATES, *LENGTH_TEMPLATES, *lengths))
    assert len(words) == available
    assert words & template_words == set()
    assert words & few_shot_words() == set()


def test_the_same_seed_gives_the_same_bytes(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = WordsConfig(validation_words=60, test_words=60, min_zipf=4.5)
    build_words(settings, tiny_tokenizer, 0, tmp_path)
    for name in ("tokens.json", "held_out_words.json"):
        assert (tmp_path / name).read_bytes() == (words_folder / name).read_bytes()


def test_extra_training_words_are_others_and_change_nothing_about_the_held_out_ones(
    words_folder: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens, held_out, _ = read_words(words_folder)

    def extra(number: int) -> list[str]:
        settings = WordsConfig(validation_words=60, test_words=60, min_zipf=4.5, extra_training_words=number)
        assert build_words(settings, tiny_tokenizer, 0, tmp_path) == held_out
        return read_extra_words(tmp_path)

    forty = extra(40)
    assert len(set(forty)) == 40
    assert set(forty).isdisjoint({*few_shot_words(), *ALL_IMPURE_WORDS})
    reserved = [*held_out.validation, *held_out.test]
    assert not [(word, other) for word in forty for other in reserved if word in other or other in word]
    assert {token.letters.lower() for token in tokens}.isdisjoint(forty)
    assert min(map(len, tokens_in_context(tiny_tokenizer, "Word: {word}", forty))) >= 2
    assert extra(20) == forty[:20]


def test_more_extra_words_than_there_are_is_one_sentence(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = WordsConfig(validation_words=60, test_words=60, min_zipf=4.5, extra_training_words=10**6)
    with pytest.raises(LetterwiseError, match=r"extra_training_words asks for 1000000 words, but unlike the held-out"):
        build_words(settings, tiny_tokenizer, 0, tmp_path)


def test_uses_count_the_words_that_a_piece_occurs_in(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    (first, *rest), *_ = tokens_in_context(tiny_tokenizer, "Word: {word}", ["strawberry"])
    uses = token_uses(tiny_tokenizer, ["strawberry", "strawberry"])
    assert uses == {f" {first}": 2, **dict.fromkeys(rest, 2)}


def test_reserved_words_do_not_count_as_uses(words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    _, held_out, uses = read_words(words_folder)
    everything = token_uses(tiny_tokenizer, [*held_out.validation, *held_out.test])
    assert uses
    assert any(uses.get(piece, 0) < count for piece, count in everything.items())


@pytest.mark.parametrize(
    "content", [{"validation": ["plum"]}, {"validation": 1, "test": [], "token_uses": {}}, [], {"test": None}]
)
def test_a_malformed_file_is_one_sentence(words_folder: Path, tmp_path: Path, content: object) -> None:
    (tmp_path / "tokens.json").write_bytes((words_folder / "tokens.json").read_bytes())
    (tmp_path / "held_out_words.json").write_text(json.dumps(content))
    with pytest.raises(LetterwiseError, match=r"held_out_words.json is malformed .* run `letterwise words` again"):
        read_words(tmp_path)


def test_malformed_extra_words_are_one_sentence_and_none_are_none(words_folder: Path, tmp_path: Path) -> None:
    assert "extra_training" not in json.loads((words_folder / "held_out_words.json").read_text())
    assert read_extra_words(words_folder) == []
    (tmp_path / "held_out_words.json").write_text(json.dumps({"extra_training": 3}))
    with pytest.raises(LetterwiseError, match=r"held_out_words.json is malformed .* run `letterwise words` again"):
        read_extra_words(tmp_path)


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="run the step that writes it first"):
        read_words(tmp_path)
