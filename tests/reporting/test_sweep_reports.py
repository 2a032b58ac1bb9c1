from __future__ import annotations

import io
from pathlib import Path
from unittest.mock import patch

from matplotlib.figure import Figure
from rich.console import Console

from letterwise.reporting.sweep_figures import plot_importance
from letterwise.reporting.sweep_tables import progress_sentence, sweep_table
from letterwise.sweep_results import SweepResults, TrialResult

RESULTS = SweepResults(
    study="night",
    metric="spelling_accuracy",
    seeds=[0],
    config={},
    trials=[
        TrialResult(
            name="trial-000", state="complete", params={"lora.rank": 8}, value=0.25, interval=(0.15, 0.38), n=60
        ),
        TrialResult(
            name="trial-001",
            state="complete",
            params={"lora.rank": 16},
            value=0.5,
            interval=(0.38, 0.62),
            n=60,
            tokens=12_345,
            seconds=90,
        ),
        TrialResult(
            name="trial-002", state="failed", params={"lora.rank": 4}, reason="The loss is no longer a number."
        ),
    ],
    best="trial-001",
    importance={"lora.rank": 0.75, "training.learning_rate": 0.25},
)


def test_the_table_begins_with_the_best_and_ends_with_what_has_no_value() -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(sweep_table(RESULTS))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line for line in text.splitlines() if "trial-0" in line]
    assert [row.split()[1] for row in rows] == ["trial-001", "trial-000", "trial-002"]
    assert [cell in rows[0] for cell in ("50.0%", "[38.0, 62.0]", "60", "12,345", "1.5")] == [True] * 5
    assert "rank 16" in rows[0]
    assert "–" in rows[2]


def test_settings_that_end_alike_are_told_apart() -> None:
    trial = TrialResult(
        name="wide", state="waiting", params={"training.seed": 1, "seed": 2, "lora.target_modules": ["q", "v"]}
    )
    console = Console(file=io.StringIO(), width=160)
    console.print(sweep_table(RESULTS.model_copy(update={"trials": [trial]})))
    assert "training.seed 1, seed 2, target_modules q+v" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_sentence_says_how_trials_ended_and_why() -> None:
    sentence = progress_sentence(RESULTS)
    assert sentence == "3 trials: 2 complete, 1 failed. trial-002 failed: The loss is no longer a number."


def test_each_setting_has_a_bar_as_long_as_its_share(tmp_path: Path) -> None:
    saved: list[Figure] = []
    save = Figure.savefig

    def remember(figure: Figure, *arguments: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    with patch.object(Figure, "savefig", remember):
        plot_importance(RESULTS, tmp_path / "importance.png")
    (axes,) = saved[0].axes
    widths = dict(zip([tick.get_text() for tick in axes.get_yticklabels()], axes.patches, strict=True))
    assert {name: bar.get_width() for name, bar in widths.items()} == RESULTS.importance
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
