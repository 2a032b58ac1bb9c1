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
FAKE_COLAB = FAKE_UNSLOTH.parent / "fake_colab"
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

    def run(
        folder: Path = tmp_path, *, before: str = "", after: str = "", until: str | None = None, **parameters: Any
    ) -> str:
        """`before` and `after` are further cells; with `until`, what stands from that heading on is left out."""
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        (place,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
        assert all(f"\n{name} = " in f"\n{notebook.cells[place].source}" for name in parameters)
        chosen = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells[place + 1 : place + 1] = [nbformat.v4.new_code_cell(text) for text in (chosen, before)]
        if until:
            (end,) = (n for n, cell in enumerate(notebook.cells) if cell.source.startswith(f"## {until}"))
            del notebook.cells[end:]
        notebook.cells.append(nbformat.v4.new_code_cell(after))
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


def test_it_takes_a_run_from_cloud_storage_and_keeps_a_copy_there(
    execute: Execute, finished: Path, tmp_path: Path
) -> None:
    """fsspec's own storage in memory stands for a bucket: its paths are no folders of this machine."""
    put = f"""
import fsspec
for folder in ("results", "checkpoints"):
    fsspec.filesystem("memory").put({str(finished)!r} + f"/{{folder}}/", f"/bucket/runs/{{folder}}/", recursive=True)
"""
    listed = """
bucket = fsspec.filesystem("memory")
given, kept = (set(name.removeprefix(top) for name in bucket.find(top)) for top in ("/bucket/runs", "/copies/here"))
print("missing:", sorted(given - kept))
print("kept:", "/results/tiny/final_report.pdf" in kept, "/checkpoints/tiny/finetuned/best/adapter_config.json" in kept)
"""
    places = {"SOURCE": "memory://bucket/runs", "KEEP": "memory://copies/here"}

    shown = execute(EXPERIMENT={**EXPERIMENT, "base_model": "tests/tiny-llama"}, **places, before=put, after=listed)

    assert "Copied to memory://copies/here" in shown
    assert "train-finetuned" not in shown
    assert "missing: []" in shown
    assert "kept: True True" in shown
    copied = tmp_path / "results/tiny/evaluation_results.json"
    assert copied.read_bytes() == (finished / "results/tiny/evaluation_results.json").read_bytes()


LOG_IN = "Fetch a finished run, or train one"
"""The heading after the cell that logs in."""
REPOSITORIES = {"MODEL_REPO": "me/tiny", "DATASET_REPO": "me/words"}
WHO = "from huggingface_hub import whoami; print('I am', whoami()['name'])"


@pytest.fixture
def without_token(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is there, and no token of it."""
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_the_token_is_the_secret_of_colab(
    execute: Execute, without_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(FAKE_COLAB)]))
    monkeypatch.setenv("COLAB_SECRET_HF_TOKEN", WRITER)

    shown = execute(EXPERIMENT=EXPERIMENT, **REPOSITORIES, until=LOG_IN, after=WHO)

    assert "Token: Colab's secret HF_TOKEN" in shown
    assert "I am me" in shown
    assert WRITER not in shown


@pytest.mark.parametrize("secret", ["denied", None])
def test_without_a_secret_one_is_asked_to_log_in(
    execute: Execute, without_token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str | None
) -> None:
    """Whoever is asked gives the token to the real `login`, which has the Hub look at it and stores it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(FAKE_COLAB)]))
    if secret:
        monkeypatch.setenv("COLAB_SECRET_HF_TOKEN", secret)
    asked = """
import functools, huggingface_hub
from pathlib import Path
huggingface_hub.login = functools.partial(huggingface_hub.login, token=Path("typed").read_text())
"""
    (tmp_path / "typed").write_text(WRITER, encoding="utf-8")

    shown = execute(EXPERIMENT=EXPERIMENT, **REPOSITORIES, until=LOG_IN, before=asked, after=WHO)

    assert "Token: the stored login" in shown
    assert "I am me" in shown
    assert WRITER not in shown
    assert (tmp_path / "home" / "token").read_text(encoding="utf-8") == WRITER


def test_a_mere_name_is_not_installed(execute: Execute) -> None:
    elsewhere = """
import importlib.util
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "letterwise" else there(name, *rest)
"""
    for name in ("", "letterwise"):
        with pytest.raises(CellExecutionError, match="Set LETTERWISE to where letterwise is"):
            execute(EXPERIMENT=EXPERIMENT, LETTERWISE=name, before=elsewhere, until="Log in")


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
