"""Figures about a built data set: how long its words are, and how its answers are spread.

Knows the columns of the data; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from letterwise.reporting.style import SMALL, new_figure, save_figure, styled
from letterwise.results import QUESTION_TYPES, DataAudit

SPLIT_STYLES = {"train": ("#999999", "o", "-"), "validation": ("#E69F00", "s", "--"), "test": ("#0072B2", "D", "-")}
"""Colour, marker and line of each split."""


@styled
def plot_word_lengths(words: Mapping[str, Sequence[str]], path: Path) -> None:
    """Draw how the words of each split are spread over lengths, as shares of the split, as a PNG.

    Args:
        words: the words of each split, none of them empty.
        path: the PNG file, written atomically.
    """
    figure, [axes] = new_figure(height=3.6)
    for split, members in words.items():
        unique = sorted({word.lower() for word in members})
        lengths, counts = np.unique([len(word) for word in unique], return_counts=True)
        colour, marker, line = SPLIT_STYLES[split]
        label = f"{split} (n = {len(unique):,} words)"
        axes.plot(lengths, counts / counts.sum(), line, marker=marker, markersize=4.5, color=colour, label=label)
    axes.set_xlabel("Letters in the word")
    axes.set_ylabel("Share of the split's words")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="y")
    axes.set_title("Words by length")
    axes.legend()
    save_figure(figure, path)


@styled
def plot_answers(audit: DataAudit, path: Path) -> None:
    """Draw how many questions have each class of answer, by question type and split, as a PNG."""
    figure, panels = new_figure(height=3.2, columns=2)
    for panel, question_type in zip(panels, QUESTION_TYPES, strict=True):
        for place, split in enumerate(("validation", "test")):
            counts = audit.answer_distribution[f"{split}.{question_type}"]
            colour, _, _ = SPLIT_STYLES[split]
            bars = panel.bar(
                np.arange(len(counts)) + 0.4 * place,
                list(counts.values()),
                0.38,
                color=colour,
                hatch="" if place else "///",
                edgecolor="white",
                linewidth=0,
                label=f"{split} (n = {sum(counts.values()):,})",
            )
            panel.bar_label(bars, fontsize=SMALL, padding=2)
            panel.set_xticks(np.arange(len(counts)) + 0.2, list(counts))
        panel.set_ylim(0, 1.35 * max(bar.get_height() for bar in panel.patches))  # type: ignore[attr-defined]
        panel.set_title(question_type.replace("_", " ").capitalize())
        panel.set_ylabel("Questions")
        panel.legend(loc="upper right")
    save_figure(figure, path)
