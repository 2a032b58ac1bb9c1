"""The command that writes up a finished run.

Wires, decides nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letterwise.config import ExperimentConfig, load_config, override
from letterwise.errors import LetterwiseError


def add_report_commands(app: typer.Typer) -> None:
    """Add `report` to the command line."""
    app.command()(report)


def report(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Experiment YAML of the run; not needed with --run-name.")
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--run-name", help="The run: results/<run_name>, or in the configuration's folder.")
    ] = None,
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
