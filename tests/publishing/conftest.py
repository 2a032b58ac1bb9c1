"""A Hub on this machine, a tiny run that is finished, and its published repositories."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from local_hub import LocalHub, reachable, running

from letterwise import cli

BASE_ID = "tests/tiny-llama"

SETTINGS: dict[str, Any] = {
    "run_name": "tiny",
    "base_model": BASE_ID,
    # Common words only: looking tens of thousands of words up in every context takes half a minute.
    "words": {"validation_words": 30, "test_words": 30, "min_zipf": 4.5},
    "data": {"train_examples": 200, "count_questions": 12, "position_questions": 12},
    "lora": {"rank": 4, "alpha": 8},
    "training": {"max_steps": 4, "batch_size": 2, "row_length": 160, "evaluate_every": 2, "evaluation_words": 2},
    "evaluation": {"training_tokens": 4, "bootstrap_samples": 100},
}


def run_letterwise(*arguments: str | Path) -> int:
    """What the shell would get back from `letterwise` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["letterwise", *map(str, arguments)])
        patch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture(scope="session")
def letterwise() -> Callable[..., int]:
    return run_letterwise


@pytest.fixture(scope="session")
def hub_server(tiny_llama: Path) -> Iterator[LocalHub]:
    """A Hub that has the base model and nothing else."""
    with running() as hub:
        hub.add(BASE_ID, tiny_llama)
        hub.change(BASE_ID, "README.md", b"---\nlicense: mit\n---\n# A tiny random model\n")
        hub.change(BASE_ID, "LICENSE", b"MIT License\n")
        yield hub


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub-cache")


@pytest.fixture
def hub(hub_server: LocalHub, hub_cache: Path) -> Iterator[LocalHub]:
    """The Hub, reachable with a token that may write to the namespace `me`, and emptied afterwards."""
    kept = {key: repository for key, repository in hub_server.repositories.items() if key[1] == BASE_ID}
    with reachable(hub_server, hub_cache):
        yield hub_server
    hub_server.repositories = kept
    hub_server.faults.clear()
    hub_server.requests.clear()
    hub_server.storage.clear()


@pytest.fixture(scope="session")
def finished(hub_server: LocalHub, hub_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with experiment.yaml, results/ and checkpoints/ of a whole run on a base model of the Hub."""
    folder = tmp_path_factory.mktemp("finished")
    places = {name: str(folder / name.removesuffix("_folder")) for name in ("results_folder", "checkpoints_folder")}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(SETTINGS | places), encoding="utf-8")
    with reachable(hub_server, hub_cache):
        assert run_letterwise("run", "--config", folder / "experiment.yaml") == 0
    return folder


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run's configuration; its records may be written, and dist/ is made in an empty folder."""
    shutil.copytree(finished / "results", tmp_path / "results")
    settings = yaml.safe_load((tmp_path / "results/tiny/config.yaml").read_text(encoding="utf-8"))
    settings["results_folder"] = str(tmp_path / "results")
    for path in (tmp_path / "experiment.yaml", tmp_path / "results/tiny/config.yaml"):
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiment.yaml"


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed since the last call."""

    def read() -> str:
        printed = capsys.readouterr()
        return printed.out + printed.err

    return read
