from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from letterwise.reporting.console import Terminal
from letterwise.reporting.terminal_tables import calibration_table, print_results, transfer_table
from letterwise.results import CalibrationError, Estimate, EvaluationResults, TransferResults


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_calibration_is_shown_before_and_after() -> None:
    text = printed(
        calibration_table({"letter_count.direct": CalibrationError(uncalibrated=0.31, calibrated=0.045, n=400)})
    )
    assert [cell in text for cell in ("letter_count.direct", "0.310", "0.045", "400")] == [True] * 4


def test_further_controls_have_a_table_of_their_own_where_there_are_some(
    with_controls: EvaluationResults, results: EvaluationResults
) -> None:
    def screen(found: EvaluationResults) -> str:
        console = Console(file=io.StringIO(), width=160)
        print_results(Terminal(console), found)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    text = screen(with_controls)
    (row,) = [line for line in text.splitlines() if "ceiling" in line]
    for cell in ("the very questions, about training words", "10.1% [", "40.2% [", "71.3% ["):
        assert cell in row
    assert "the word repeated instead of spelled" in text
    assert "ceiling" not in screen(results)


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(value=0.5, interval=(0.25, 0.75), n=6), "0.500 │ [0.250, 0.750] │ 6"),
        (Estimate(value=None, reason="The gain in spelling may be zero."), "The gain in spelling may be zero."),
    ],
)
def test_a_figure_is_a_number_or_the_reason_why_there_is_none(estimate: Estimate, shown: str) -> None:
    results = TransferResults(
        correlation={"letter_count": estimate},
        item_phi={},
        item_table={},
        transfer_efficiency={},
        control_adjusted_gain={},
        generalization=Estimate(value=1.0, interval=(0.9, 1.1), n=10),
        checkpoints=[],
    )
    text = printed(transfer_table(results))
    assert shown in text
    assert "share_of_ceiling" not in text
    results.share_of_ceiling["letter_position"] = Estimate(value=0.42, interval=(0.3, 0.55), n=6)
    assert "share_of_ceiling" in printed(transfer_table(results))
    assert "generalization" in text
