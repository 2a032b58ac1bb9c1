"""A small experiment on a tiny model: a few texts, six steps, an evaluation that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import PeftModel

from letterwise.config import ExperimentConfig, LoraSection, TrainingConfig
from letterwise.data.build import load_data
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.models import BaseModel, load_tokenizer, resolve_base
from letterwise.results import TrainedRole
from letterwise.training.tracking import NoTracker
from letterwise.training.train import TrainingReport, train

Train = Callable[..., TrainingReport]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a cache folder of its own, and PyTorch's setting is not that of whoever runs it."""
    monkeypatch.setenv("LETTERWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def training_texts(data_folder: Path) -> Dataset:
    return load_data(data_folder)[0]["train"].select(range(80))


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """An experiment below the test's folder; keywords change its section `training`."""

    def make(run_name: str = "run", seed: int = 0, **training: Any) -> ExperimentConfig:
        settings = {
            "max_steps": 6,
            "batch_size": 4,
            "row_length": 128,
            "learning_rate": 5e-3,
            "warmup_steps": 2,
            "evaluate_every": 2,
            "checkpoint_every": 3,
            "dtype": "float32",
            "compile": False,
            **training,
        }
        return ExperimentConfig(
            run_name=run_name,
            seed=seed,
            results_folder=tmp_path / "results",
            checkpoints_folder=tmp_path / "checkpoints",
            lora=LoraSection(rank=4, alpha=8, dropout=0.1),
            training=TrainingConfig.model_validate(settings),
        )

    return make


def accuracies(*values: float) -> Callable[[PeftModel], QuickEvaluation]:
    """An evaluation that finds these spelling accuracies in turn, and then the last one again."""
    left = list(values)

    def evaluate(model: PeftModel) -> QuickEvaluation:
        assert not model.training
        accuracy = left.pop(0) if len(left) > 1 else left[0]
        return QuickEvaluation({"spelling_accuracy": accuracy}, {"spelling_accuracy": 10})

    return evaluate


def trainer(base: BaseModel, texts: Dataset) -> Train:
    """Trains quietly; keywords go to `train`, `found` lists the accuracies that its evaluations find."""

    def run(
        config: ExperimentConfig, role: TrainedRole = "finetuned", found: Sequence[float] = (0.5,), **more: Any
    ) -> TrainingReport:
        more = {"say": lambda line: None, "tracker": NoTracker(), "evaluate": accuracies(*found), **more}
        return train(config, base, load_tokenizer(base), texts, role, **more)

    return run


@pytest.fixture
def run_training(tiny_base: BaseModel, training_texts: Dataset) -> Train:
    """Trains each architecture in turn."""
    return trainer(tiny_base, training_texts)


@pytest.fixture
def run_one_training(tiny_llama: Path, training_texts: Dataset) -> Train:
    """Trains one architecture, where both would go the same way."""
    return trainer(resolve_base(str(tiny_llama)), training_texts)
