"""Draw what the final run reached beside its goals, for docs/transfer_learning.md; nothing while it is not recorded.

    python docs/final_run_figure.py

`make docs` runs it before the tables are made. Knows the recorded final run and its goals; measures nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import final_run
import numpy as np
from final_run import FinalRun, read_final_run
from generated_final import GOALS
from update_results import copy_small

from letterwise.errors import LetterwiseError
from letterwise.reporting.drawing import percent_axis
from letterwise.reporting.other_controls import NAMES
from letterwise.reporting.over_seeds import accuracy
from letterwise.reporting.report_findings import HEADLINES, capital
from letterwise.reporting.style import ROLE_STYLES, RoleStyle, add_note, new_figure, save_figure, styled
from letterwise.results import ModelRole

FIGURE = "goals.png"
STYLES: dict[ModelRole, RoleStyle] = {
    **ROLE_STYLES,
    "format_only": RoleStyle("Format only", "#56B4E9", "\\\\\\", "^", ":"),
    "random_label": RoleStyle("Random label", "#CC79A7", "xxx", "v", ":"),
    "ceiling": RoleStyle("Ceiling", "#009E73", "--", "*", "-"),
}


@styled
def draw(run: FinalRun, path: Path) -> None:
    """Bars of every model's mean over the seeds, a point for each seed, and a line at each goal.

    Raises:
        LetterwiseError: the file cannot be written.
    """
    figure, (panel,) = new_figure(3.6)
    roles = [role for role in NAMES if accuracy(run.evaluations, GOALS[0].metric, GOALS[0].mode, role)]
    width = 0.84 / len(roles)
    for place, goal in enumerate(GOALS):
        for number, role in enumerate(roles):
            found = accuracy(run.evaluations, goal.metric, goal.mode, role)
            if not found:
                continue
            style, x = STYLES[role], place - 0.42 + width * (number + 0.5)
            panel.bar(
                *(x, found.mean, 0.92 * width),
                color=style.colour,
                hatch=style.hatch,
                edgecolor="white",
                linewidth=0,
                label=style.label if place == 0 else None,
            )
            whiskers = np.abs(np.array(found.interval)[:, None] - found.mean)
            panel.errorbar(x, found.mean, whiskers, color="black", linewidth=0.8, capsize=1.5)
            points = list(found.values.values())
            panel.plot([x] * len(points), points, "o", color="black", markersize=2.5, markerfacecolor="white")
        line = panel.hlines(goal.wanted, place - 0.45, place + 0.45, color="black", linestyle="--", linewidth=1)
    line.set_label("Goal")
    modes = [f",\n{goal.mode.replace('_', ' ')}" if goal.mode else "" for goal in GOALS]
    names = [capital(HEADLINES[goal.metric]) + mode for goal, mode in zip(GOALS, modes, strict=True)]
    panel.set_xticks(range(len(GOALS)), names)
    percent_axis([panel])
    figure.legend(loc="outside upper center", ncols=len(roles) + 1)
    add_note(
        figure, "Test words. Bars: means over the seeds, with 95% Wilson intervals of one seed's n; points: seeds."
    )
    save_figure(figure, path)
    copy_small(path, path)


def main() -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    try:
        if run := read_final_run():
            draw(run, final_run.FOLDER / FIGURE)
            print(f"Drawn: {FIGURE}")
    except LetterwiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
