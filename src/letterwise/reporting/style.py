"""How every figure looks: one colour, hatch and marker per model, one size, one way to save.

Knows nothing about results; a figure module imports this and decides what to draw. Figures never rely on
colour alone, and the colours are those of Okabe and Ito ("Color Universal Design", 2008), which remain
apart under the common kinds of colour blindness.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from letterwise.files import atomic_path
from letterwise.results import ModelRole

WIDTH_INCHES = 8.0
DOTS_PER_INCH = 160
SMALL = 8
"""Font size, in points, of value labels and notes; the smallest that is readable at README width."""

BASELINE_COLOUR = "#000000"
BASELINE_LINES = {"majority_class": "--", "letter_frequency": ":"}
"""Line style of each baseline."""


@dataclass(frozen=True)
class RoleStyle:
    """How one model is drawn everywhere."""

    label: str
    colour: str
    hatch: str
    marker: str
    line: str


ROLE_STYLES: dict[ModelRole, RoleStyle] = {
    "base": RoleStyle("Base", "#999999", "", "o", "-"),
    "control": RoleStyle("Control", "#E69F00", "///", "s", "--"),
    "finetuned": RoleStyle("Fine-tuned", "#0072B2", "...", "D", "-"),
}
"""In the order in which models are drawn from left to right."""

METRIC_TITLES = {
    "spelling_accuracy": "Spelling",
    "letter_count_accuracy": "Letter count",
    "letter_position_accuracy": "Letter position",
}
"""The accuracies that figures show, in order."""

_RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "savefig.facecolor": "white",
}

styled = matplotlib.style.context(["default", _RC])
"""Decorator of every function that draws, so that the reader's own matplotlibrc changes nothing."""


def new_figure(height: float, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Figure, list[Axes]]:
    """A figure of README width and `height` inches with its axes, row by row; `subplots` goes to `Figure.subplots`."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(np.ravel(axes))


def add_note(figure: Figure, text: str) -> None:
    """Write what the reader must know (n, interval, split) under the figure, at its left edge."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, color="#333333")


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure` as PNG, atomically; equal figures give equal bytes (no date, no version).

    Raises:
        LetterwiseError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
