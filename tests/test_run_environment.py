"""What a run records about where it ran."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from letterwise import __version__
from letterwise.config import ExperimentConfig, TrainingConfig
from letterwise.models import BaseModel
from letterwise.run_environment import RECORDED_PACKAGES, current_commit, describe_environment

BASE = BaseModel("tiny", Path("tiny"), "sha256-0123")


def test_an_environment_names_versions_seeds_and_model() -> None:
    config = ExperimentConfig(run_name="x", seed=7, training=TrainingConfig(dtype="float32"))

    environment = describe_environment(config, BASE)

    assert environment.letterwise == __version__
    assert set(RECORDED_PACKAGES) - set(environment.packages) <= {"bitsandbytes", "unsloth", "vllm"}  # optional
    assert environment.packages["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(environment.seeds.values()) == {7}
    assert (environment.base_model, environment.base_revision) == ("tiny", "sha256-0123")
    assert environment.dtype == "float32"
    assert environment.cores >= 1
    assert environment.memory_gib > 0
    assert datetime.now(UTC) - datetime.fromisoformat(environment.created) < timedelta(minutes=1)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_tells_whether_there_are_uncommitted_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit() is None

    git("init", "--quiet")
    assert current_commit() is None  # nothing is committed yet

    Path("a.txt").write_text("one", encoding="utf-8")
    git("add", "a.txt")
    git("commit", "--quiet", "--message", "one")
    git("tag", "v1")
    assert current_commit() == git("rev-parse", "HEAD")

    Path("a.txt").write_text("two", encoding="utf-8")
    assert current_commit() == git("rev-parse", "HEAD") + "-dirty"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert current_commit() is None
