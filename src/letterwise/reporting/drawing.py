"""The marks that figures are made of: bars, lines of shares with their intervals, tables of counts, baselines.

Knows how a share, its interval and n are shown; knows nothing about which figures there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.proportion import proportion_confint

from letterwise.reporting.style import BASELINE_COLOUR, BASELINE_LINES, ROLE_STYLES, SMALL
from letterwise.results import EvaluationResults, Interval, ModelRole

Table = NDArray[np.int64]


def percent_axis(axes: Sequence[Axes], label: str = "Correct answers") -> None:
    """Let the y axes run from zero to one common top, in percent, with room above the data for labels and a legend."""
    room = 1.32 if any(panel.get_legend() for panel in axes) else 1.1
    top = room * max(panel.dataLim.y1 for panel in axes) or 1.0
    for panel in axes:
        panel.set_ylim(0, top)
        panel.set_yticks([tick for tick in panel.get_yticks() if tick <= min(1, top)])
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.grid(axis="y")
        if (place := panel.get_subplotspec()) and place.is_first_col():
            panel.set_ylabel(label)


def draw_bar(panel: Axes, x: float, width: float, role: ModelRole, value: float, interval: Interval | None) -> None:
    """Draw one model's share as a bar with its interval as whiskers and its value in percent above."""
    style = ROLE_STYLES[role]
    panel.bar(x, value, width, color=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0, label=style.label)
    low, high = interval or (value, value)
    if interval:
        panel.errorbar(x, value, yerr=[[value - low], [high - value]], color="black", elinewidth=1, capsize=2.5)
    panel.annotate(
        f"{value:.1%}",
        (x, high),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=SMALL,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
        zorder=5,  # above the baselines, which may pass through
    )


def draw_shares(
    panel: Axes,
    x: ArrayLike,
    role: ModelRole,
    shares: ArrayLike,
    sizes: ArrayLike,
    *,
    band: bool = False,
) -> None:
    """Draw one model's shares as a line with markers, and their 95% Wilson intervals as whiskers or as a band.

    `sizes` holds the number of items behind each share; where it is NaN there is no interval.
    """
    style = ROLE_STYLES[role]
    values = np.asarray(shares, dtype=float)
    n = np.asarray(sizes, dtype=float)
    low, high = (np.asarray(bound) for bound in proportion_confint(values * n, n, method="wilson"))
    panel.plot(x, values, style.line, marker=style.marker, markersize=4.5, color=style.colour, label=style.label)
    if band:
        panel.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    else:
        panel.vlines(x, low, high, color=style.colour, linewidth=1.0)


def draw_baselines(panel: Axes, results: EvaluationResults, metric: str) -> None:
    """Draw the baselines of the metric's questions, if it has any, and name them with their values."""
    lines = [
        panel.axhline(
            baseline.value,
            color=BASELINE_COLOUR,
            linestyle=line,
            linewidth=1.2,
            label=f"{name.replace('_', ' ')} {baseline.value:.1%}",
        )
        for name, line in BASELINE_LINES.items()
        if (baseline := results.baselines.get(f"{metric.removesuffix('_accuracy')}_{name}"))
    ]
    if lines:
        panel.legend(handles=lines, loc="upper left", borderpad=0.1, frameon=True, framealpha=1, edgecolor="none")


def draw_table(panel: Axes, table: Table, texts: Sequence[Sequence[str]], size: float = SMALL) -> None:
    """Draw a table of counts, each cell shaded by its share of the row and holding its text."""
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.7 else "black"
        panel.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=size)
    panel.tick_params(length=0)


def add_role_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Name each model once, in a row above the panels."""
    handles = {
        label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    labels = [style.label for style in ROLE_STYLES.values() if style.label in handles]
    figure.legend(
        [handles[label] for label in labels], labels, loc="outside upper center", ncols=len(labels), handlelength=3
    )


def with_n(title: str, sizes: Iterable[float | None], separator: str = " ") -> str:
    """'Spelling (n = 1,000)', or a range where the sizes differ; the bare title where none is known."""
    known = sorted({size for size in sizes if size})
    if not known:
        return title
    text = " to ".join(f"{size:,.0f}" for size in dict.fromkeys((known[0], known[-1])))
    return f"{title}{separator}(n = {text})"
