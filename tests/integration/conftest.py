"""A small experiment on a tiny model, and the whole command line run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from letterwise import cli

SMALL = {
    "run_name": "tiny",
    "seed": 1,
    # Common words only: looking tens of thousands of words up in every context takes half a minute.
    "words": {"validation_words": 30, "test_words": 30, "min_zipf": 4.5},
    "data": {"train_examples": 400, "count_questions": 10, "position_questions": 10},
    "lora": {"rank": 4, "alpha": 8},
    "training": {
        "max_steps": 6,
        "batch_size": 2,
        "row_length": 160,
        "evaluate_every": 2,
        "evaluation_words": 8,
        "checkpoint_every": 2,
        "warmup_steps": 2,
    },
    "evaluation": {"limit": 10, "training_tokens": 6, "bootstrap_samples": 100},
}

Settings = dict[str, Any]
WriteConfig = Callable[..., Path]


def run_letterwise(*arguments: str) -> int:
    """What the shell would get back from `letterwise` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["letterwise", *arguments])
        patch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture(scope="session")
def letterwise() -> Callable[..., int]:
    return run_letterwise


@pytest.fixture(scope="session")
def write_config() -> WriteConfig:
    """Writes the small experiment into a folder, its outputs beside it; settings are replaced as in `lora__rank=8`."""

    def write(folder: Path, base: Path, **replaced: Any) -> Path:
        settings: Settings = {key: dict(value) if isinstance(value, dict) else value for key, value in SMALL.items()}
        settings["base_model"] = str(base)
        for key, value in replaced.items():
            section, _, name = key.partition("__")
            if name:
                settings.setdefault(section, {})[name] = value
            else:
                settings[section] = value
        settings["results_folder"] = str(folder / "results")
        settings["checkpoints_folder"] = str(folder / "checkpoints")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "experiment.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    return write


# The fast tests of sweeps train a Llama through the command line, those of each room know all.
@pytest.fixture(scope="session", params=["tiny_gpt2", pytest.param("tiny_llama", marks=pytest.mark.slow)])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_config: WriteConfig
) -> Path:
    """A folder with experiment.yaml, results/ and checkpoints/ of a whole run on each architecture; only read it."""
    folder = tmp_path_factory.mktemp(f"finished-{request.param}")
    config = write_config(folder, request.getfixturevalue(request.param))
    assert run_letterwise("run", "--config", str(config)) == 0
    return folder
