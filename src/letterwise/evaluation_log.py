"""``evaluation_log.jsonl`` of a run folder: its finished evaluations, and so how often test words were asked about.

Knows the file; knows nothing about how models are asked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from letterwise.files import read_json_lines, write_text
from letterwise.results import ModelRole, ResultsModel, Task

EVALUATION_LOG = "evaluation_log.jsonl"


class EvaluationLogEntry(ResultsModel):
    """One finished evaluation: one line."""

    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """UTC time, ISO 8601."""
    split: str
    """Whose words were asked about, such as 'test'."""
    limit: int | None
    """At most as many words, and questions of each type; null: all."""
    tasks: list[Task]
    folder: str
    """Where the results went."""
    models: dict[ModelRole, str]
    """Who was asked: the first 16 digits of the adapter's SHA-256 by role; of the base, its revision's."""


def add_to_evaluation_log(run_folder: Path, entry: EvaluationLogEntry) -> None:
    """Add a line to the log of a run, all of it or nothing.

    Raises:
        LetterwiseError: the log cannot be read or written.
    """
    entries = [*read_evaluation_log(run_folder), entry]
    write_text(run_folder / EVALUATION_LOG, "".join(f"{each.model_dump_json()}\n" for each in entries))


def read_evaluation_log(run_folder: Path) -> list[EvaluationLogEntry]:
    """The evaluations of a run, first to last; none where there is no log.

    Raises:
        LetterwiseError: it cannot be read, or a line is not an entry.
    """
    path = run_folder / EVALUATION_LOG
    return read_json_lines(path, EvaluationLogEntry, "an evaluation log entry") if path.is_file() else []
