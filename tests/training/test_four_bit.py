"""QLoRA: what bitsandbytes is asked for, and the whole of it where bitsandbytes is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from letterwise import hardware
from letterwise.adapters import add_adapter_to_4bit, load_adapter
from letterwise.config import ExperimentConfig, LoraSection
from letterwise.models import BaseModel, load_model
from letterwise.results import read_training_log
from letterwise.training.train import TrainingReport


def test_the_base_is_asked_for_in_nf4_with_double_quantization(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the processor in place of the GPU; the weights stay as they are, for want of bitsandbytes."""
    plain, given = AutoModelForCausalLM.from_pretrained, {}

    def from_pretrained(folder: Any, **options: Any) -> Any:
        given.update(options)
        return plain(folder, dtype=options["dtype"], output_loading_info=True)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    model = add_adapter_to_4bit(tiny_base, LoraSection(rank=4), torch.device("cpu"), torch.bfloat16)
    asked = given["quantization_config"]
    assert (asked.load_in_4bit, asked.bnb_4bit_quant_type, asked.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert asked.bnb_4bit_compute_dtype == given["dtype"] == torch.bfloat16
    assert given["device_map"] == {"": torch.device("cpu")}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name} != set()


def test_a_quantized_base_trains_and_its_adapter_loads_as_usual(
    tiny_base: BaseModel,
    run_training: Callable[..., TrainingReport],
    make_config: Callable[..., ExperimentConfig],
    training_texts: Dataset,
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    device = hardware.choose_device()
    quantized = add_adapter_to_4bit(tiny_base, LoraSection(rank=4), device, torch.float32)
    kinds = {type(module).__name__ for module in quantized.modules()}
    assert "Linear4bit" in kinds
    config = make_config(load_in_4bit=True, max_steps=40, evaluate_every=20, dtype="bfloat16")
    report = run_training(config)
    losses = [entry.loss for entry in read_training_log(config.run_folder / "training_log.jsonl") if entry.loss]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    load_adapter(load_model(tiny_base, device, torch.float32), report.adapter, tiny_base)
