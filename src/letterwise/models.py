"""Where a base model comes from: Hub id, folder, or packages of the package index.

Knows nothing about what a model is asked or trained on.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, cache_folder, make_folder, sha256_file
from letterwise.licences import write_terms
from letterwise.packaged_models import PACKAGED, SMOLLM2, PackagedModel, fetch_gguf

EMBEDDED = SMOLLM2.name


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A pretrained model that lies on this machine."""

    id: str
    folder: Path
    revision: str
    """Commit of a Hub model; checksum of the weights of any other."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' own progress bars and notices, which would tear ours."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """What an error says first, or its kind."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def resolve_base(name: str, revision: str | None = None) -> BaseModel:
    """Find a base model, fetching it into a cache where needed.

    Args:
        name: 'embedded', 'gemma', a local folder, or a Hub id.
        revision: commit, tag or branch of a Hub model.

    Raises:
        LetterwiseError: there is no such model, or no network and no cached copy.
    """
    if packaged := PACKAGED.get(name):
        return BaseModel(packaged.id, ensure_packaged(packaged), packaged.revision)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return BaseModel(folder.name, folder, _weights_checksum(folder))
    if folder.is_absolute() or name.startswith((".", "~")):
        raise LetterwiseError(f"The base model folder {name} does not exist.")
    return _from_hub(name, revision)


def _weights_checksum(folder: Path) -> str:
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not weights or not (folder / "config.json").is_file():
        raise LetterwiseError(f"{folder} is not a model folder: config.json and *.safetensors are wanted.")
    return "sha256-" + hashlib.sha256("".join(map(sha256_file, weights)).encode()).hexdigest()[:16]


def _from_hub(name: str, revision: str | None) -> BaseModel:
    text_files = ["*.json", "*.model", "*.txt", "*.jinja"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*text_files, "*.safetensors"]))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*text_files, "*.bin"]))
    except HFValidationError:
        raise LetterwiseError(f"'{name}' is neither a folder nor a Hub id such as openai-community/gpt2.") from None
    except RepositoryNotFoundError:
        raise LetterwiseError(f"The Hub has no model '{name}', or it is private and HF_TOKEN is not set.") from None
    except LocalEntryNotFoundError:
        raise LetterwiseError(
            f"The base model '{name}' is not in the local cache and the Hub cannot be reached; check the id and the "
            "network, or use --base-model embedded."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise LetterwiseError(f"The base model '{name}' cannot be downloaded: {first_line(error)}") from error
    return BaseModel(name, folder, folder.name)


def ensure_packaged(model: PackagedModel) -> Path:
    """A packaged model's folder, made on first use: fetched by pip, checked, converted to safetensors.

    Raises:
        LetterwiseError: a package cannot be fetched, or the weights have the wrong checksum.
    """
    folder = _cached(model)
    if folder.is_dir():
        return folder
    make_folder(folder.parent)
    with FileLock(folder.with_suffix(".lock")):  # several processes may want it at once, and it takes a minute
        if not folder.is_dir():
            with tempfile.TemporaryDirectory() as scratch:
                gguf = fetch_gguf(model, Path(scratch))
                with atomic_path(folder) as temporary:
                    _convert_gguf(gguf, temporary)
                    write_terms(model.license, temporary)
    return folder


def _cached(model: PackagedModel) -> Path:
    return cache_folder() / f"{model.name}-{model.sha256[:16]}"


def _convert_gguf(gguf: Path, folder: Path) -> None:
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
        # The loader marks the model as quantized, though the weights are plain now, and a marked one can't be saved.
        model.is_quantized = False
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with a padding token.

    Raises:
        LetterwiseError: the folder has none that transformers can read.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(base.folder)
    except (OSError, ValueError, KeyError) as error:
        raise LetterwiseError(f"The tokenizer of {base.id} cannot be loaded: {first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(
    base: BaseModel, device: torch.device, dtype: torch.dtype, held_on: torch.device | None = None
) -> PreTrainedModel:
    """The base model on a device, in evaluation mode.

    Args:
        base: which model.
        device: where it is to run.
        dtype: number type of its weights.
        held_on: where its weights lie at first, if not there.

    Raises:
        LetterwiseError: the folder is broken or is not a causal language model.
    """
    # On the processor, eager attention trains faster than the fused kernel, whose backward pass is slow there.
    attention = "eager" if device.type == "cpu" else "sdpa"
    # As float32 at first: for another type transformers changes PyTorch's default while it loads, in all threads, and a
    # service goes on answering while it loads the next model.
    model = _load_weights(base, dtype=torch.float32, attn_implementation=attention)
    return in_dtype(model, dtype).to(held_on or device).eval()


def load_model_in_4bit(base: BaseModel, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The base model with its linear layers in 4 bits, as in QLoRA (Dettmers et al., 2023).

    NF4 with double quantization, by bitsandbytes; products are computed in the number type given.

    Raises:
        LetterwiseError: the folder is broken or is not a causal language model.
    """
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return _load_weights(
        base, dtype=dtype, attn_implementation="sdpa", quantization_config=quantization, device_map={"": device}
    ).eval()


def _load_weights(base: BaseModel, **options: Any) -> PreTrainedModel:
    try:
        with quiet():
            model, loading = AutoModelForCausalLM.from_pretrained(base.folder, output_loading_info=True, **options)
    except Exception as error:  # transformers and safetensors raise many kinds for a broken folder
        raise LetterwiseError(f"The base model {base.id} cannot be loaded: {first_line(error)}") from error
    # transformers would go on with random weights in their place.
    if missing := sorted(loading["missing_keys"]):
        raise LetterwiseError(f"The base model {base.id} lacks weights of its architecture, such as {missing[0]}.")
    return model


def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights in this type; what it computes from them, such as rotary frequencies, stays exact."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def is_cached(name: str) -> bool:
    """Whether a packaged model or a local folder is at hand without a network."""
    return (_cached(PACKAGED[name]) if name in PACKAGED else Path(name)).is_dir()
