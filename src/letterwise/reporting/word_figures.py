"""Figures about the words trained on.

Knows letter tokens; knows nothing about models or results.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from letterwise.reporting.style import SMALL, new_figure, save_figure, styled
from letterwise.words.vocabulary import LetterToken, token_table

COLOURS = {"lower": "#0072B2", "capitalized": "#E69F00", "upper": "#009E73", "mixed": "#CC79A7"}
HATCHES = {"space": "", "no space": "////"}


@styled
def plot_token_distribution(tokens: Sequence[LetterToken], path: Path) -> None:
    """Draw how many tokens have how many letters, stacked by surface form and leading space, as a PNG.

    Args:
        tokens: one or more letter tokens.
        path: the PNG file, written atomically.

    Raises:
        LetterwiseError: the file cannot be written.
    """
    counts = token_table(tokens).iloc[:-1, :-1]  # without the totals
    lengths = counts.index.to_numpy(dtype=int)
    figure, [axes] = new_figure(height=4.5)
    top = np.zeros(len(lengths))
    for form, space in product(COLOURS, HATCHES):
        column = counts[form, space]
        bars = axes.bar(
            lengths,
            column,
            bottom=top,
            color=COLOURS[form],
            hatch=HATCHES[space],
            edgecolor="white",
            linewidth=0,
            label=f"{form}, {'leading space' if space == 'space' else 'no leading space'} (n = {column.sum():,})",
        )
        top += column.to_numpy()
    axes.bar_label(bars, labels=[f"{total:,.0f}" for total in top], padding=2, fontsize=SMALL)
    axes.set_xticks(lengths)
    axes.set_xlabel("Letters in the token")
    axes.set_ylabel("Tokens")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(f"Letter tokens by length (n = {len(tokens):,})")
    axes.legend()
    save_figure(figure, path)
