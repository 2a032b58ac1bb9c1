"""The command that probes a trained run's models for the letters of tokens.

Wires, decides nothing.
"""

from __future__ import annotations

import typer

from letterwise.report_commands import ConfigOption, RunNameOption, finished_run


def add_probe_commands(app: typer.Typer) -> None:
    """Add `probe` to the command line."""
    app.command()(probe)


def probe(
    config: ConfigOption = None,
    run_name: RunNameOption = None,
) -> None:
    """Find out where a trained run's models know which letters a token has: in the embedding, and in each layer.

    Fits linear probes on tokens of the vocabulary and tests them on others (docs/method.md), for base, tuned and
    control model. Writes probes.json and figures/probes.png; a report written afterwards has a section on them.
    """
    settings = finished_run(config, run_name)
    from letterwise.probe_results import PROBES_FIGURE, PROBES_FILE, ProbeResults
    from letterwise.probe_steps import probe_step
    from letterwise.reporting.report_probes import what_probes_found
    from letterwise.results import read_results
    from letterwise.run_folder import Run

    run = Run(settings)
    run.execute(probe_step(run))
    for sentence in what_probes_found(read_results(run.folder / PROBES_FILE, ProbeResults)):
        run.terminal.say(sentence)
    run.terminal.say(f"Written to {run.folder}: {PROBES_FILE}, {PROBES_FIGURE}")
