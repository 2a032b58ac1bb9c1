"""How a measurement on a GPU comes into docs/gpu.md: with the peer, and with what could not be measured."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from letterwise.sweep_results import SeedResult

generated_gpu = import_module("generated_gpu")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A file as `benchmarks/training_speed_gpu.py` writes it, without a recorded sweep."""
    monkeypatch.setattr(generated_gpu, "MEASURED", tmp_path / "training_speed_gpu.json")
    monkeypatch.setattr(generated_gpu, "STUDY", tmp_path)
    packages = {"torch": "2.11.0", "transformers": "5.17.0"}
    machine = {"gpu": "NVIDIA H200", "cores": 16, "cpu": "A Processor", "created": "2026-01-02T03:04:05+00:00"}
    speed = {"tokens_per_second": 50_000.0, "peak_gpu_gib": 12.34}
    return {
        "environment": {**machine, "packages": packages},
        "matrix_product_gflops": 538_060.032,
        "letterwise": [
            {"rows": 64, "compiled": False, **speed},
            {"rows": 256, "compiled": True, "problem": "letterwise ended with code 1"},
        ],
        "peer": [{"texts": 64, **speed, "tokens_per_second": 25_000.0}],
    }


def test_what_was_measured_stands_beside_the_peer_and_what_failed(measured: dict[str, Any]) -> None:
    generated_gpu.MEASURED.write_text(json.dumps(measured), encoding="utf-8")
    shown = generated_gpu.training()
    assert "| 64 rows of 128 tokens, layers as they are | 50,000 | 5.0% | 12.3 GiB |" in shown
    assert "| 256 rows of 128 tokens, layers compiled | letterwise ended with code 1 | – | – |" in shown
    assert "| transformers.Trainer with peft, 64 texts | 25,000 | 2.5% | 12.3 GiB |" in shown
    assert "the peak is 538 TFLOP/s in bfloat16 (a large matrix product, measured)" in shown
    assert "letterwise sweep" not in shown


def test_without_a_matrix_product_the_peak_is_the_datasheets(measured: dict[str, Any]) -> None:
    generated_gpu.MEASURED.write_text(json.dumps({**measured, "matrix_product_gflops": None}), encoding="utf-8")
    assert "the peak is 989 TFLOP/s in bfloat16 (NVIDIA's datasheet, not measured)" in generated_gpu.training()


def test_trainings_are_side_by_side_from_their_start_to_their_end() -> None:
    def trained(second: int, seconds: float) -> SeedResult:
        begun = SimpleNamespace(created=f"2026-01-02T03:04:{second:02d}+00:00")
        return SeedResult.model_construct(environment=begun, seconds=seconds)

    assert generated_gpu._side_by_side([trained(0, 10), trained(10, 10)]) == 1
    assert generated_gpu._side_by_side([trained(0, 10), trained(9, 10), trained(5, 1), trained(30, 9)]) == 2
