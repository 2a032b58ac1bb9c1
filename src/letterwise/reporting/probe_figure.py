"""The figure of what probes read off each place of each model.

Knows the shape of ``probes.json``; knows nothing about how probes are fitted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from letterwise.probe_results import PROBE_QUESTIONS, ProbeQuestion, ProbeResults
from letterwise.reporting.drawing import add_role_legend, percent_axis, with_n
from letterwise.reporting.style import BASELINE_COLOUR, ROLE_STYLES, add_note, new_figure, save_figure, styled

TITLES: dict[ProbeQuestion, str] = {
    "contains_letter": "Contains the letter",
    "first_letter": "First letter",
    "last_letter": "Last letter",
}
LINES = {"majority_class": "--", "appearance": ":", "shuffled_tokens": "-."}
"""Line style of each baseline."""


@styled
def plot_probes(results: ProbeResults, path: Path) -> Figure:
    """Draw for each question the accuracy at the embedding and each layer, every model with its band, and baselines."""
    figure, axes = new_figure(3.8, columns=len(PROBE_QUESTIONS), sharey=True)
    for panel, question in zip(axes, PROBE_QUESTIONS, strict=True):
        for role, style in ROLE_STYLES.items():
            if not (model := results.models.get(role)):
                continue
            found = [place.accuracy[question] for place in model.places]
            x = np.arange(len(found))
            panel.plot(
                x,
                [accuracy.value for accuracy in found],
                style.line,
                color=style.colour,
                marker=style.marker,
                markersize=3,
                label=style.label,
            )
            low, high = np.array([accuracy.interval for accuracy in found]).T
            panel.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
        lines = [
            panel.axhline(
                baseline.accuracy[question].value,
                color=BASELINE_COLOUR,
                linestyle=LINES[name],
                linewidth=1,
                label=f"{name.replace('_', ' ')} {baseline.accuracy[question].value:.1%}",
            )
            for name, baseline in results.baselines.items()
        ]
        panel.legend(handles=lines, loc="upper left", borderpad=0.1, frameon=True, framealpha=1, edgecolor="none")
        panel.set_title(with_n(TITLES[question], [accuracy.n for accuracy in found]))
        panel.set_xlabel("Layer (0: embedding)")
    percent_axis(axes)
    add_role_legend(figure, axes)
    add_note(
        figure,
        f"Linear probes on {results.tokens['test']:,} vocabulary tokens of word families unknown to the probes.\n"
        "Bands: 95% bootstrap intervals over families.",
    )
    save_figure(figure, path)
    return figure
