"""The engine that a configuration names evaluates the run's models, and the command says where."""

from __future__ import annotations

import sys
from pathlib import Path

import fake_vllm
import pytest
import torch

from letterwise import hardware
from letterwise.adapters import add_adapter, save_adapter
from letterwise.config import EvaluationConfig, ExperimentConfig, LoraSection
from letterwise.engines import vllm_engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.vllm_engine import VllmEngine
from letterwise.errors import LetterwiseError
from letterwise.evaluation_steps import _engine_loader
from letterwise.models import load_model
from letterwise.run_folder import Run


@pytest.fixture
def run(tiny_llama: Path, tmp_path: Path) -> Run:
    return Run(ExperimentConfig(run_name="x", base_model=str(tiny_llama), results_folder=tmp_path))


def test_vllm_evaluates_all_models_from_one_base(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = add_adapter(load_model(run.base, torch.device("cpu"), torch.float32), LoraSection(rank=4), run.base)
    save_adapter(adapted, run.base, tmp_path / "tuned")
    monkeypatch.setattr(hardware, "require_gpu_package", lambda *_: None)
    monkeypatch.setattr(hardware, "choose_dtype", lambda device: torch.float32)
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    fake_vllm.LLM.made.clear()
    vllm_engine._start.cache_clear()
    load = _engine_loader(run, [tmp_path / "tuned"], EvaluationConfig(engine="vllm"))
    assert fake_vllm.LLM.made == []  # nothing is started before something is asked
    assert all(isinstance(load(adapter), VllmEngine) for adapter in (None, tmp_path / "tuned"))
    assert len(fake_vllm.LLM.made) == 1
    vllm_engine._start.cache_clear()


def test_without_a_gpu_vllm_is_refused_and_pytorch_evaluates(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LetterwiseError, match="vllm needs an NVIDIA GPU"):
        _engine_loader(run, [], EvaluationConfig(engine="vllm"))
    assert isinstance(_engine_loader(run, [], EvaluationConfig())(None), TransformersEngine)
    assert capsys.readouterr().out.startswith(f"  on cpu ({hardware.cpu_name()}) in ")
