"""Experiment tracking with Weights & Biases, online with a key and offline without.

Knows nothing about what is logged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from letterwise import processes
from letterwise.config import ExperimentConfig, TrackingConfig
from letterwise.files import make_folder

VALIDATION = "validation/"
"""Begins the name of each figure measured on validation words."""

Watch = Callable[[int, Mapping[str, float]], None]
"""Called with the step and the figures of each evaluation on validation words; may raise, to end the training."""


class Tracker(Protocol):
    """Where training sends its figures."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Record values at a step."""
        ...

    def finish(self) -> None:
        """Close the record."""
        ...


class NoTracker:
    """Tracking switched off."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Record nothing."""

    def finish(self) -> None:
        """Close nothing."""


class WandbTracker:
    """One W&B run."""

    def __init__(self, run: Any, online: bool, say: Callable[[str], None]) -> None:
        self._run = run
        self._online = online
        self._say = say

    def log(self, values: dict[str, float], step: int) -> None:
        """Record values at a step."""
        self._run.log(values, step=step)

    def finish(self) -> None:
        """Close the run and, when it was offline, say how to sync it."""
        folder = Path(self._run.dir).parent
        self._run.finish()
        if not self._online:
            self._say(f"W&B ran offline; upload it with: wandb sync {folder}")


class WatchedTracker:
    """A tracker whose evaluations are watched."""

    def __init__(self, tracker: Tracker, watch: Watch) -> None:
        self._tracker = tracker
        self._watch = watch

    def log(self, values: dict[str, float], step: int) -> None:
        """Record values at a step, then show those of an evaluation."""
        self._tracker.log(values, step)
        measured = {name.removeprefix(VALIDATION): value for name, value in values.items() if VALIDATION in name}
        if measured:
            self._watch(step, measured)

    def finish(self) -> None:
        """Close the record."""
        self._tracker.finish()


@contextmanager
def finishing(tracker: Tracker) -> Iterator[None]:
    """Close the record when the block ends, however it ends: one process may train many adapters."""
    try:
        yield
    finally:
        tracker.finish()


def open_tracker(
    tracking: TrackingConfig,
    config: ExperimentConfig,
    name: str,
    say: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Tracker:
    """Open the tracker that the configuration asks for.

    Args:
        tracking: whether and where to track.
        config: recorded with the run.
        name: display name of the run.
        say: prints one line for the user.
        watch: is told of each evaluation.
    """
    tracker = _open_wandb(tracking, config, name, say) if tracking.wandb and processes.is_main() else NoTracker()
    return WatchedTracker(tracker, watch) if watch else tracker


def _open_wandb(
    tracking: TrackingConfig, config: ExperimentConfig, name: str, say: Callable[[str], None]
) -> WandbTracker:
    import wandb  # takes a second to import, and most runs do not track

    online = bool(os.environ.get("WANDB_API_KEY"))
    run = wandb.init(
        project=tracking.project,
        group=tracking.group,
        name=name,
        dir=make_folder(config.run_folder),
        config=config.model_dump(mode="json"),
        mode="online" if online else "offline",
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbTracker(run, online, say)
