"""From `MODEL_PATH` to a model that can be asked.

Knows folders, the Hub and engines; knows nothing about HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.adapters import ADAPTER_BASE_FILE, ADAPTER_WEIGHTS, CALIBRATION_FILE, check_adapter, load_merged
from letterwise.api.schemas import ModelName
from letterwise.api.settings import ServiceSettings
from letterwise.engines.engine import Engine
from letterwise.engines.openvino_engine import OpenVinoEngine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.vllm_engine import VllmEngine, load_vllm
from letterwise.errors import LetterwiseError
from letterwise.files import read_json, sha256_file
from letterwise.models import (
    BaseModel,
    first_line,
    load_tokenizer,
    resolve_base,
)
from letterwise.packaged_models import PACKAGED
from letterwise.results import AnyResults, Calibration, EvaluationResults, TransferResults, read_results

EVALUATION_FILE = "evaluation_results.json"
TRANSFER_FILE = "transfer.json"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a served model lies: a base model and, where there is one, an adapter."""

    base: BaseModel
    adapter: Path | None
    folder: Path | None
    """Holds calibration and results beside the weights; None for a bare base model."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be asked, and what is known about it."""

    name: str
    revision: str
    engine_name: str
    tokenizer: PreTrainedTokenizerBase
    engines: dict[ModelName, Engine]
    calibration: Calibration | None
    results: EvaluationResults | None
    transfer: TransferResults | None


def find_model(settings: ServiceSettings) -> ModelSource:
    """Find what `MODEL_PATH` names, downloading it where it is a Hub id.

    Raises:
        LetterwiseError: there is no such model, or its folder is of a wrong kind.
    """
    path = settings.model_path
    if path in PACKAGED:
        return ModelSource(resolve_base(path), None, None)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
            raise LetterwiseError(f"MODEL_PATH: the folder {path} does not exist.")
        folder = _download(path)
    if (folder / "adapter_config.json").is_file():
        base = _base_of(folder, settings.base_model)
        check_adapter(folder, base)
        return ModelSource(base, folder, folder)
    if not (folder / "config.json").is_file():
        raise LetterwiseError(
            f"MODEL_PATH: {path} is neither an adapter (adapter_config.json) nor a model (config.json)."
        )
    return ModelSource(resolve_base(str(folder.resolve())), None, folder)


def _download(name: str) -> Path:
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise LetterwiseError(
            f"MODEL_PATH: {name} is no folder and cannot be had from the Hub: {first_line(error)}"
        ) from error


def _base_of(adapter: Path, named: str) -> BaseModel:
    if named:
        return resolve_base(named)
    record = adapter / ADAPTER_BASE_FILE
    trained_on = read_json(record) if record.is_file() else {}
    config = read_json(adapter / "adapter_config.json")
    name = trained_on.get("id") or config.get("base_model_name_or_path") or ""
    if packaged := next((model for model in PACKAGED.values() if model.id == name), None):
        return resolve_base(packaged.name)
    if "/" not in name:
        raise LetterwiseError(f"MODEL_PATH: {adapter} does not say where its base model '{name}' is; set BASE_MODEL.")
    return resolve_base(name, trained_on.get("revision") or config.get("revision"))


def load_served(settings: ServiceSettings, source: ModelSource) -> ServedModel:
    """Load weights and everything beside them.

    Raises:
        LetterwiseError: something there is broken or belongs to other weights, or a GPU is asked for where there is
            none.
    """
    calibration = _beside(source, CALIBRATION_FILE, Calibration)
    results = _beside(source, EVALUATION_FILE, EvaluationResults)
    transfer = _beside(source, TRANSFER_FILE, TransferResults)
    name, revision = source.base.id, source.base.revision
    if source.adapter:
        checksum = _checksum(source.adapter)  # before the weights are loaded, which takes long
        _check_same_weights(source.adapter / CALIBRATION_FILE, calibration.adapter if calibration else "", checksum)
        evaluated = results.finetuned_model if results else None
        _check_same_weights(source.adapter / EVALUATION_FILE, evaluated.revision if evaluated else "", checksum)
        name, revision = f"{name} + adapter", f"{revision} + {checksum[:16]}"
    device = torch.device("cpu")
    if settings.enable_gpu:
        device = hardware.choose_device()
        if device.type == "cpu":
            raise LetterwiseError("ENABLE_GPU is set, but PyTorch finds no GPU; unset it, or install a GPU build.")
    tokenizer = load_tokenizer(source.base)
    kind = settings.engine
    if kind == "auto":
        kind = "openvino" if device.type == "cpu" else "transformers"
    if kind == "openvino" and device.type != "cpu":
        raise LetterwiseError("ENGINE is openvino, which runs on the processor, and ENABLE_GPU is set; unset one.")
    if kind == "vllm":
        if not settings.enable_gpu:
            raise LetterwiseError("ENGINE is vllm, which runs on a GPU; set ENABLE_GPU, or choose another engine.")
        hardware.require_gpu_package("ENGINE=vllm", "vllm", "vllm")

    def engine(adapter: Path | None) -> Engine:
        dtype = hardware.choose_dtype(device)
        if kind == "vllm":
            model = load_vllm(source.base, dtype, [source.adapter] if source.adapter else [])
            return VllmEngine(model, tokenizer, adapter)
        if kind == "openvino":
            weights = load_merged(source.base, adapter, device, torch.float32)
            return OpenVinoEngine(weights, tokenizer, settings.max_batch_size)
        return TransformersEngine(load_merged(source.base, adapter, device, dtype), tokenizer, settings.max_batch_size)

    engines: dict[ModelName, Engine] = {"finetuned": engine(source.adapter)}
    if settings.compare_base and source.adapter:
        engines["base"] = engine(None)
    return ServedModel(
        name=name,
        revision=revision,
        engine_name=kind,
        tokenizer=tokenizer,
        engines=engines,
        calibration=calibration,
        results=results,
        transfer=transfer,
    )


def _checksum(adapter: Path) -> str:
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise LetterwiseError(f"MODEL_PATH: {adapter} is an adapter without weights: {ADAPTER_WEIGHTS} is missing.")
    return sha256_file(weights)


def _check_same_weights(path: Path, recorded: str, checksum: str) -> None:
    """Make sure that what was measured was measured on these weights: another adapter's confidence would mislead.

    Args:
        path: the file of what was measured.
        recorded: the first digits or all of the SHA-256 of the weights that it names; empty where it names none.
        checksum: that of the weights beside it.
    """
    if not checksum.startswith(recorded):
        raise LetterwiseError(
            f"{path} belongs to other weights ({recorded[:16]}) than those beside it ({checksum[:16]}): copy both from "
            "one run, or remove the file."
        )


def _beside(source: ModelSource, name: str, kind: type[AnyResults]) -> AnyResults | None:
    """A results file that lies beside the weights, if there is one."""
    path = source.folder / name if source.folder else None
    return read_results(path, kind) if path and path.is_file() else None
