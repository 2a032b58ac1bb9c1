"""A run on disk: its folders, its base model, and the record of which steps are done.

Knows when a step can be skipped; knows nothing about what any step does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from letterwise import __version__, processes
from letterwise.config import ExperimentConfig, dump_config
from letterwise.files import fingerprint, make_folder, read_json, sha256_file, write_json, write_text
from letterwise.models import BaseModel, load_tokenizer, resolve_base
from letterwise.reporting.console import Terminal
from letterwise.results import TrainedRole, write_results
from letterwise.run_environment import describe_environment
from letterwise.training.state import BEST


@dataclass(frozen=True)
class Step:
    """One step: skipped when its inputs are those of the last time and its outputs are still there, unchanged."""

    name: str
    inputs: Any
    outputs: Sequence[Path]
    work: Callable[[], None]
    folder: Path | None = None
    """Where its record, the configuration and the environment are kept; None: the run folder."""
    measures: bool = True
    """Whether configuration and environment are kept with it; a step that only writes up what others found has none."""
    shared: bool = False
    """Whether all processes of a run do its work; otherwise the main one does, and the others wait."""


class Run:
    """One experiment on disk."""

    def __init__(self, config: ExperimentConfig, terminal: Terminal | None = None) -> None:
        self.config = config
        self.terminal = terminal or Terminal(quiet=not processes.is_main())
        self.folder = config.run_folder
        self.words_folder = self.folder / "words"
        self.data_folder = self.folder / "data"

    @cached_property
    def base(self) -> BaseModel:
        """The base model, fetched when first wanted."""
        return processes.one_after_another(lambda: resolve_base(self.config.base_model, self.config.revision))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return load_tokenizer(self.base)

    def adapter(self, role: TrainedRole) -> Path:
        """Where the trained adapter of a role lies."""
        return self.config.checkpoint_folder / role / BEST

    @property
    def data_files(self) -> list[Path]:
        """The parquet files of both data sets."""
        splits = {"spelling": ("train", "validation", "test"), "position_count": ("validation", "test")}
        return [self.data_folder / name / f"{split}.parquet" for name in splits for split in splits[name]]

    def execute(self, step: Step) -> bool:
        """Do a step unless it is done already; returns whether there was anything to do.

        Its record says how long the work took, in seconds; of a step that was interrupted, since it went on.
        """
        folder = step.folder or self.folder
        record = folder / ".steps" / f"{step.name}.json"
        inputs = fingerprint([__version__, step.inputs])
        if processes.decided_by_main(lambda: _is_done(record, inputs, folder, step)):
            self.terminal.say(f"{step.name}: up to date")
            return False
        self.terminal.say(f"{step.name}: …")
        if processes.is_main():
            make_folder(folder)
            if step.measures:
                write_text(folder / "config.yaml", dump_config(self.config))
                write_results(folder / "environment.json", describe_environment(self.config, self.base))
        started = time.perf_counter()
        if step.shared or processes.is_main():
            step.work()
        if processes.is_main():
            seconds = round(time.perf_counter() - started, 1)
            outputs = checksums_of(folder, step.outputs)
            write_json(record, {"inputs": inputs, "outputs": outputs, "seconds": seconds})
        processes.wait_for_everyone()
        return True


def _is_done(record: Path, inputs: str, folder: Path, step: Step) -> bool:
    if not record.is_file():
        return False
    done = read_json(record)
    unchanged = checksums_of(folder, step.outputs) == done["outputs"]
    return bool(done["inputs"] == inputs and unchanged and None not in done["outputs"].values())


def checksums_of(folder: Path, outputs: Sequence[Path]) -> dict[str, str | None]:
    """SHA-256 of each file by its path in the folder; None for a file that is not there."""
    return {
        path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name: (
            sha256_file(path) if path.is_file() else None
        )
        for path in outputs
    }
