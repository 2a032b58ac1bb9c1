"""The figure of a sweep: which settings matter.

Knows the results of a study; computes nothing.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import PercentFormatter

from letterwise.reporting.style import ROLE_STYLES, SMALL, add_note, new_figure, save_figure, styled
from letterwise.sweep_results import SweepResults


@styled
def plot_importance(results: SweepResults, path: Path) -> None:
    """Draw each setting's share of importance as a bar, the largest on top, as a PNG.

    Args:
        results: of a study with importances.
        path: the PNG file, written atomically.

    Raises:
        LetterwiseError: the file cannot be written.
    """
    shares = sorted((results.importance or {}).items(), key=lambda item: item[1])
    complete = sum(trial.state == "complete" for trial in results.trials)
    figure, [axes] = new_figure(height=1.2 + 0.32 * len(shares))
    style = ROLE_STYLES["finetuned"]
    bars = axes.barh([name for name, _ in shares], [share for _, share in shares], color=style.colour)
    axes.bar_label(bars, labels=[f"{share:.0%}" for _, share in shares], padding=3, fontsize=SMALL)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, 1.1 * max(share for _, share in shares))
    axes.set_xlabel("Share of importance")
    axes.set_title(f"{results.study}: what reaches the best tenth of {results.metric}")
    add_note(figure, f"PED-ANOVA over {complete} complete trials; validation words. An estimate without an interval.")
    save_figure(figure, path)
