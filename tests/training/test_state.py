from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from letterwise.adapters import add_adapter, save_adapter
from letterwise.config import LoraSection, TrainingConfig
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, load_model
from letterwise.results import TrainingLogEntry, read_training_log
from letterwise.training.state import (
    AdapterOptimizer,
    Progress,
    TrainingLog,
    load_checkpoint,
    save_checkpoint,
)

SETTINGS = TrainingConfig(max_steps=110, warmup_steps=10, learning_rate=1e-3, max_grad_norm=1.0)


def linear(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 1, bias=False).to(dtype)
    layer.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    return layer


def give_gradients(layer: torch.nn.Module, size: float) -> None:
    layer.weight.grad = torch.full_like(layer.weight, size)  # type: ignore[arg-type]


def test_the_learning_rate_rises_and_falls_to_a_tenth() -> None:
    optimizer = AdapterOptimizer(linear(), SETTINGS)
    rates = [optimizer.learning_rate(step) for step in range(111)]
    assert rates[0] == pytest.approx(1e-3 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert max(rates) == rates[10] == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[60] == pytest.approx(0.55e-3)
    assert rates[110] == pytest.approx(1e-4)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    settings = TrainingConfig(warmup_steps=0, learning_rate=1e-3)
    assert AdapterOptimizer(linear(), settings).learning_rate(0) == pytest.approx(1e-3)


def test_a_step_is_that_of_adamw_on_clipped_gradients() -> None:
    layer, reference = linear(), linear()
    optimizer = AdapterOptimizer(layer, SETTINGS)
    adamw = torch.optim.AdamW([reference.weight], lr=SETTINGS.learning_rate, weight_decay=0.0)
    for step, size in enumerate((5.0, 0.1, 0.2)):
        give_gradients(layer, size)
        assert optimizer.step(step) == pytest.approx(2 * size)
        assert layer.weight.grad is None
        give_gradients(reference, min(size, 0.5))
        adamw.param_groups[0]["lr"] = optimizer.learning_rate(step)
        adamw.step()
    torch.testing.assert_close(layer.weight, reference.weight)
    assert layer.frozen == 1


def test_steps_too_small_for_bfloat16_add_up() -> None:
    """The copy in float32 is there for this: 1 - 0.0005 is 1 in bfloat16, but a thousand such steps are not."""
    layer = linear(torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    optimizer = AdapterOptimizer(layer, TrainingConfig(max_steps=1000, warmup_steps=0, learning_rate=5e-4))
    give_gradients(layer, 1.0)
    optimizer.step(0)
    assert layer.weight.eq(1.0).all()
    for step in range(1, 1000):
        give_gradients(layer, 1.0)
        optimizer.step(step)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.float().mean() < 0.8


def test_a_checkpoint_restores_everything(tiny_base: BaseModel, tmp_path: Path) -> None:
    model = add_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), LoraSection(rank=2), tiny_base)
    optimizer = AdapterOptimizer(model, SETTINGS)

    def step(number: int) -> None:
        for parameter in optimizer.parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step(number)

    step(0)
    progress = Progress(step=1, tokens=90, seconds=1.5, best_accuracy=0.25, best_step=1, identity="this")
    save_checkpoint(tmp_path, model, tiny_base, optimizer, progress)
    save_adapter(model, tiny_base, tmp_path / "best")
    assert (tmp_path / "last" / "adapter_model.safetensors").is_file()
    step(1)
    expected = [parameter.detach().clone() for parameter in optimizer.parameters]

    fresh = add_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), LoraSection(rank=2), tiny_base)
    optimizer = AdapterOptimizer(fresh, SETTINGS)
    assert load_checkpoint(tmp_path, optimizer, "another") is None
    assert load_checkpoint(tmp_path, optimizer, "this") == progress
    step(1)  # draws the same random numbers again
    assert all(torch.equal(one, other) for one, other in zip(optimizer.parameters, expected, strict=True))


def test_without_the_best_adapter_there_is_no_going_on(tiny_base: BaseModel, tmp_path: Path) -> None:
    model = add_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), LoraSection(rank=2), tiny_base)
    optimizer = AdapterOptimizer(model, SETTINGS)
    save_checkpoint(tmp_path, model, tiny_base, optimizer, Progress(step=4, best_step=2, identity="this"))
    assert load_checkpoint(tmp_path, optimizer, "this") is None


def test_there_may_be_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, AdapterOptimizer(linear(), SETTINGS), "this") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("optimizer.pt", b""),
        ("optimizer.pt", b"PK not a checkpoint"),
        ("progress.json", json.dumps({"identity": "this", "of_another_version": 1}).encode()),
    ],
)
def test_a_broken_checkpoint_names_the_remedy(tiny_base: BaseModel, tmp_path: Path, name: str, content: bytes) -> None:
    model = add_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), LoraSection(rank=2), tiny_base)
    optimizer = AdapterOptimizer(model, SETTINGS)
    save_checkpoint(tmp_path, model, tiny_base, optimizer, Progress(identity="this"))
    (tmp_path / "last" / name).write_bytes(content)
    with pytest.raises(LetterwiseError, match="is broken; delete it to start anew"):
        load_checkpoint(tmp_path, optimizer, "this")


def test_a_failing_save_leaves_the_last_checkpoint(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = add_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), LoraSection(rank=2), tiny_base)
    optimizer = AdapterOptimizer(model, SETTINGS)
    save_checkpoint(tmp_path, model, tiny_base, optimizer, Progress(step=1, identity="this"))

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(LetterwiseError, match="the disk is full"):
        save_checkpoint(tmp_path, model, tiny_base, optimizer, Progress(step=2, identity="this"))
    kept = load_checkpoint(tmp_path, optimizer, "this")
    assert kept is not None
    assert kept.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def entry(model: str, step: int) -> TrainingLogEntry:
    return TrainingLogEntry(model=model, seed=0, step=step, tokens=step, seconds=0.0)  # type: ignore[arg-type]


def test_opening_a_log_drops_what_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "training_log.jsonl"
    log = TrainingLog(path, "finetuned", -1)
    assert read_training_log(path) == []
    for step in range(4):
        log.add(entry("finetuned", step))
        log.add(entry("control", step))
    with path.open("a") as stream:
        stream.write('{"model": "finet')  # killed while writing
    TrainingLog(path, "finetuned", 2).add(entry("finetuned", 3))
    kept = [(line.model, line.step) for line in read_training_log(path)]
    assert [step for model, step in kept if model == "finetuned"] == [0, 1, 2, 3]
    assert [step for model, step in kept if model == "control"] == [0, 1, 2, 3]
    TrainingLog(path, "finetuned", -1)
    assert {line.model for line in read_training_log(path)} == {"control"}
