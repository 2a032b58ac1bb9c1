"""A sweep's trials as a table for a terminal.

Knows the results of a study; computes nothing.
"""

from __future__ import annotations

from typing import Any

from rich.table import Table

from letterwise.sweep_results import SweepResults, TrialResult


def sweep_table(results: SweepResults) -> Table:
    """A row for each trial: the best first, then those without a value; settings that differ have columns."""
    paths = list(dict.fromkeys(path for trial in results.trials for path in trial.params))
    several = len(results.seeds) > 1
    columns = [results.metric, "95% interval", *(["seeds from–to"] if several else []), "n", "tokens", "minutes"]
    table = Table("trial", "state", *paths, *columns, title=f"{results.study}, validation words")
    for trial in sorted(results.trials, key=lambda trial: (trial.value is None, -(trial.value or 0.0))):
        values = [setting_text(trial.params[path]) if path in trial.params else "" for path in paths]
        style = "bold" if trial.name == results.best else None
        table.add_row(trial.name, trial.state, *values, *_figures(trial, several), style=style)
    return table


def _figures(trial: TrialResult, several: bool) -> list[str]:
    interval = "[{:.1f}, {:.1f}]".format(*(100 * bound for bound in trial.interval)) if trial.interval else "–"
    of_seeds = [seed.value for seed in trial.seeds] if trial.value is not None else []
    spread = f"{min(of_seeds):.1%}–{max(of_seeds):.1%}" if of_seeds else "–"
    return [
        "–" if trial.value is None else f"{trial.value:.1%}",
        interval,
        *([spread] if several else []),
        str(trial.n or "–"),
        f"{trial.tokens:,}",
        f"{trial.seconds / 60:.1f}",
    ]


def setting_text(value: Any) -> str:
    """A setting's value, short enough for a column."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def progress_sentence(results: SweepResults) -> str:
    """How many trials ended how, and why there is no importance."""
    states = [trial.state for trial in results.trials]
    ends = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    failed = next((trial for trial in results.trials if trial.state == "failed"), None)
    why = f" {failed.name} failed: {(failed.reason or '').rstrip('.')}." if failed else ""
    importance = f" No importance: {results.importance_reason}" if results.importance_reason else ""
    return f"{len(states)} trials: {ends}.{why}{importance}"
