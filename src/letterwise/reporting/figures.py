"""The figures of a run, drawn from its results files.

Knows the shapes of the results; knows nothing about how a metric is computed. A model, metric or file that is
missing is left out; a figure with nothing to show is not written, and its function returns None.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from letterwise.config import ANSWER_MODES
from letterwise.reporting.drawing import (
    add_role_legend,
    draw_bar,
    draw_baselines,
    draw_shares,
    draw_table,
    percent_axis,
    with_n,
)
from letterwise.reporting.style import METRIC_TITLES, ROLE_STYLES, add_note, new_figure, save_figure, styled
from letterwise.reporting.summary import number_text, share_text
from letterwise.reporting.training_figures import plot_learning_curves, plot_training_loss
from letterwise.results import (
    POSITION_CLASSES,
    QUESTION_TYPES,
    EvaluationResults,
    ModelResults,
    ModelRole,
    TransferResults,
    read_results,
    read_training_log,
)

Breakdown = Literal["word_length", "n_tokens", "position"]

MODE_LABELS = {"direct": "Direct", "spell_first": "Spell first", "computed": "Computed"}
BREAKDOWN_LABELS: dict[Breakdown, str] = {
    "word_length": "Letters in the word",
    "n_tokens": "Tokens in the word",
    "position": "Position asked for",
}
INTERVAL_NOTE = "Whiskers: 95% Wilson intervals."


@styled
def plot_model_bars(results: EvaluationResults, path: Path) -> Figure | None:
    """Draw the three accuracies (answer mode `direct`) of every model as bars, with the baselines as lines."""
    models = _models(results)
    metrics = [metric for metric in METRIC_TITLES if any(metric in model.metrics for model in models.values())]
    if not metrics:
        return None
    figure, axes = new_figure(3.4, columns=len(metrics), sharey=True)
    for panel, metric in zip(axes, metrics, strict=True):
        measured = {role: model for role, model in models.items() if metric in model.metrics}
        for x, (role, model) in enumerate(measured.items()):
            draw_bar(panel, x, 0.66, role, model.metrics[metric], model.intervals.get(metric))
        draw_baselines(panel, results, metric)
        panel.set_xticks(range(len(measured)), [ROLE_STYLES[role].label for role in measured])
        panel.set_title(with_n(METRIC_TITLES[metric], (model.n.get(metric) for model in measured.values())))
    percent_axis(axes)
    add_note(figure, f"Held-out words, {results.split} split; questions answered in mode direct. {INTERVAL_NOTE}")
    save_figure(figure, path)
    return figure


@styled
def plot_answer_modes(results: EvaluationResults, path: Path) -> Figure | None:
    """Draw count and position accuracy of every model in each answer mode as bars, with the baselines as lines."""
    modes = [mode for mode in ANSWER_MODES if mode in results.answer_modes]
    measured = {
        metric: [
            (x + offset, role, model)
            for x, mode in enumerate(modes)
            for role, offset in zip(ROLE_STYLES, (-0.28, 0.0, 0.28), strict=True)
            if (model := results.answer_modes[mode].get(role)) and metric in model.metrics
        ]
        for metric in METRIC_TITLES
    }
    metrics = [metric for metric, bars in measured.items() if bars]
    if not metrics:
        return None
    figure, axes = new_figure(2.6 * len(metrics) + 0.6, rows=len(metrics), sharey=True)
    for panel, metric in zip(axes, metrics, strict=True):
        for x, role, model in measured[metric]:
            draw_bar(panel, x, 0.26, role, model.metrics[metric], model.intervals.get(metric))
        draw_baselines(panel, results, metric)
        panel.set_xticks(range(len(modes)), [MODE_LABELS[mode] for mode in modes])
        panel.set_title(with_n(METRIC_TITLES[metric], (model.n.get(metric) for _, _, model in measured[metric])))
    percent_axis(axes)
    add_role_legend(figure, axes)
    add_note(
        figure,
        f"Held-out words, {results.split} split. {INTERVAL_NOTE} Only Direct speaks of transfer inside the model;\n"
        "in Computed a program counts or indexes in the model's own spelling.",
    )
    save_figure(figure, path)
    return figure


@styled
def plot_accuracy_by(results: EvaluationResults, breakdown: Breakdown, path: Path) -> Figure | None:
    """Draw each accuracy by groups of questions: by word length, by number of tokens or by the position asked for."""
    models = _models(results)
    metrics = [m for m in METRIC_TITLES if any(breakdown in model.breakdowns.get(m, {}) for model in models.values())]
    if not metrics:
        return None
    figure, axes = new_figure(2.0 * len(metrics) + 0.8, rows=len(metrics), sharey=True)
    for panel, metric in zip(axes, metrics, strict=True):
        shares = {role: model.breakdowns.get(metric, {}).get(breakdown, {}) for role, model in models.items()}
        sizes = {role: model.breakdowns.get(metric, {}).get(f"{breakdown}_n", {}) for role, model in models.items()}
        groups = sorted(set().union(*shares.values()), key=_group_order)
        apart = 0.018 * len(groups)  # the same distance on paper, however many groups there are
        for role, offset in zip(ROLE_STYLES, (-apart, 0.0, apart), strict=True):
            if shares.get(role):
                draw_shares(
                    panel,
                    np.arange(len(groups)) + offset,
                    role,
                    [shares[role].get(group, np.nan) for group in groups],
                    [sizes[role].get(group, np.nan) for group in groups],
                )
        panel.set_xticks(
            range(len(groups)), [with_n(group, (one.get(group) for one in sizes.values()), "\n") for group in groups]
        )
        panel.set_title(METRIC_TITLES[metric])
    axes[-1].set_xlabel(BREAKDOWN_LABELS[breakdown])
    percent_axis(axes)
    add_role_legend(figure, axes)
    add_note(figure, f"Held-out words, {results.split} split; questions answered in mode direct. {INTERVAL_NOTE}")
    save_figure(figure, path)
    return figure


@styled
def plot_confusion(results: EvaluationResults, path: Path) -> Figure | None:
    """Draw true against predicted letter counts of every model; cells hold questions, shades the share of their row."""
    models = {role: model for role, model in _models(results).items() if model.confusion}
    if not models:
        return None
    true = sorted(set().union(*(model.confusion for model in models.values())), key=_group_order)
    rows = [row for model in models.values() for row in model.confusion.values()]
    predicted = sorted(set().union(*rows), key=_group_order)
    figure, axes = new_figure(1.6 + 0.4 * len(true), columns=len(models), sharey=True)
    for panel, (role, model) in zip(axes, models.items(), strict=True):
        table = np.array([[model.confusion.get(row, {}).get(column, 0) for column in predicted] for row in true])
        draw_table(panel, table, [[f"{count:,}" for count in row] for row in table])
        for row, answer in enumerate(true):
            if answer in predicted:
                panel.add_patch(
                    Rectangle((predicted.index(answer) - 0.46, row - 0.46), 0.92, 0.92, fill=False, linewidth=1.4)
                )
        panel.set_xticks(range(len(predicted)), predicted)
        panel.set_yticks(range(len(true)), true)
        panel.set_xlabel("Predicted count")
        title = with_n(ROLE_STYLES[role].label, [table.sum()])
        if (accuracy := model.metrics.get("letter_count_accuracy")) is not None:
            title += f"\n{share_text(accuracy, model.intervals.get('letter_count_accuracy'))} correct"
        panel.set_title(title)
    axes[0].set_ylabel("True count")
    add_note(
        figure,
        f"Letter-count questions, {results.split} split, mode direct. Cells: questions; shade: share of the row;\n"
        "framed: correct. Brackets: 95% Wilson intervals.",
    )
    save_figure(figure, path)
    return figure


@styled
def plot_item_table(transfer: TransferResults, path: Path) -> Figure | None:
    """Draw, for counts and positions, how often a question is answered right by whether its word is spelled right."""
    types = [question_type for question_type in QUESTION_TYPES if question_type in transfer.item_table]
    if not types:
        return None
    figure, axes = new_figure(3.2, columns=len(types), sharey=True)
    for panel, question_type in zip(axes, types, strict=True):
        table = np.array(transfer.item_table[question_type])
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        draw_table(panel, table, [[f"{table[r, c]:,}\n{shares[r, c]:.1%} of row" for c in (0, 1)] for r in (0, 1)], 10)
        panel.set_xticks((0, 1), ("wrong", "right"))
        panel.set_yticks((0, 1), ("wrong", "right"))
        panel.set_xlabel("Question answered")
        title = with_n(METRIC_TITLES[f"{question_type}_accuracy"], [table.sum()])
        if phi := transfer.item_phi.get(question_type):
            known = "" if phi.value is None else f"phi = {number_text(phi.value, phi.interval)}"
            title += "\n" + (known or textwrap.fill(f"no phi: {phi.reason}", 44))
        panel.set_title(title)
    axes[0].set_ylabel("Word spelled")
    add_note(
        figure, "Fine-tuned model, held-out words, mode direct. Shade: share of the row. Brackets: 95% interval of phi."
    )
    save_figure(figure, path)
    return figure


def write_all_figures(run_folder: Path) -> list[Path]:
    """Draw every figure that the files in `run_folder` allow, into its task folders; return what was written.

    Raises:
        LetterwiseError: a results file is broken, or a figure cannot be written.
    """
    spelling, questions = run_folder / "spelling" / "figures", run_folder / "position_count" / "figures"
    plots: dict[Path, Callable[[Path], Figure | None]] = {}
    results = None
    if (source := run_folder / "evaluation_results.json").exists():
        results = read_results(source, EvaluationResults)
        plots[questions / "model_bars.png"] = partial(plot_model_bars, results)
        plots[questions / "answer_modes.png"] = partial(plot_answer_modes, results)
        plots[questions / "confusion.png"] = partial(plot_confusion, results)
        for breakdown in BREAKDOWN_LABELS:
            plots[questions / f"accuracy_by_{breakdown}.png"] = partial(plot_accuracy_by, results, breakdown)
    if (source := run_folder / "transfer.json").exists():
        plots[questions / "item_table.png"] = partial(plot_item_table, read_results(source, TransferResults))
    if (source := run_folder / "training_log.jsonl").exists():
        log = [entry for entry in read_training_log(source) if entry.model in ROLE_STYLES]
        plots[spelling / "learning_curves.png"] = partial(plot_learning_curves, log, results)
        plots[spelling / "training_loss.png"] = partial(plot_training_loss, log)
    return [path for path, plot in plots.items() if plot(path)]


def _models(results: EvaluationResults) -> dict[ModelRole, ModelResults]:
    """The evaluated models, in drawing order."""
    return {role: model for role in ROLE_STYLES if (model := results.model(role))}


def _group_order(group: str) -> tuple[int, int, str]:
    """Numbers by size ('3+' after '2'), positions from first to last, then anything else by name."""
    digits = group.rstrip("+")
    if digits.isdecimal():
        return 0, int(digits), group
    return 1, POSITION_CLASSES.index(group) if group in POSITION_CLASSES else len(POSITION_CLASSES), group
