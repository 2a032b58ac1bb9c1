"""Pictures of the Grafana dashboards, drawn without Grafana: their panels, queries, units and thresholds from the JSON,
the data from a running Prometheus.

Knows the two types of panels that there are; knows nothing about what is measured. It looks less fine than Grafana.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from live_monitoring import Prometheus
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from letterwise.files import atomic_path
from letterwise.reporting.style import styled

CHOSEN = {"$instance": ".+", "$task": ".+", "$question_type": ".+"}
"""What Grafana puts in where everything is chosen."""
COLUMN, ROW = 6, 4
"""Grafana's units in one of ours; every panel of these dashboards is so large or a multiple of it."""
POINTS = 250
WIDTH_INCHES, ROW_INCHES, DOTS_PER_INCH = 11.0, 1.15, 90

Series = tuple[str, list[tuple[float, float]]]
"""Legend, and times in seconds since 1970 with values."""


def queries(panel: Mapping[str, Any], rate_interval: str) -> Iterator[tuple[str, str]]:
    """Legend and query of each target of a panel, as Grafana would send it."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$__rate_interval", rate_interval)
        for variable, value in CHOSEN.items():
            expression = expression.replace(variable, value)
        yield target.get("legendFormat", ""), expression


def draw_dashboard(path: Path, prometheus: Prometheus, begin: float, rate_interval: str, picture: Path) -> None:
    """Draw everything that a dashboard shows of the time from `begin`, in seconds since 1970, until now.

    The picture's own description names the panels in their order.

    Raises:
        AssertionError: a panel has nothing to show.
    """
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    end = datetime.now(UTC).timestamp()
    shown = {panel["title"]: _series(panel, prometheus, begin, end, rate_interval) for panel in dashboard["panels"]}
    assert [title for title, series in shown.items() if not series] == []
    _draw(dashboard, shown, begin, picture)


@styled
def _draw(dashboard: Mapping[str, Any], shown: Mapping[str, list[Series]], begin: float, picture: Path) -> None:
    panels = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) // ROW
    figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * rows + 0.4), layout="constrained")
    figure.suptitle(dashboard["title"], fontsize=12, fontweight="bold")
    grid = figure.add_gridspec(rows, 24 // COLUMN)
    for panel in panels:
        place = panel["gridPos"]
        across = slice(place["x"] // COLUMN, (place["x"] + place["w"]) // COLUMN)
        axes = figure.add_subplot(grid[place["y"] // ROW : (place["y"] + place["h"]) // ROW, across])
        axes.set_title(panel["title"], loc="left", fontsize=9)
        (_draw_stat if panel["type"] == "stat" else _draw_lines)(axes, panel, shown[panel["title"]], begin)
    titles = "; ".join(panel["title"] for panel in panels)
    with atomic_path(picture) as temporary:
        metadata = {"Title": dashboard["title"], "Description": titles, "Software": None}
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata=metadata)


def _draw_stat(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series], begin: float) -> None:
    axes.set_axis_off()
    name, points = series[-1]
    text = name or _formatter(panel, points[-1][0])(points[-1][1])
    size = 18 if len(text) < 20 else 7
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=size, wrap=True, transform=axes.transAxes)


def _draw_lines(axes: Axes, panel: Mapping[str, Any], series: Sequence[Series], begin: float) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for name, points in series:
        axes.plot(
            [(time - begin) / 60 for time, _ in points], [value for _, value in points], label=name, linewidth=1.1
        )
    if defaults.get("custom", {}).get("thresholdsStyle"):
        for step in defaults["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=0.8)
    if defaults["unit"] != "dateTimeAsIso":
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]), top=defaults.get("max"))
    show = _formatter(panel, begin)
    axes.yaxis.set_major_formatter(lambda value, _: show(value))
    axes.xaxis.set_major_formatter("{x:g} min")
    axes.tick_params(labelsize=7)
    axes.grid(axis="y")
    columns = 1 if len(series) < 4 else 2
    axes.legend(loc="upper left", fontsize=6, ncols=columns, frameon=True, framealpha=0.6, edgecolor="none")


def _series(
    panel: Mapping[str, Any], prometheus: Prometheus, begin: float, end: float, rate_interval: str
) -> list[Series]:
    found = []
    for legend, expression in queries(panel, rate_interval):
        for series in prometheus.range(expression, begin, end, max(1, (end - begin) / POINTS)):
            points = [(float(time), float(value)) for time, value in series["values"]]
            if known := [(time, value) for time, value in points if math.isfinite(value)]:
                found.append((_legend(legend, series["metric"]), known))
    return found


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return " ".join(re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template).split())


def _formatter(panel: Mapping[str, Any], now: float) -> Callable[[float], str]:
    """How Grafana's unit writes a value."""
    ways: dict[str, Callable[[float], str]] = {
        "percentunit": lambda value: f"{100 * value:.3g}%",
        "s": lambda value: f"{value:.3g} s" if abs(value) >= 1 else f"{1000 * value:.3g} ms",
        "reqps": lambda value: f"{value:.3g} req/s",
        "ops": lambda value: f"{value:.2g}/s",
        "bytes": lambda value: f"{value / 2**30:.3g} GiB",
        "Bps": lambda value: f"{value / 1000:.3g} kB/s",
        "dateTimeFromNow": lambda value: f"{(now - value / 1000) / 60:.0f} min ago",
        "dateTimeAsIso": lambda value: datetime.fromtimestamp(value / 1000, UTC).strftime("%H:%M:%S"),
        "none": lambda value: f"{value:.3g}",
        "short": lambda value: f"{value:.3g}",
    }
    return ways[panel["fieldConfig"]["defaults"]["unit"]]
