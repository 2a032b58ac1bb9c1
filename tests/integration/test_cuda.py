"""On an NVIDIA GPU the same training and the same answers come out as on the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from letterwise import hardware
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation_steps import load_for_inference
from letterwise.models import BaseModel, load_tokenizer
from letterwise.results import read_training_log
from letterwise.tasks.spelling import spelling_prompt

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")

WriteConfig = Callable[..., Path]

WORDS = ["strawberry", "garden", "window", "butter", "mountain", "hospital", "a", "extraordinary"]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have one device chosen, whatever there is, and float32."""

    def choose(device: str) -> None:
        monkeypatch.setattr(hardware, "choose_device", lambda: torch.device(device))
        monkeypatch.setattr(hardware, "choose_dtype", lambda *_: torch.float32)

    return choose


def test_the_engine_answers_as_on_the_processor(tiny_base: BaseModel, on: Callable[[str], None]) -> None:
    prompts = [spelling_prompt(word) for word in WORDS]
    candidates = [[" a", " b", " strawberry"]] * len(prompts)
    tokenizer = load_tokenizer(tiny_base)
    answers = []
    for device in ("cpu", "cuda"):
        on(device)
        model = load_for_inference(tiny_base, None)
        assert model.device.type == device
        engine = TransformersEngine(model, tokenizer, 4)
        answers.append((engine.generate(prompts, 12), engine.score(prompts, candidates)))
    (written, scores), (written_there, scores_there) = answers
    assert written_there == written
    for one, other in zip(scores, scores_there, strict=True):
        assert other == pytest.approx(one, abs=1e-3)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_goes_as_on_the_processor(
    tmp_path: Path, tiny_base: BaseModel, write_config: WriteConfig, compiled: bool
) -> None:
    losses = []
    for devices in ("", os.environ.get("CUDA_VISIBLE_DEVICES", "0")):  # hidden, and seen
        folder = tmp_path / f"devices-{devices}"
        settings = {"training__dtype": "float32", "training__compile": compiled}
        config = write_config(folder, tiny_base.folder, **settings)
        command = [sys.executable, "-m", "letterwise", "train", "--config", str(config)]
        subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": devices}, check=True)
        log = read_training_log(folder / "results/tiny/training_log.jsonl")
        losses.append([entry.loss for entry in log if entry.loss is not None])
    assert len(losses[0]) > 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
