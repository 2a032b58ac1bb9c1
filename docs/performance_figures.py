"""The figures of docs/performance.md, drawn from the files in benchmarks/results; what is not recorded is left out.

    python docs/performance_figures.py

`make docs` runs it. Equal files give equal figures. Knows the files; measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter, StrMethodFormatter

from letterwise.files import read_json
from letterwise.reporting.style import ROLE_STYLES, SMALL, new_figure, save_figure, styled

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = Path(__file__).parent / "figures"
OURS, THEIRS = ROLE_STYLES["finetuned"], ROLE_STYLES["base"]
Panel = Callable[[Axes], None]


def recorded(name: str, results: Path) -> Any:
    """What a benchmark has written, if it has."""
    path = results / f"{name}.json"
    return read_json(path) if path.is_file() else None


def panels(results: Path) -> dict[str, list[Panel]]:
    """The panels of each figure, of what is recorded."""
    training, evaluation = recorded("training_speed", results), recorded("evaluation_speed", results)
    scaling, memory = recorded("scaling", results), recorded("evaluation_memory", results)
    data = recorded("data_building", results)
    return {
        "training": [
            *([lambda axes: _speeds(axes, training)] if training else []),
            *([lambda axes: _by_rows(axes, scaling), lambda axes: _by_processes(axes, scaling)] if scaling else []),
        ],
        "evaluation": [
            *([lambda axes: _evaluation_time(axes, evaluation)] if evaluation else []),
            *([lambda axes: _evaluation_processes(axes, scaling)] if scaling else []),
            *([lambda axes: _evaluation_memory(axes, memory)] if memory else []),
        ],
        "data_building": [
            *([lambda axes: _building_time(axes, data), lambda axes: _building_memory(axes, data)] if data else []),
        ],
    }


@styled
def draw(results: Path, folder: Path) -> list[Path]:
    """Draw every figure that there is something for; returns the files.

    Raises:
        LetterwiseError: a file cannot be written.
    """
    written = []
    for name, drawn in panels(results).items():
        if not drawn:
            continue
        figure, axes = new_figure(2.6, columns=len(drawn))
        for draw_panel, panel in zip(drawn, axes, strict=True):
            draw_panel(panel)
            panel.grid(axis="y")
        save_figure(figure, folder / f"{name}.png")
        written.append(folder / f"{name}.png")
    return written


def _speeds(panel: Axes, measured: Any) -> None:
    speeds = measured["tokens_per_second"]
    for place, (name, value) in enumerate(speeds.items()):
        style = OURS if name.startswith("letterwise") else THEIRS
        panel.bar(place, value, 0.7, color=style.colour, hatch=style.hatch, edgecolor="white", linewidth=0)
        panel.annotate(f"{value:,.0f}", (place, value), xytext=(0, 2), textcoords="offset points", ha="center",
                       fontsize=SMALL)  # fmt: skip
    ceiling = measured["ceiling_tokens_per_second"]
    panel.axhline(ceiling, color="black", linestyle="--", linewidth=1)
    panel.annotate(f"matrix products alone: {ceiling:,.0f}", (len(speeds) - 0.5, ceiling), xytext=(0, 2),
                   textcoords="offset points", ha="right", fontsize=SMALL)  # fmt: skip
    panel.set_ylim(0, 1.15 * max(ceiling, *speeds.values()))
    short = {"letterwise, compiled, ": "ours,\n", "letterwise, ": "ours,\n", "Trainer + peft, ": "Trainer,\n"}
    short |= {"large batches": "large\nbatches"}
    names = list(speeds)
    for long, few in short.items():
        names = [name.replace(long, few) for name in names]
    panel.set_xticks(range(len(speeds)), [name.replace("they ", "they\n") for name in names], fontsize=SMALL - 1)
    panel.set_title("Training, tokens/s")


def _by_rows(panel: Axes, measured: Any) -> None:
    rows = measured["training_by_rows"]
    counts = [row["rows"] for row in rows]
    _line(panel, counts, [row["tokens_per_second"] for row in rows])
    for row in rows:
        panel.annotate(f"{row['peak_rss_mib'] / 1024:.1f} GiB", (row["rows"], row["tokens_per_second"]), xytext=(0, 5),
                       textcoords="offset points", ha="center", fontsize=SMALL - 1)  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.margins(x=0.15)
    panel.set_ylim(0, 1.2 * max(row["tokens_per_second"] for row in rows))
    panel.set_xlabel("packed rows in a batch, uncompiled")
    panel.set_title("Tokens/s and peak memory")


def _by_processes(panel: Axes, measured: Any) -> None:
    rows = measured["training_by_processes"]
    _bars(panel, [row["processes"] for row in rows], [row["tokens_per_second"] for row in rows], "{:,.0f}")
    panel.set_title("Training, tokens/s")


def _evaluation_processes(panel: Axes, measured: Any) -> None:
    rows = measured["evaluation_by_processes"]
    _bars(panel, [row["processes"] for row in rows], [row["seconds_per_word"] for row in rows], "{:,.2f}")
    panel.set_title("Evaluation, seconds a word")


def _evaluation_time(panel: Axes, measured: Any) -> None:
    rows = sorted(measured["by_words"], key=lambda row: row["words"])
    _line(panel, [row["words"] for row in rows], [row["seconds"] for row in rows])
    sample, seconds = measured["sample_words"], measured["sample_seconds"]["generate"]
    panel.plot([sample], [seconds], THEIRS.marker, color=THEIRS.colour)
    panel.annotate(
        "generate, in a loop", (sample, seconds), xytext=(6, 0), textcoords="offset points", va="center", fontsize=SMALL
    )
    _from_zero(panel)
    panel.set_xlabel("words, three tasks, three modes")
    panel.set_title("Evaluation, seconds")


def _evaluation_memory(panel: Axes, measured: Any) -> None:
    rows = measured["rows"]
    words = [row["words"] for row in rows]
    _line(panel, words, [row["peak_mib"] for row in rows], "in all")
    panel.plot(words, [row["asking_peak_mib"] for row in rows], "--s", color=THEIRS.colour, label="while asking")
    panel.legend(loc="lower right")
    _from_zero(panel)
    panel.set_xlabel("words, without a model")
    panel.set_title("Evaluation, peak MiB")


def _building_time(panel: Axes, measured: Any) -> None:
    rows = measured["rows"]
    texts = [row["texts"] for row in rows]
    _line(panel, texts, [row["data_seconds"] for row in rows])
    start, slope = measured["seconds_without_texts"], measured["seconds_per_thousand_texts"] / 1000
    ends = (0, texts[-1])
    panel.plot(ends, [start + slope * end for end in ends], "--", color="black", linewidth=1, label="straight line")
    panel.legend(loc="upper left")
    _from_zero(panel)
    panel.set_xlabel("training texts")
    panel.set_title("Data and audit, seconds")


def _building_memory(panel: Axes, measured: Any) -> None:
    rows = measured["rows"]
    _line(panel, [row["texts"] for row in rows], [row["peak_mib"] for row in rows])
    _from_zero(panel)
    panel.set_xlabel("training texts")
    panel.set_title("Data and audit, peak MiB")


def _line(panel: Axes, x: Sequence[float], y: Sequence[float], label: str = "letterwise") -> None:
    panel.plot(x, y, OURS.line, marker=OURS.marker, markersize=4.5, color=OURS.colour, label=label)


def _bars(panel: Axes, names: Iterable[int], values: Sequence[float], text: str) -> None:
    labels = [f"{name}" for name in names]
    for label, value in zip(labels, values, strict=True):
        panel.bar(label, value, 0.6, color=OURS.colour, hatch=OURS.hatch, edgecolor="white", linewidth=0)
        panel.annotate(text.format(value), (label, value), xytext=(0, 2), textcoords="offset points", ha="center",
                       fontsize=SMALL)  # fmt: skip
    panel.set_ylim(0, 1.15 * max(values))
    panel.set_xlabel("processes on the same cores")


def _from_zero(panel: Axes) -> None:
    panel.set_ylim(0, 1.1 * panel.dataLim.y1)
    panel.set_xlim(0, 1.06 * panel.dataLim.x1)
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.yaxis.set_major_formatter(ScalarFormatter())
    panel.locator_params(axis="x", nbins=4)


if __name__ == "__main__":
    for path in draw(RESULTS, FIGURES):
        print(path.relative_to(ROOT))
