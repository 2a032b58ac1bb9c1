"""The commands about a finished run: what its training left of the base model, and the report.

Wires, decides nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letterwise.config import ExperimentConfig, load_config, override
from letterwise.errors import LetterwiseError

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Experiment YAML of the run; not needed with --run-name.")
]
RunNameOption = Annotated[
    str | None, typer.Option("--run-name", help="The run: results/<run_name>, or in the configuration's folder.")
]


def add_report_commands(app: typer.Typer) -> None:
    """Add `retention` and `report` to the command line."""
    app.command()(retention)
    app.command()(report)


def retention(
    config: ConfigOption = None,
    run_name: RunNameOption = None,
) -> None:
    """Measure what training left of the base model's English: perplexity, and how far its predictions moved.

    Needs the run's adapters, and reads text that comes with Python. Writes retention.json; `letterwise report` then
    shows it.
    """
    settings = finished_run(config, run_name)
    from letterwise.analysis_results import RETENTION_FILE, Retention
    from letterwise.evaluation_steps import retention_step
    from letterwise.reporting.report_retention import retention_sentence
    from letterwise.reporting.terminal_tables import retention_table
    from letterwise.results import read_results
    from letterwise.run_folder import Run

    run = Run(settings)
    run.execute(retention_step(run))
    measured = read_results(run.folder / RETENTION_FILE, Retention)
    run.terminal.console.print(retention_table(measured))
    run.terminal.say(retention_sentence(measured))
    run.terminal.say(f"Written to {run.folder / RETENTION_FILE}")


def report(
    config: ConfigOption = None,
    run_name: RunNameOption = None,
) -> None:
    """Write up a finished run: final_report.json, final_report.html and final_report.pdf in its folder.

    Says which success criteria are met, what got worse, and what follows. Asks no model; needs what `letterwise run`
    leaves, and takes `publication.json` into account where publishing has written it.
    """
    settings = finished_run(config, run_name)
    from letterwise.pipeline import report_step
    from letterwise.reporting.report import REPORT_FILES
    from letterwise.reporting.report_model import FinalReport
    from letterwise.results import read_results
    from letterwise.run_folder import Run

    run = Run(settings)
    run.execute(report_step(run))
    written = read_results(run.folder / REPORT_FILES[0], FinalReport)
    run.terminal.say(written.conclusion.summary)
    run.terminal.say(f"Written to {run.folder}: {', '.join(REPORT_FILES)}")


def finished_run(config: Path | None, run_name: str | None) -> ExperimentConfig:
    """The configuration of a run that is there: by its YAML file, by its name, or both.

    Raises:
        LetterwiseError: neither is given, or there is no such file.
    """
    if config:
        return override(load_config(config), {"run_name": run_name} if run_name else {})
    if run_name:
        # A run that was copied here says in its configuration where it was made.
        results = Path("results")
        return override(load_config(results / run_name / "config.yaml"), {"results_folder": results})
    raise LetterwiseError("Which run? Name it with --run-name, or give its configuration with --config.")
