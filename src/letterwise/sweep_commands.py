"""The command that searches over settings and repeats over seeds.

Wires, decides nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
        with _sigterm_interrupts():
            if workers == 1:
                results = run_sweep(settings, terminal)
            else:
                results = run_workers(settings, config, workers, terminal)
    except KeyboardInterrupt:
        terminal.say("Stopped; the same command goes on where it was.")
        raise
    terminal.console.print(sweep_table(results))
    terminal.say(progress_sentence(results))
    if results.best:
        terminal.say(f"Best: letterwise run --config {settings.folder / BEST_CONFIG_FILE}")
    terminal.say(f"Written to {settings.folder}")


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Take SIGTERM, by which schedulers stop a job, for Ctrl-C while the block runs.

    A worker that it killed would leave its trial to be counted as lost, and who started others would leave them behind.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
