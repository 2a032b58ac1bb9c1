"""Tiny tokenizers, one of each family, that all split " strawberry" into " straw" and "berry"."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

MERGES = [("s", "t"), ("r", "a"), ("ra", "w"), ("st", "raw"), ("b", "e"), ("r", "r"), ("rr", "y"), ("be", "rry")]


def bpe(space: str, alphabet: list[str], **options: object) -> Tokenizer:
    merges = [*MERGES, (space, "straw")]
    pieces = ["<unk>", *alphabet, *(left + right for left, right in merges)]
    return Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges, **options))


def byte_level_bpe() -> PreTrainedTokenizerBase:
    """As GPT-2 and SmolLM2."""
    tokenizer = bpe("Ġ", sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "end"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def metaspace_bpe() -> PreTrainedTokenizerBase:
    """As Llama 2: a "▁" before the text, cut off again in decoding."""
    tokenizer = bpe("▁", list("▁abcdefghijklmnopqrstuvwxyz"), unk_token="<unk>")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def replaced_space_bpe() -> PreTrainedTokenizerBase:
    """As Gemma: a "▁" for each space, none before the text, and a token that begins every text."""
    tokenizer = bpe("▁", list("▁abcdefghijklmnopqrstuvwxyz"), unk_token="<unk>")
    tokenizer.add_special_tokens(["<bos>"])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<bos>")


def unigram() -> PreTrainedTokenizerBase:
    """As T5."""
    pieces = [("<unk>", 0.0), ("▁straw", -2.0), ("straw", -2.0), ("berry", -2.0), ("caf", -2.0), ("é", -9.0)]
    letters = [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(models.Unigram([*pieces, *letters], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerBase:
    """As BERT."""
    pieces = [
        "[UNK]",
        "straw",
        "##straw",
        "##berry",
        "##a1",
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    ]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *"abcdefghijklmnopqrstuvwxyz"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.fixture(
    params=[byte_level_bpe, metaspace_bpe, replaced_space_bpe, unigram, word_piece], ids=lambda family: family.__name__
)
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    family: Callable[[], PreTrainedTokenizerBase] = request.param
    return family()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    return byte_level_bpe()
