"""The transfer analysis as a table for a terminal.

Knows the results of the analysis and how figures are written out; computes nothing.
"""

from __future__ import annotations

from rich.table import Table

from letterwise.results import Estimate, TransferResults


def transfer_table(results: TransferResults) -> Table:
    """A row for each figure; one that there is none of says why."""
    table = Table("figure", "of", "value", "95% interval", "n", "why there is none", title="Transfer")
    for figure in ("correlation", "item_phi", "transfer_efficiency", "control_adjusted_gain"):
        for what, estimate in getattr(results, figure).items():
            _add(table, figure, what, estimate)
    _add(table, "generalization", "spelling", results.generalization)
    return table


def _add(table: Table, figure: str, what: str, estimate: Estimate) -> None:
    value = "–" if estimate.value is None else f"{estimate.value:.3f}"
    interval = "–" if estimate.interval is None else "[{:.3f}, {:.3f}]".format(*estimate.interval)
    table.add_row(figure, what, value, interval, str(estimate.n or "–"), estimate.reason or "")
