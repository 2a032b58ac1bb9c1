"""The figures of a training run, drawn from its log.

Knows the shape of the training log; knows nothing about how the loss or a metric is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from letterwise.reporting.drawing import add_role_legend, draw_baselines, draw_shares, percent_axis, with_n
from letterwise.reporting.style import METRIC_TITLES, ROLE_STYLES, add_note, new_figure, save_figure, styled
from letterwise.results import EvaluationResults, Interval, ModelRole, TrainingLogEntry


@styled
def plot_learning_curves(
    log: Sequence[TrainingLogEntry], results: EvaluationResults | None, path: Path
) -> Figure | None:
    """Draw spelling beside count and position accuracy by training tokens, on validation words, with Wilson bands.

    `results`, where given, adds the baselines and, as a large open marker at the end, the final evaluation.
    Returns None, and writes nothing, when the log holds no evaluation.
    """
    curves = {metric: points for metric in METRIC_TITLES if not (points := _evaluations(log, metric)).empty}
    if not curves:
        return None
    figure, axes = new_figure(3.6, columns=len(curves), sharey=True)
    final_sizes: list[int | None] = []
    for panel, (metric, points) in zip(axes, curves.items(), strict=True):
        for role, run in _runs(points):
            draw_shares(panel, run["tokens"], role, run["share"], run["n"], band=True)
            model = results.model(role) if results else None
            if model and metric in model.metrics:
                final_sizes.append(model.n.get(metric))
                # to the right of the last point, which it would hide
                _draw_final(
                    panel, 1.06 * points["tokens"].max(), role, model.metrics[metric], model.intervals.get(metric)
                )
        if results:
            draw_baselines(panel, results, metric)
        panel.set_title(with_n(METRIC_TITLES[metric], points["n"].dropna()))
        panel.set_xlabel("Training tokens (thousands)")
    percent_axis(axes)
    add_role_legend(figure, axes)
    note = "Validation words during training; bands: 95% Wilson intervals."
    if results:
        note += f" {with_n('Large open markers: final evaluation', final_sizes)}, {results.split} split."
    add_note(figure, note)
    save_figure(figure, path)
    return figure


@styled
def plot_training_loss(log: Sequence[TrainingLogEntry], path: Path) -> Figure | None:
    """Draw the training loss by training tokens: each logged value, and a running mean over it.

    Returns None, and writes nothing, when the log holds no loss.
    """
    logged = pd.DataFrame(
        [(entry.model, entry.seed, entry.tokens / 1000, entry.loss) for entry in log if entry.loss is not None],
        columns=["model", "seed", "tokens", "loss"],
    )
    if logged.empty:
        return None
    figure, (panel,) = new_figure(3.2)
    for role, run in _runs(logged):
        style = ROLE_STYLES[role]
        mean = run["loss"].rolling(max(1, len(run) // 20), min_periods=1, center=True).mean()
        panel.plot(run["tokens"], run["loss"], style.line, color=style.colour, alpha=0.4, linewidth=0.8)
        panel.plot(
            run["tokens"],
            mean,
            style.line,
            color=style.colour,
            marker=style.marker,
            markersize=4.5,
            markevery=max(1, len(run) // 12),
            label=style.label,
        )
    panel.set(xlabel="Training tokens (thousands)", ylabel="Loss (nats per predicted token)", ylim=(0, None))
    panel.grid(axis="y")
    add_role_legend(figure, [panel])
    add_note(figure, f"Pale: n = {len(logged):,} logged values, without intervals; strong: their running mean.")
    save_figure(figure, path)
    return figure


def _evaluations(log: Sequence[TrainingLogEntry], metric: str) -> pd.DataFrame:
    """The evaluations of one metric: model, seed, thousands of training tokens, share and n (NaN when not logged)."""
    return pd.DataFrame(
        [
            (
                entry.model,
                entry.seed,
                entry.tokens / 1000,
                entry.evaluation[metric],
                (entry.evaluation_n or {}).get(metric),
            )
            for entry in log
            if entry.evaluation and metric in entry.evaluation
        ],
        columns=["model", "seed", "tokens", "share", "n"],
    )


def _runs(frame: pd.DataFrame) -> Iterator[tuple[ModelRole, pd.DataFrame]]:
    """The rows of each model and seed, models in drawing order."""
    for role in ROLE_STYLES:
        for _, run in frame[frame["model"] == role].groupby("seed"):
            yield role, run


def _draw_final(panel: Axes, x: float, role: ModelRole, value: float, interval: Interval | None) -> None:
    style = ROLE_STYLES[role]
    panel.errorbar(
        x,
        value,
        yerr=[[value - interval[0]], [interval[1] - value]] if interval else None,
        color=style.colour,
        marker=style.marker,
        markersize=9,
        markerfacecolor="none",
        capsize=3,
    )
