from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from letterwise.config import ExperimentConfig, TrackingConfig
from letterwise.training.tracking import NoTracker, WandbTracker, finishing, open_tracker

MakeConfig = Callable[..., ExperimentConfig]


class FakeWandb:
    """Stands in for the package: remembers how a run was opened and what it was told."""

    def __init__(self, folder: str) -> None:
        self.opened: dict[str, Any] = {}
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = False
        self.dir = f"{folder}/offline-run-1/files"

    def init(self, **options: Any) -> FakeWandb:
        self.opened = options
        return self

    def Settings(self, **options: Any) -> dict[str, Any]:  # noqa: N802
        return options

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> FakeWandb:
    fake = FakeWandb(str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_tracking_is_off_by_default(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    config = make_config()
    tracker = open_tracker(config.tracking, config, "run")
    assert isinstance(tracker, NoTracker)
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    assert not config.run_folder.exists()


@pytest.mark.parametrize(("key", "mode"), [(None, "offline"), ("secret", "online")])
def test_without_a_key_the_run_is_offline_and_told_how_to_sync(
    make_config: MakeConfig, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch, key: str | None, mode: str
) -> None:
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    config, said = make_config(), []
    tracker = open_tracker(TrackingConfig(wandb=True, project="p", group="g"), config, "name", said.append)
    tracker.log({"loss": 1.5}, 3)
    tracker.finish()
    assert wandb.opened["mode"] == mode
    assert (wandb.opened["project"], wandb.opened["group"], wandb.opened["name"]) == ("p", "g", "name")
    assert wandb.opened["config"]["training"]["max_steps"] == 6
    assert "secret" not in str(wandb.opened)
    assert wandb.logged == [({"loss": 1.5}, 3)]
    assert wandb.finished
    sync = [f"W&B ran offline; upload it with: wandb sync {wandb.dir.removesuffix('/files')}"]
    assert said == ([] if key else sync)


def test_evaluations_are_watched_and_the_rest_is_only_logged(make_config: MakeConfig, wandb: FakeWandb) -> None:
    config, seen = make_config(), []
    tracking = TrackingConfig(wandb=True)
    tracker = open_tracker(tracking, config, "name", print, lambda step, values: seen.append((step, dict(values))))
    with finishing(tracker):
        tracker.log({"loss": 1.5}, 3)
        tracker.log({"validation/spelling_accuracy": 0.25}, 4)
    assert seen == [(4, {"spelling_accuracy": 0.25})]
    assert wandb.logged == [({"loss": 1.5}, 3), ({"validation/spelling_accuracy": 0.25}, 4)]


def test_a_training_given_up_closes_its_record(make_config: MakeConfig, wandb: FakeWandb) -> None:
    config = make_config()

    def give_up(step: int, values: object) -> None:
        raise StopIteration

    tracker = open_tracker(TrackingConfig(wandb=True), config, "name", print, give_up)
    with pytest.raises(StopIteration), finishing(tracker):
        tracker.log({"validation/spelling_accuracy": 0.25}, 4)
    assert wandb.finished


@pytest.mark.slow
def test_a_real_offline_run_needs_no_network(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    config, said = make_config(), []
    tracker = open_tracker(TrackingConfig(wandb=True), config, "name", said.append)
    assert isinstance(tracker, WandbTracker)
    tracker.log({"loss": 1.5}, 1)
    tracker.finish()
    (run,) = (config.run_folder / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
    assert said == [f"W&B ran offline; upload it with: wandb sync {run}"]
