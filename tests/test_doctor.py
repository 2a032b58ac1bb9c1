"""The doctor says what the machine can do and what it lacks."""

from __future__ import annotations

import shutil
from email.message import Message
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest

from letterwise import doctor, hardware
from letterwise.doctor import Finding, examine


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the Hub is out of reach, and nothing waits for it."""

    def refuse(request: Request, timeout: float) -> None:
        raise URLError("no network")

    monkeypatch.setattr(doctor, "urlopen", refuse)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def finding(what: str, folder: Path) -> Finding:
    return next(found for found in examine(folder) if found.what == what)


def test_whatever_is_lacking_comes_with_a_remedy(tmp_path: Path) -> None:
    findings = examine(tmp_path / "results")

    assert all(found.remedy for found in findings if found.verdict == "lacking")
    assert all(found.found for found in findings)
    assert not (tmp_path / "results").exists()  # looking creates nothing


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY"])
def test_a_key_is_seen_and_never_shown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hf_topsecret")

    assert finding(name, tmp_path) == Finding(name, "set", "good")
    assert "topsecret" not in str(examine(tmp_path))


def test_a_missing_key_is_no_fault(tmp_path: Path) -> None:
    assert finding("WANDB_API_KEY", tmp_path).verdict == "info"
    assert finding("WANDB_API_KEY", tmp_path).found == "not set"


def test_the_hub_is_out_of_reach(tmp_path: Path) -> None:
    assert finding("Hugging Face Hub", tmp_path).verdict == "lacking"
    assert "embedded" in finding("Hugging Face Hub", tmp_path).remedy


@pytest.mark.parametrize("error", [None, HTTPError("url", 405, "method not allowed", Message(), None)])
def test_any_answer_of_the_hub_is_an_answer(
    error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request, timeout: float) -> BytesIO:
        if error:
            raise error
        return BytesIO()

    monkeypatch.setattr(doctor, "urlopen", answer)

    assert finding("Hugging Face Hub", tmp_path) == Finding("Hugging Face Hub", "reachable", "good")


def test_little_disk_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**29))
    monkeypatch.setattr(hardware, "memory_gib", lambda: 4.0)

    disk, memory = finding("free disk", tmp_path), finding("memory", tmp_path)

    assert (disk.found, disk.verdict) == ("0.5 GiB", "lacking")
    assert (memory.found, memory.verdict) == ("4.0 GiB", "lacking")
    assert "batch_size" in memory.remedy


@pytest.mark.parametrize(
    ("features", "verdict"),
    [(["avx2", "avx512", "avx512_bf16"], "good"), (["amx_bf16"], "good"), (["avx2"], "lacking"), ([], "lacking")],
)
def test_vector_units(features: list[str], verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_features", lambda: features)

    assert finding("vector units", tmp_path).verdict == verdict


def test_a_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert finding("C++ compiler", tmp_path).verdict == "lacking"

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert finding("C++ compiler", tmp_path) == Finding("C++ compiler", "g++", "good")


def test_the_embedded_model_is_cached_or_will_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETTERWISE_CACHE", str(tmp_path))

    assert finding("embedded model", tmp_path).found == "not cached"


def test_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_name", lambda: "NVIDIA H100")
    assert finding("GPU", tmp_path) == Finding("GPU", "NVIDIA H100", "good")

    monkeypatch.setattr(hardware, "gpu_name", lambda: None)
    assert finding("GPU", tmp_path).verdict == "info"


def test_what_is_optional_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_name", lambda: None)
    monkeypatch.setattr(hardware, "is_installed", lambda package: package != "vllm")
    assert finding("vllm", tmp_path).found == "not installed"
    assert "letterwise[vllm]" in finding("vllm", tmp_path).remedy
    assert finding("unsloth", tmp_path).verdict == "info"
    assert "without an NVIDIA GPU" in finding("unsloth", tmp_path).found

    monkeypatch.setattr(hardware, "gpu_name", lambda: "NVIDIA H100")
    assert finding("bitsandbytes", tmp_path) == Finding("bitsandbytes", "installed, for training.load_in_4bit", "good")
