"""The final run of the study, as docs/update_results.py recorded it, and how blocks of a report are set in Markdown.

Knows the files in docs/results/; of a run that is not there, or was not yet trained with its ceiling, it knows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TypeVar

from generated_study import NOT_RECORDED
from update_results import FINDINGS_FILE

from letterwise.config import ExperimentConfig, load_config
from letterwise.evaluation_log import EvaluationLogEntry, read_evaluation_log
from letterwise.reporting.report_document import Block, Items, Table, Text
from letterwise.reporting.report_model import Conclusion, ErrorAnalysis
from letterwise.reporting.templating import markdown_table
from letterwise.results import (
    Environment,
    EvaluationResults,
    ResultsModel,
    TrainingLogEntry,
    TransferResults,
    read_results,
    read_training_log,
)

DOCS = Path(__file__).parent
FOLDER = DOCS / "results" / "standard"

AnyResults = TypeVar("AnyResults", bound=ResultsModel)


class Findings(ResultsModel):
    """What is recorded of a report."""

    error_analysis: ErrorAnalysis
    conclusion: Conclusion


@dataclass(frozen=True)
class RecordedSeed:
    """What was recorded of one seed of the final run."""

    results: EvaluationResults
    transfer: TransferResults
    environment: Environment
    log: list[TrainingLogEntry]
    asked: list[EvaluationLogEntry]
    """The log of finished evaluations of this seed."""


@dataclass(frozen=True)
class FinalRun:
    """The final run: its own seed first, then the further ones."""

    config: ExperimentConfig
    seeds: dict[int, RecordedSeed]

    @property
    def evaluations(self) -> dict[int, EvaluationResults]:
        """What each seed was measured at."""
        return {seed: recorded.results for seed, recorded in self.seeds.items()}


def read_final_run() -> FinalRun | None:
    """The recorded run that is the final one, which it is once its ceiling was evaluated on test words, or None."""
    if not (FOLDER / "evaluation_results.json").is_file():
        return None
    first = _read_seed(FOLDER)
    if "ceiling" not in first.results.other_controls or first.results.split != "test":
        return None
    config = load_config(FOLDER / "config.yaml")
    further = {seed: _read_seed(FOLDER / f"seed-{seed}") for seed in config.further_seeds}
    return FinalRun(config, {config.training_seed: first, **further})


def of_final_run(write: Callable[[FinalRun], str]) -> Callable[[], str]:
    """Write about the final run, or say that it is not recorded."""

    @wraps(write)
    def written() -> str:
        run = read_final_run()
        return write(run) if run else NOT_RECORDED

    return written


def read_analysis(name: str, kind: type[AnyResults]) -> AnyResults | None:
    """An analysis that is recorded with the final run; None where it is not."""
    return read_results(FOLDER / name, kind) if (FOLDER / name).is_file() else None


def read_findings() -> Findings | None:
    """Error analysis and conclusion of the final run's report; None where they are not recorded."""
    return read_analysis(FINDINGS_FILE, Findings)


def figure(name: str, description: str) -> str:
    """A figure that is recorded with the final run, as a page in docs/ links to it; nothing where it is not."""
    path = FOLDER / name
    return f"![{description}]({path.relative_to(DOCS).as_posix()})" if path.is_file() else ""


def markdown(blocks: Iterable[Block]) -> str:
    """Texts, lists and tables of a report, in Markdown; a table's caption stands above it."""
    return "\n\n".join(filter(None, map(_block, blocks)))


def _block(block: Block) -> str:
    match block:
        case Text():
            return _escaped(block.text)
        case Items():
            return "\n".join(f"- {_escaped(item)}" for item in block.items)
        case Table():
            rows = [[_escaped(cell) for cell in row] for row in block.rows]
            return f"{_escaped(block.caption)}\n\n{markdown_table(block.header, rows)}"
        case _:
            return ""


def _escaped(text: str) -> str:
    """What is no code between backticks holds no markup."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _read_seed(folder: Path) -> RecordedSeed:
    return RecordedSeed(
        results=read_results(folder / "evaluation_results.json", EvaluationResults),
        transfer=read_results(folder / "transfer.json", TransferResults),
        environment=read_results(folder / "environment.json", Environment),
        log=read_training_log(folder / "training_log.jsonl"),
        asked=read_evaluation_log(folder),
    )
