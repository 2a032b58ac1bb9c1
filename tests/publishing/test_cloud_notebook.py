"""The notebook for cloud GPUs, executed cell by cell on the processor at tiny scale, publishing to a local Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
import yaml
from local_hub import WRITER, LocalHub
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "publish_on_cloud_gpu.ipynb"
FAKE_UNSLOTH = Path(__file__).parents[1] / "support" / "fake_unsloth"
"""Found where an installed package is looked for, so that the notebook installs none."""
EXPERIMENT = {
    "run_name": "tiny",
    "words": {"validation_words": 12, "test_words": 12, "min_zipf": 4.5},
    "data": {"train_examples": 200, "count_questions": 6, "position_questions": 6},
    "lora": {"rank": 4, "alpha": 8},
    "training": {"max_steps": 2, "batch_size": 2, "row_length": 160, "evaluate_every": 2, "evaluation_words": 2},
    "evaluation": {"training_tokens": 4, "bootstrap_samples": 100},
}
Execute = Callable[..., str]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Executes the notebook in an empty folder with these parameters set after its own, and gives what it printed."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source = str(NOTEBOOK.parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", source)

    def run(folder: Path = tmp_path, **parameters: Any) -> str:
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        (place,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
        assert all(f"\n{name} = " in f"\n{notebook.cells[place].source}" for name in parameters)
        chosen = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(chosen))
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
        return json.dumps(notebook)

    return run


def test_it_trains_reports_and_keeps_a_copy_that_it_can_start_from(
    execute: Execute, tmp_path: Path, tiny_gpt2: Path
) -> None:
    experiment = {**EXPERIMENT, "base_model": str(tiny_gpt2)}
    first, second, kept = (tmp_path / name for name in ("first", "second", "kept"))
    first.mkdir()
    second.mkdir()

    shown = execute(first, EXPERIMENT=experiment, KEEP=kept.as_uri())

    assert "Nothing will be published" in shown
    assert "hf_secret" not in shown
    report = json.loads((first / "results/tiny/final_report.json").read_text(encoding="utf-8"))
    assert json.dumps(report["conclusion"]["summary"])[1:-1] in shown
    assert "image/png" in shown
    assert (kept / "checkpoints/tiny/finetuned/best/adapter_model.safetensors").is_file()

    shown = execute(second, EXPERIMENT=experiment, SOURCE=kept.as_uri())

    assert "train-finetuned" not in shown
    again = json.loads((second / "results/tiny/final_report.json").read_text(encoding="utf-8"))
    assert again["evaluation_results"] == report["evaluation_results"]
    assert yaml.safe_load((second / "experiment.yaml").read_text(encoding="utf-8")) == experiment


def test_it_publishes_and_verifies(
    execute: Execute, hub: LocalHub, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": WRITER}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    names = {"MODEL_REPO": "me/tiny", "DATASET_REPO": "me/words"}
    shown = execute(EXPERIMENT={**EXPERIMENT, "base_model": "tests/tiny-llama"}, **names)

    assert "Token: the environment variable HF_TOKEN" in shown
    assert "model me/tiny: uploaded and verified" in shown
    assert "me/tiny: verified" in shown
    assert WRITER not in shown
    assert hub.repositories["model", "me/tiny"].private
    assert {"adapter_model.safetensors", "README.md"} <= hub.files("me/tiny").keys()
    report = json.loads((tmp_path / "results/tiny/final_report.json").read_text(encoding="utf-8"))
    assert report["model_repository"] == f"{hub.endpoint}/me/tiny"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU")
def test_it_stops_with_a_reason(
    execute: Execute, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellExecutionError, match="holds no results/tiny"):
        execute(EXPERIMENT=EXPERIMENT, SOURCE=str(tmp_path / "empty"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(FAKE_UNSLOTH)]))
    with pytest.raises(CellExecutionError, match=r"training.use_unsloth needs an NVIDIA GPU"):
        execute(EXPERIMENT={**EXPERIMENT, "base_model": str(tiny_llama)}, UNSLOTH=True)
    with pytest.raises(CellExecutionError, match="Name both MODEL_REPO and DATASET_REPO"):
        execute(EXPERIMENT=EXPERIMENT, MODEL_REPO="me/model")


def test_it_was_saved_without_output() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
