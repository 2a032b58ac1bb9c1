"""LoRA adapters: putting one onto a base model, saving, loading and merging it, and what lies beside its weights.

Knows nothing about what a model is asked or trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from peft.utils.constants import DUMMY_TARGET_MODULES
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, read_json, write_json
from letterwise.licences import copy_terms
from letterwise.models import BaseModel, first_line, in_dtype, load_model, load_model_in_4bit, load_tokenizer, quiet
from letterwise.results import TrainedRole

ADAPTER_BASE_FILE = "letterwise_base.json"
"""Beside an adapter: id and revision of the base model it was trained on, and what it was trained to be."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CALIBRATION_FILE = "calibration.json"
"""Beside an adapter: what its confidence means (`letterwise.results.Calibration`)."""


def add_adapter(model: PreTrainedModel, lora: LoraSection, base: BaseModel) -> PeftModel:
    """Put a fresh LoRA adapter (Hu et al., 2021) onto a model; only it, and modules to be trained whole, are trainable.

    Adapter weights take the model's number type.

    Raises:
        LetterwiseError: a module does not exist in this architecture.
    """
    if missing := _missing(model, lora.modules_to_save):
        raise LetterwiseError(f"lora.modules_to_save does not fit {base.id}: it has no module {', '.join(missing)}.")
    conv1d = any(isinstance(module, Conv1D) for module in model.modules())
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_target_modules(lora),
        modules_to_save=_with_weights(model) if lora.full_finetuning else lora.modules_to_save or None,
        fan_in_fan_out=conv1d,
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    except ValueError as error:
        raise LetterwiseError(f"lora.target_modules does not fit {base.id}: {first_line(error)}") from error
    return name_base(adapted, base)


def _target_modules(lora: LoraSection) -> str | list[str]:
    """What gets a low-rank update, as peft takes it."""
    if lora.full_finetuning:
        return str(DUMMY_TARGET_MODULES)
    return "all-linear" if lora.target_modules == "auto" else lora.target_modules


def _missing(model: PreTrainedModel, names: Sequence[str]) -> list[str]:
    """Those of the names that no module has, whole or as the end of its path; peft itself would pass over them."""
    paths = [f".{path}" for path, _ in model.named_modules()]
    return [name for name in names if not any(path.endswith(f".{name}") for path in paths)]


def _with_weights(model: PreTrainedModel) -> list[str]:
    """Names of the modules that hold weights of their own."""
    modules = (name for name, module in model.named_modules() if list(module.parameters(recurse=False)))
    return sorted({name.rpartition(".")[2] for name in modules})


def add_adapter_to_4bit(base: BaseModel, lora: LoraSection, device: torch.device, dtype: torch.dtype) -> PeftModel:
    """QLoRA: a fresh LoRA adapter, in float32, on the base model in 4 bits.

    Raises:
        LetterwiseError: the base cannot be loaded, or a target module does not exist in this architecture.
    """
    model = load_model_in_4bit(base, device, dtype)
    # Activations of a row are few beside the weights: recomputing them would cost more than it saves.
    return add_adapter(prepare_model_for_kbit_training(model, use_gradient_checkpointing=False), lora, base)


def name_base(adapted: PeftModel, base: BaseModel) -> PeftModel:
    """Record in an adapter's configuration which base it is for, wherever the weights were loaded from."""
    adapted.peft_config["default"].base_model_name_or_path = base.id
    adapted.peft_config["default"].revision = base.revision
    return adapted


def save_adapter(model: PeftModel, base: BaseModel, folder: Path, role: TrainedRole = "finetuned") -> None:
    """Write an adapter, the identity of its base and its role, atomically."""
    with atomic_path(folder) as temporary:
        write_adapter(model, base, temporary, role)


def write_adapter(model: PeftModel, base: BaseModel, folder: Path, role: TrainedRole = "finetuned") -> None:
    """Write an adapter, the identity of its base and its role into a folder that the caller makes appear at once."""
    with quiet():
        # peft would otherwise look the base up on the Hub to see whether its embeddings have changed.
        model.save_pretrained(folder, save_embedding_layers=False)
    write_json(folder / ADAPTER_BASE_FILE, {"id": base.id, "revision": base.revision, "role": role})
    copy_terms(base.folder, folder)


def load_adapter(model: PreTrainedModel, adapter: Path, base: BaseModel) -> PeftModel:
    """Put a trained adapter onto its base model, ready for inference.

    Raises:
        LetterwiseError: there is no adapter there, it belongs to another base, or it is broken.
    """
    check_adapter(adapter, base)
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False)
    except Exception as error:  # peft, torch and safetensors raise many kinds for a broken or ill-fitting adapter
        raise LetterwiseError(f"The adapter {adapter} cannot be put onto {base.id}: {first_line(error)}") from error
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


def refuse_ceiling(adapter: Path) -> None:
    """Make sure that an adapter was not trained on the questions themselves.

    Raises:
        LetterwiseError: it was, and is for comparison only.
    """
    recorded = adapter / ADAPTER_BASE_FILE
    if recorded.is_file() and read_json(recorded).get("role") == "ceiling":
        raise LetterwiseError(
            f"The adapter {adapter} is a ceiling, trained on the kinds of question that are evaluated: it is for "
            "comparison only, and is neither merged nor published; use the tuned adapter."
        )


def adapter_rank(adapter: Path) -> int:
    """The rank that an adapter's configuration names."""
    return int(read_json(adapter / "adapter_config.json")["r"])


def merged_weights(adapted: PeftModel) -> PreTrainedModel:
    """The model with its adapter merged into its weights, for inference; the adapted one is used up.

    Where an adapter changes the embeddings or the output head of a model that has one matrix for both, the merged model
    has two.
    """
    inner = adapted.get_base_model()
    ends = (inner.get_input_embeddings(), inner.get_output_embeddings())
    if any(isinstance(end, BaseTunerLayer | ModulesToSaveWrapper) for end in ends) and inner.config.tie_word_embeddings:
        head = ends[1].get_base_layer() if isinstance(ends[1], BaseTunerLayer) else ends[1]
        if not isinstance(head, ModulesToSaveWrapper):
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        inner.config.tie_word_embeddings = False
    return adapted.merge_and_unload()


def load_merged(
    base: BaseModel,
    adapter: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    held_on: torch.device | None = None,
) -> PreTrainedModel:
    """A model for inference, with its adapter, if there is one, merged: in float32, so that only the sum is rounded.

    Beside its base an adapter's many small products take time in every forward pass.

    Raises:
        LetterwiseError: the adapter is not there, belongs to another base, or is broken.
    """
    if adapter is None:
        return load_model(base, device, dtype, held_on)
    adapted = load_adapter(load_model(base, device, torch.float32, held_on), adapter, base)
    return in_dtype(merged_weights(adapted), dtype).eval()


def saved_modules(adapter: Path) -> list[str]:
    """The modules that an adapter brings whole."""
    return list(read_json(adapter / "adapter_config.json").get("modules_to_save") or [])


def merge_adapter(base: BaseModel, adapter: Path, folder: Path) -> None:
    """Write a stand-alone model (float32) that answers as base plus adapter do, with its tokenizer.

    Raises:
        LetterwiseError: the adapter does not fit or is a ceiling, or the folder cannot be written.
    """
    refuse_ceiling(adapter)
    merged = merged_weights(load_adapter(load_model(base, torch.device("cpu"), torch.float32), adapter, base))
    with quiet(), atomic_path(folder) as temporary:
        merged.save_pretrained(temporary)
        load_tokenizer(base).save_pretrained(temporary)
        copy_terms(base.folder, temporary)
