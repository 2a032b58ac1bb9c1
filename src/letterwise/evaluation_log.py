"""``evaluation_log.jsonl`` of a run folder: its finished evaluations, and so how often test words were asked about.

Knows the file; knows nothing about how models are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from letterwise.errors import LetterwiseError
from letterwise.files import write_text
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


def read_evaluation_log(run_folder: Path) -> Sequence[EvaluationLogEntry]:
    """The evaluations of a run, first to last; none where there is no log.

    Raises:
        LetterwiseError: it cannot be read, or a line is broken.
    """
    path = run_folder / EVALUATION_LOG
    if not path.is_file():
        return []
    entries = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            entries.append(EvaluationLogEntry.model_validate_json(line))
    except (OSError, ValueError) as error:  # also what is no UTF-8 or no entry
        reason = f"line {len(entries) + 1} of {path} is broken" if isinstance(error, ValidationError) else str(error)
        raise LetterwiseError(
            f"The log of evaluations cannot be read: {reason}. Mend it, or keep it elsewhere and begin a new one."
        ) from error
    return entries
