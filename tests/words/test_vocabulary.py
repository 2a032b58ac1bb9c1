import base64
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from letterwise.errors import LetterwiseError
from letterwise.files import cache_folder, write_text
from letterwise.words.vocabulary import (
    LetterToken,
    extract_letter_tokens,
    read_tokens,
    token_table,
    training_words,
    write_tokens,
)


def letter_token(text: str, token_id: int = 0) -> LetterToken:
    return LetterToken(token=text, token_id=token_id, char_length=len(text.strip()))


def test_word_initial_and_inner_tokens_are_told_apart_in_every_family(any_tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = {token.token: token for token in extract_letter_tokens(any_tokenizer)}
    assert {" straw", "straw", "berry"} <= tokens.keys()
    assert " berry" not in tokens
    assert tokens[" straw"].leading_space
    assert not tokens["straw"].leading_space
    assert tokens[" straw"].letters == "straw"
    assert tokens[" straw"].char_length == 5


def test_a_token_names_the_vocabulary_entry_it_came_from(any_tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = {token.token: token.token_id for token in extract_letter_tokens(any_tokenizer)}
    ids = any_tokenizer("straw strawberry", add_special_tokens=False)["input_ids"]
    assert ids[-2:] == [tokens[" straw"], tokens["berry"]]


def test_tokens_come_in_order_of_their_id(any_tokenizer: PreTrainedTokenizerBase) -> None:
    ids = [token.token_id for token in extract_letter_tokens(any_tokenizer)]
    assert ids == sorted(set(ids))


def test_only_runs_of_two_or_more_ascii_letters_count(any_tokenizer: PreTrainedTokenizerBase) -> None:
    for token in extract_letter_tokens(any_tokenizer):
        assert token.letters.isascii()
        assert token.letters.isalpha()
        assert token.char_length == len(token.letters) >= 2


def test_special_and_added_tokens_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.add_tokens(["blueberry"])
    texts = {token.token for token in extract_letter_tokens(tokenizer)}
    assert "straw" in texts
    assert texts.isdisjoint({"end", "blueberry"})


def test_a_byte_level_tokenizer_without_letter_tokens_is_refused() -> None:
    with pytest.raises(LetterwiseError, match=r"no token of two or more letters.*choose a base model"):
        extract_letter_tokens(ByT5Tokenizer())


@pytest.mark.parametrize(
    ("text", "form"),
    [(" straw", "lower"), ("Straw", "capitalized"), (" USA", "upper"), ("iPhone", "mixed"), ("McDonald", "mixed")],
)
def test_surface_form(text: str, form: str) -> None:
    assert letter_token(text).surface_form == form


def test_training_words_keep_each_text_once_and_leave_out_excluded_words_in_any_case() -> None:
    tokens = [letter_token(text, number) for number, text in enumerate([" red", "red", " Red", " red", " Two", "TWO"])]
    kept = training_words(tokens, frozenset({"two"}))
    assert [(token.token, token.token_id) for token in kept] == [(" red", 0), ("red", 1), (" Red", 2)]


def test_tokens_file_has_the_published_shape_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_tokens(path, [letter_token(" straw", 14), letter_token("Berry", 18)])
    assert json.loads(path.read_text()) == {
        "tokens": [
            {"token": " straw", "token_id": 14, "char_length": 5},
            {"token": "Berry", "token_id": 18, "char_length": 5},
        ]
    }
    assert read_tokens(path) == [letter_token(" straw", 14), letter_token("Berry", 18)]


@pytest.mark.parametrize("content", ["[]", "{}", '{"tokens": [{"token": " straw", "token_id": 14}]}'])
def test_a_file_of_another_shape_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    write_text(path, content)
    with pytest.raises(LetterwiseError, match=r"tokens\.json is not a token file"):
        read_tokens(path)


def test_token_table_counts_by_length_form_and_space_with_totals() -> None:
    table = token_table([letter_token(text) for text in [" red", "red", " sky", " Red", "USA", "berry"]])
    assert list(table.index) == [3, 5, "total"]
    assert table.loc[3, ("lower", "space")] == 2
    assert table.loc[3, ("lower", "no space")] == 1
    assert table.loc[3, ("capitalized", "space")] == 1
    assert table.loc["total", ("upper", "no space")] == 1
    assert table.loc["total", ("mixed", "space")] == 0
    assert table.loc[3, ("total", "")] == 5
    assert table.loc["total", ("total", "")] == 6


class GPT2Ranks(TikTokenConverter):
    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_text().splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}


@pytest.fixture
def gpt2_ranks(tmp_path: Path) -> Path:
    """GPT-2's vocabulary, which the source distribution of openai-whisper carries; fetched once."""
    ranks = cache_folder() / "gpt2-vocabulary" / "gpt2.tiktoken"
    if ranks.exists():
        return ranks
    version = "20250625"
    download = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary=openai-whisper",
        f"openai-whisper=={version}",
    ]
    try:
        subprocess.run(download, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"openai-whisper {version} cannot be fetched: {str(error.stderr or error).strip()[-300:]}")
    with tarfile.open(tmp_path / f"openai_whisper-{version}.tar.gz") as archive:
        asset = archive.extractfile(f"openai_whisper-{version}/whisper/assets/gpt2.tiktoken")
        assert asset is not None
        write_text(ranks, asset.read().decode())
    return ranks


@pytest.mark.slow
def test_gpt2_vocabulary(gpt2_ranks: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=GPT2Ranks(str(gpt2_ranks)).converted())
    tokens = {token.token.encode(): token.token_id for token in extract_letter_tokens(tokenizer)}
    assert len(tokens) == 46_789
    ranks = GPT2Ranks.load_tiktoken_bpe(str(gpt2_ranks))
    assert tokens == {text: rank for text, rank in ranks.items() if re.fullmatch(rb" ?[A-Za-z]{2,}", text)}
