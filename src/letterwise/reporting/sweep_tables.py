"""A sweep's trials as a table for a terminal.

Knows the results of a study; computes nothing.
"""

from __future__ import annotations

from typing import Any

from rich.table import Table

from letterwise.sweep_results import SweepResults, TrialResult


def sweep_table(results: SweepResults) -> Table:
    """A row for each trial: the best first, then those without a value."""
    several = len(results.seeds) > 1
    columns = [results.metric, "95% interval", *(["seeds from–to"] if several else []), "n", "tokens", "minutes"]
    table = Table("trial", "state", *columns, "settings", title=f"{results.study}, validation words")
    for column in table.columns[:-1]:
        column.no_wrap = True
    names = _short_names(results)
    for trial in sorted(results.trials, key=lambda trial: (trial.value is None, -(trial.value or 0.0))):
        settings = ", ".join(f"{names[path]} {setting_text(value)}" for path, value in trial.params.items())
        style = "bold" if trial.name == results.best else None
        table.add_row(trial.name, trial.state, *_figures(trial, several), settings, style=style)
    return table


def _short_names(results: SweepResults) -> dict[str, str]:
    """The last part of each setting's path, or all of it where two end alike."""
    paths = dict.fromkeys(path for trial in results.trials for path in trial.params)
    last = [path.rpartition(".")[2] for path in paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(paths, last, strict=True)}


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
    """A setting's value, short enough for a table."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(value)


def progress_sentence(results: SweepResults) -> str:
    """How many trials ended how, and why there is no importance."""
    states = [trial.state for trial in results.trials]
    ends = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    failed = next((trial for trial in results.trials if trial.state == "failed"), None)
    why = f" {failed.name} failed: {(failed.reason or '').rstrip('.')}." if failed else ""
    # Of variants nobody expects one.
    reason = results.importance_reason if results.config.get("space") else None
    importance = f" No importance: {reason}" if reason else ""
    return f"{len(states)} {'trial' if len(states) == 1 else 'trials'}: {ends}.{why}{importance}"
