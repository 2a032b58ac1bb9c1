"""Which engine a service takes, and what it says where it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import fake_vllm
import pytest
import torch

from letterwise import hardware
from letterwise.adapters import ADAPTER_WEIGHTS, CALIBRATION_FILE, add_adapter, save_adapter
from letterwise.api.services.loading import find_model, load_served
from letterwise.api.settings import ServiceSettings
from letterwise.config import LoraSection
from letterwise.engines import vllm_engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.vllm_engine import VllmEngine
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.models import load_model, resolve_base
from letterwise.results import Calibration, EvaluationResults, ModelResults, write_results

CPU = torch.device("cpu")
Settings = Callable[..., ServiceSettings]


@pytest.fixture
def adapter(tiny_llama: Path, tmp_path: Path) -> Path:
    base = resolve_base(str(tiny_llama))
    save_adapter(add_adapter(load_model(base, CPU, torch.float32), LoraSection(rank=4), base), base, tmp_path / "tuned")
    return tmp_path / "tuned"


def test_vllm_serves_base_and_adapter_from_one_model(
    adapter: Path, tiny_llama: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "require_gpu_package", lambda *_: None)
    monkeypatch.setattr(hardware, "choose_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(hardware, "choose_dtype", lambda device: torch.float32)
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    fake_vllm.LLM.made.clear()
    vllm_engine._start.cache_clear()
    chosen = settings(
        engine="VLLM", enable_gpu=True, model_path=str(adapter), base_model=str(tiny_llama), compare_base=True
    )

    served = load_served(chosen, find_model(chosen))

    assert served.engine_name == "vllm"
    assert served.engines.keys() == {"finetuned", "base"}
    assert all(isinstance(engine, VllmEngine) for engine in served.engines.values())
    assert len(fake_vllm.LLM.made) == 1
    vllm_engine._start.cache_clear()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"engine": "vllm"}, "ENGINE is vllm, which runs on a GPU; set ENABLE_GPU"),
        ({"enable_gpu": True}, "ENABLE_GPU is set, but PyTorch finds no GPU"),
    ],
)
def test_what_cannot_run_here_is_one_sentence(
    given: dict[str, object], sentence: str, tiny_llama: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "choose_device", lambda: CPU)
    chosen = settings(model_path=str(tiny_llama), **given)
    with pytest.raises(LetterwiseError, match=sentence):
        load_served(chosen, find_model(chosen))


def test_openvino_does_not_run_on_a_gpu_and_vllm_has_to_be_installed(
    tiny_llama: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "choose_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware, "is_installed", lambda name: False)
    for engine, sentence in (("openvino", "runs on the processor"), ("vllm", "needs vllm: pip install")):
        chosen = settings(model_path=str(tiny_llama), enable_gpu=True, engine=engine)
        with pytest.raises(LetterwiseError, match=sentence):
            load_served(chosen, find_model(chosen))


def test_transformers_by_name(tiny_llama: Path, settings: Settings) -> None:
    chosen = settings(model_path=str(tiny_llama), engine="transformers")
    served = load_served(chosen, find_model(chosen))
    assert served.engine_name == "transformers"
    assert isinstance(served.engines["finetuned"], TransformersEngine)


def calibration_of(checksum: str) -> Calibration:
    return Calibration(adapter=checksum, curves={}, accuracy={}, default_modes={"letter_count": "direct"})


def evaluation_of(checksum: str) -> EvaluationResults:
    """As `letterwise evaluate` writes it: with the first digits of the checksum."""
    tuned = ModelResults(id="tuned", revision=checksum[:16], metrics={"spelling_accuracy": 0.5})
    return EvaluationResults(
        split="test", base_model=ModelResults(id="base", revision="r", metrics={}), finetuned_model=tuned
    )


def test_what_was_measured_on_these_weights_is_served_with_them(
    adapter: Path, tiny_llama: Path, settings: Settings
) -> None:
    checksum = sha256_file(adapter / ADAPTER_WEIGHTS)
    write_results(adapter / CALIBRATION_FILE, calibration_of(checksum))
    write_results(adapter / "evaluation_results.json", evaluation_of(checksum))
    chosen = settings(model_path=str(adapter), base_model=str(tiny_llama), engine="transformers")

    served = load_served(chosen, find_model(chosen))

    assert served.calibration == calibration_of(checksum)
    assert served.results == evaluation_of(checksum)
    assert served.revision.endswith(f" + {checksum[:16]}")


@pytest.mark.parametrize(
    ("name", "results"),
    [(CALIBRATION_FILE, calibration_of("0" * 64)), ("evaluation_results.json", evaluation_of("0" * 64))],
)
def test_what_was_measured_on_other_weights_is_refused(
    name: str, results: Calibration | EvaluationResults, adapter: Path, tiny_llama: Path, settings: Settings
) -> None:
    """As where an adapter was trained anew into the folder and not evaluated since."""
    write_results(adapter / name, results)
    chosen = settings(model_path=str(adapter), base_model=str(tiny_llama), engine="transformers")
    with pytest.raises(LetterwiseError, match=rf"{name} belongs to other weights \(0{{16}}\).*or remove the file"):
        load_served(chosen, find_model(chosen))


def test_an_adapter_without_weights_is_one_sentence(adapter: Path, tiny_llama: Path, settings: Settings) -> None:
    (adapter / ADAPTER_WEIGHTS).unlink()
    chosen = settings(model_path=str(adapter), base_model=str(tiny_llama))
    with pytest.raises(LetterwiseError, match="an adapter without weights"):
        load_served(chosen, find_model(chosen))
