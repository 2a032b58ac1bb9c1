"""Tiny random models of three architectures, with two small tokenizers; no test reaches the network."""

from __future__ import annotations

import os

# Read by the libraries when they are imported, so they are set before any of them is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("WANDB_API_KEY", None)

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from string import ascii_letters, digits, printable

import pytest
import torch
from english_words import get_english_words_set
from programs import pytest_runtest_makereport
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from letterwise.data import word_lists
from letterwise.data.build import build_data
from letterwise.data_config import DataConfig, WordsConfig
from letterwise.models import BaseModel, resolve_base

with suppress(ImportError):
    # A development tool brings it along, and OpenVINO then imports it: its handler would close pytest's own stream
    # when logging is configured anew.
    from absl import logging as absl_logging

    absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

__all__ = ["pytest_runtest_makereport"]  # for pytest, which finds its hooks here

# What the libraries have made stays: collecting garbage, as a service does once it has loaded a model, need not look
# through it each time.
gc.collect()
gc.freeze()

END = "<|endoftext|>"
VOCABULARY = 1200


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer as GPT-2's, with some 700 letter tokens; letters and digits are single tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


@pytest.fixture(scope="session")
def tiny_gemma_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer as Gemma's: "▁" for spaces, bytes for what it lacks, and a token that begins every text."""
    special = ["<eos>", "<pad>", "<bos>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # in training only, as words are its units
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", special.index("<bos>"))]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=["▁", "\n", *printable.strip()],
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_texts(), trainer)
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = described["added_tokens"][: len(special)]  # a byte is an ordinary token
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", bos_token="<bos>", unk_token="<unk>"
    )


def tokenizer_texts() -> list[str]:
    """What the tokenizers are trained on: letters and digits after a space, and some English words."""
    words = sorted(word for word in get_english_words_set(["gcide"], lower=True) if word.isascii() and word.isalpha())
    characters = [f" {character}" for character in ascii_letters + digits] * 1000
    return [*characters, *(f"{word} {word}" for word in words[::20])]


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase) -> Path:
    """Folder of a GPT-2 (linear layers are `Conv1D`) with random weights."""
    end = tiny_tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=512,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return save(GPT2LMHeadModel, config, tiny_tokenizer, tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase) -> Path:
    """Folder of a Llama with grouped-query attention and random weights."""
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tiny_tokenizer.eos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
    )
    return save(LlamaForCausalLM, config, tiny_tokenizer, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory, tiny_gemma_tokenizer: PreTrainedTokenizerBase) -> Path:
    """Folder of a Gemma 3 with layers that see a few tokens only, and bounded logits, and random weights."""
    config = Gemma3TextConfig(
        vocab_size=len(tiny_gemma_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=24,
        query_pre_attn_scalar=24,
        final_logit_softcapping=5.0,
        max_position_embeddings=512,
        bos_token_id=tiny_gemma_tokenizer.bos_token_id,
        eos_token_id=tiny_gemma_tokenizer.eos_token_id,
        pad_token_id=tiny_gemma_tokenizer.pad_token_id,
    )
    return save(Gemma3ForCausalLM, config, tiny_gemma_tokenizer, tmp_path_factory.mktemp("models") / "tiny-gemma")


@pytest.fixture(scope="session", params=["tiny_gpt2", "tiny_llama", "tiny_gemma"])
def tiny_base(request: pytest.FixtureRequest) -> BaseModel:
    """All architectures in turn: whatever uses a model must work with each."""
    folder: Path = request.getfixturevalue(request.param)
    return resolve_base(str(folder))


@pytest.fixture(scope="session", autouse=True)
def _dictionary_is_read_once() -> Iterator[None]:
    """Looking up the frequency of every dictionary word takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_lists, "dictionary_words", cache(word_lists.dictionary_words))
        yield


@pytest.fixture(scope="session")
def words_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase) -> Path:
    """What `letterwise words` writes for the tiny tokenizer: 60 validation and 60 test words."""
    folder = tmp_path_factory.mktemp("words")
    word_lists.build_words(WordsConfig(validation_words=60, test_words=60, min_zipf=4.5), tiny_tokenizer, 0, folder)
    return folder


@pytest.fixture(scope="session")
def data_folder(
    tmp_path_factory: pytest.TempPathFactory, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> Path:
    """What `letterwise data` writes: 400 training texts, 40 questions of each type and split."""
    folder = tmp_path_factory.mktemp("data") / "data"
    settings = DataConfig(train_examples=400, count_questions=40, position_questions=40)
    build_data(settings, tiny_tokenizer, 0, words_folder, folder)
    return folder


def save(
    architecture: type[PreTrainedModel], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Path:
    # Wider weights than usual: answers then differ from prompt to prompt, and no two of them are nearly tied.
    config.initializer_range = 0.2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
