"""What docs/transfer_learning.md shows of the study's sweeps: a table for each that is recorded.

Called from cog blocks and run by `make docs`. Knows the files in docs/results/study/; of what is not there it says
that it is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from statsmodels.stats.proportion import proportions_ztest

from letterwise.evaluation.statistics import wilson_interval
from letterwise.reporting.summary import NOTHING, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import Environment, read_results
from letterwise.sweep_config import SweepConfig, load_sweep
from letterwise.sweep_results import SWEEP_FILE, SeedResult, SweepResults, TrialResult

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "results" / "study"
ORDER = ("exercises", "words", "templates", "amount", "capacity", "combinations", "small")
"""In which the sweeps run."""
NOT_RECORDED = "*Not recorded yet.*"
POSITIONS = ("first", "inner", "last")
METRICS = {
    "spelling": "spelling_accuracy",
    "positions": "letter_position_accuracy",
    "counts": "letter_count_accuracy",
}
COLUMNS = ("spelling", "positions", *POSITIONS, "counts")
Way = Literal["higher", "lower", "no different"]
WAYS: tuple[Way, ...] = ("higher", "lower", "no different")
TEST_IN_WORDS = (
    "z test as of samples apart, though all are asked the same; p < 0.05, not corrected for the number of variants"
)


def results() -> str:
    """Every sweep of the study, in the order in which they run."""
    return "\n\n".join(_section(name) for name in ORDER)


def cost() -> str:
    """What the complete trials of the recorded sweeps took, by machine."""
    trials = [trial for name in ORDER if (found := recorded_sweep(name)) for trial in found.trials]
    rows: dict[str, list[SeedResult]] = {}
    for seed in (seed for trial in trials if trial.state == "complete" for seed in trial.seeds):
        rows.setdefault(machine(seed.environment), []).append(seed)
    if not rows:
        return NOT_RECORDED
    header = ("the sweeps, on", "complete trainings", "tokens", "hours, evaluation left out")
    return markdown_table(
        header,
        [
            (
                where,
                f"{len(seeds):,}",
                f"{sum(seed.tokens for seed in seeds) / 1e6:.1f} M",
                f"{sum(seed.seconds for seed in seeds) / 3600:.1f}",
            )
            for where, seeds in rows.items()
        ],
    )


def recorded_sweep(name: str) -> SweepResults | None:
    """What is recorded of a sweep of the study."""
    path = RECORDED / _sweep(name).study.name / SWEEP_FILE
    return read_results(path, SweepResults) if path.is_file() else None


def _sweep(name: str) -> SweepConfig:
    return load_sweep(ROOT / "configs" / "study" / f"{name}.yaml")


def _section(name: str) -> str:
    heading = f"### {name.capitalize()}"
    if not (found := recorded_sweep(name)):
        return f"{heading}\n\n{NOT_RECORDED}"
    complete = [trial for trial in found.trials if trial.state == "complete"]
    one = complete[0].seeds[0]
    header = ("variant", *COLUMNS, "tokens")
    rows = [_untrained(one), *(_row(trial) for trial in complete)]
    left = [f"`{variant}`" for variant in _sweep(name).variants if variant not in {trial.name for trial in complete}]
    environments = [seed.environment for trial in complete for seed in trial.seeds]
    machines = sorted({machine(environment) for environment in environments})
    dates = sorted({environment.created[:10] for environment in environments})
    majority = ", ".join(
        f"{one.majority_class[kind]:.1%} of the {what}"
        for kind, what in (("letter_position", "positions"), ("letter_count", "counts"))
        if kind in one.majority_class
    )
    notes = [
        f"n = {one.metrics_n['spelling_accuracy']:,} validation words, {one.metrics_n['letter_position_accuracy']:,} "
        f"positions and {one.metrics_n['letter_count_accuracy']:,} counts in mode `direct`; brackets are 95% Wilson "
        f"intervals. Always the most frequent answer is right on {majority}.",
        f"Trained on {' and '.join(machines)}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}.",
        *([f"Not finished: {', '.join(left)}."] if left else []),
    ]
    return "\n\n".join([heading, markdown_table(header, rows), " ".join(notes), *_against_plain(complete)])


def _against_plain(complete: Sequence[TrialResult]) -> list[str]:
    """Which variants differ from the one that changes nothing, beyond chance; nothing without that one."""
    plain = next((trial for trial in complete if not trial.params), None)
    others = [trial for trial in complete if trial is not plain]
    if plain is None or not others:
        return []
    said = []
    for what in shares(plain):
        found = {trial.name: difference(trial, plain, what) for trial in others}
        named = {way: ", ".join(f"`{name}`" for name, each in found.items() if each == way) for way in WAYS}
        differing = ", ".join(f"{way} with {names}" for way, names in named.items() if names and way != WAYS[-1])
        said.append(f"{f'{what} letters' if what in POSITIONS else what} {differing or WAYS[-1]}")
    return [f"Against `{plain.name}`, beyond chance ({TEST_IN_WORDS}): {'; '.join(said)}."]


def difference(trial: TrialResult, other: TrialResult, what: str) -> Way:
    """Whether a figure of two variants differs beyond chance, and which way, by a two-proportion z test."""
    (value, n), (expected, size) = shares(trial)[what], shares(other)[what]
    _, p_value = proportions_ztest([round(value * n), round(expected * size)], [n, size])
    if not p_value < 0.05:  # nor where both are 0 or 1, of which there is none
        return "no different"
    return "higher" if value > expected else "lower"


def shares(trial: TrialResult) -> dict[str, tuple[float, int]]:
    """Every figure of a trial → its mean over the seeds, and one seed's n, as all are asked the same."""
    seeds, first = trial.seeds, trial.seeds[0]
    found = {
        what: (sum(seed.metrics[metric] for seed in seeds) / len(seeds), first.metrics_n[metric])
        for what, metric in METRICS.items()
    }
    for place in POSITIONS:
        right = [seed.positions[place] for seed in seeds if seed.positions and place in seed.positions]
        if right:
            found[place] = (sum(r / asked for r, asked in right) / len(right), right[0][1])
    return found


def machine(environment: Environment) -> str:
    """What trained."""
    gpu = environment.gpu if environment.device == "cuda" else None
    return f"one {gpu}" if gpu else f"{environment.cores} cores of {environment.cpu}"


def _untrained(seed: SeedResult) -> tuple[str, ...]:
    """The base model, before any step."""
    measured = seed.untrained or {}
    asked = {what: (measured[metric], seed.metrics_n[metric]) for what, metric in METRICS.items() if metric in measured}
    return ("*untrained*", *_cells(asked), "0")


def _row(trial: TrialResult) -> tuple[str, ...]:
    return (f"`{trial.name}`", *_cells(shares(trial)), f"{trial.tokens:,}")


def _cells(shares: Mapping[str, tuple[float, int]]) -> list[str]:
    """What is measured of `COLUMNS`; an interval stands where it has a column to itself."""
    cells = []
    for what in COLUMNS:
        value, n = shares.get(what, (None, 0))
        interval = wilson_interval(round(value * n), n) if value is not None and what in METRICS else None
        cells.append(NOTHING if value is None else share_text(value, interval))
    return cells
