"""What commands print when they are done: results, calibration, transfer and retention as tables for a terminal.

Knows the results and how figures are written out; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from letterwise.analysis_results import Retention
from letterwise.reporting.console import Terminal
from letterwise.reporting.other_controls import COLUMNS, other_control_rows
from letterwise.reporting.over_seeds import SEED_NOTE, SeedResults, seed_columns, seed_rows
from letterwise.reporting.report_retention import COLUMNS as COLUMNS_OF_RETENTION
from letterwise.reporting.report_retention import retention_rows
from letterwise.reporting.summary import render_rich, summary_rows
from letterwise.results import TRANSFER_FIGURES, CalibrationError, Estimate, EvaluationResults, TransferResults


def print_results(terminal: Terminal, results: EvaluationResults) -> None:
    """The table of metrics, that of further controls, and how good the tuned model's confidence is; what there is."""
    title = f"{results.base_model.id}, {results.split} words"
    terminal.console.print(render_rich(summary_rows(results), title))
    if controls := other_control_rows(results):
        table = Table(*COLUMNS, title="Beside the other controls, mode direct")
        for row in controls:
            table.add_row(*row)
        terminal.console.print(table)
    if results.calibration:
        terminal.console.print(calibration_table(results.calibration))


def seed_table(found: SeedResults) -> Table:
    """The mean of each accuracy over the seeds, and what each came to."""
    table = Table(*seed_columns(found), title="Over seeds of the training", caption=SEED_NOTE, caption_justify="left")
    for row in seed_rows(found):
        table.add_row(*row)
    return table


def calibration_table(errors: Mapping[str, CalibrationError]) -> Table:
    """Expected calibration error of the tuned model's confidence, as it is and through the curves of validation."""
    table = Table("confidence in", "uncalibrated", "calibrated", "n", title="Expected calibration error, tuned model")
    for name, error in errors.items():
        table.add_row(name, f"{error.uncalibrated:.3f}", f"{error.calibrated:.3f}", str(error.n))
    return table


def transfer_table(results: TransferResults) -> Table:
    """A row for each figure; one that there is none of says why."""
    table = Table("figure", "of", "value", "95% interval", "n", "why there is none", title="Transfer")
    for figure in TRANSFER_FIGURES:
        for what, estimate in getattr(results, figure).items():
            _add(table, figure, what, estimate)
    _add(table, "generalization", "spelling", results.generalization)
    return table


def retention_table(retention: Retention) -> Table:
    """A row for each model: perplexity, and how far its predictions moved from the base model's."""
    text = retention.text
    table = Table(*COLUMNS_OF_RETENTION, title=f"Retention, {text.tokens:,} tokens of English")
    for row in retention_rows(retention):
        table.add_row(*row)
    return table


def _add(table: Table, figure: str, what: str, estimate: Estimate) -> None:
    value = "–" if estimate.value is None else f"{estimate.value:.3f}"
    interval = "–" if estimate.interval is None else "[{:.3f}, {:.3f}]".format(*estimate.interval)
    table.add_row(figure, what, value, interval, str(estimate.n or "–"), estimate.reason or "")
