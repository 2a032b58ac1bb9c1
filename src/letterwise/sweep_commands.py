"""The command that searches over settings and repeats over seeds.

Wires, decides nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letterwise.reporting.console import Terminal
from letterwise.sweep_config import load_sweep


def add_sweep_commands(app: typer.Typer) -> None:
    """Add `sweep` to the command line."""
    app.command()(sweep)


def sweep(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Sweep YAML: a study, an experiment, and what varies.")
    ] = Path("configs/sweep.yaml"),
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="Processes on this machine that share the study.")
    ] = 1,
) -> None:
    """Train many variants of one experiment, compare them on validation words, and write down the best.

    Writes results/<study_name>/: sweep.json, best_config.yaml for `letterwise run`, importance.png, and a run folder
    for each training. The same command goes on with an interrupted study, and joins one that runs elsewhere.
    """
    settings = load_sweep(config)
    terminal = Terminal()
    from letterwise.reporting.sweep_tables import progress_sentence, sweep_table
    from letterwise.sweep_results import BEST_CONFIG_FILE
    from letterwise.sweep_steps import run_sweep, run_workers

    try:
        results = run_sweep(settings, terminal) if workers == 1 else run_workers(settings, config, workers, terminal)
    except KeyboardInterrupt:
        terminal.say("Stopped; the same command goes on where it was.")
        raise
    terminal.console.print(sweep_table(results))
    terminal.say(progress_sentence(results))
    if results.best:
        terminal.say(f"Best: letterwise run --config {settings.folder / BEST_CONFIG_FILE}")
    terminal.say(f"Written to {settings.folder}")
