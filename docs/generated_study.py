"""What docs/transfer_learning.md shows of the study's sweeps: a table for each that is recorded.

Called from cog blocks and run by `make docs`. Knows the files in docs/results/study/; of what is not there it says
that it is not recorded.
"""

from __future__ import annotations

from pathlib import Path

from letterwise.evaluation.statistics import wilson_interval
from letterwise.reporting.templating import markdown_table
from letterwise.results import Environment, read_results
from letterwise.sweep_config import SweepConfig, load_sweep
from letterwise.sweep_results import SWEEP_FILE, SeedResult, SweepResults, TrialResult

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "results" / "study"
ORDER = ("exercises", "words", "templates", "amount", "batches", "capacity", "combinations")
"""In which the sweeps run."""
NOT_RECORDED = "*Not recorded yet.*"
POSITIONS = ("first", "inner", "last")


def results() -> str:
    """Every sweep of the study, in the order in which they run."""
    return "\n\n".join(_section(name) for name in ORDER)


def cost() -> str:
    """What the complete trials of the recorded sweeps took, by machine."""
    trials = [trial for name in ORDER if (found := _recorded(name)) for trial in found.trials]
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
                machine,
                f"{len(seeds):,}",
                f"{sum(seed.tokens for seed in seeds) / 1e6:.1f} M",
                f"{sum(seed.seconds for seed in seeds) / 3600:.1f}",
            )
            for machine, seeds in rows.items()
        ],
    )


def _recorded(name: str) -> SweepResults | None:
    path = RECORDED / _sweep(name).study.name / SWEEP_FILE
    return read_results(path, SweepResults) if path.is_file() else None


def _sweep(name: str) -> SweepConfig:
    return load_sweep(ROOT / "configs" / "study" / f"{name}.yaml")


def _section(name: str) -> str:
    heading = f"### {name.capitalize()}"
    if not (found := _recorded(name)):
        return f"{heading}\n\n{NOT_RECORDED}"
    complete = [trial for trial in found.trials if trial.state == "complete"]
    one = complete[0].seeds[0]
    header = ("variant", "spelling", "positions", "first", "inner", "last", "counts", "tokens")
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
    return "\n\n".join([heading, markdown_table(header, rows), " ".join(notes)])


def machine(environment: Environment) -> str:
    """What computed."""
    gpu = environment.gpu if environment.device == "cuda" else None
    return f"an {gpu}" if gpu else f"{environment.cores} cores of {environment.cpu}"


def _untrained(seed: SeedResult) -> tuple[str, ...]:
    """The base model, before any step."""
    metrics = seed.untrained or {}
    asked = {name: (metrics.get(name), seed.metrics_n.get(name)) for name in seed.metrics_n}
    return (
        "*untrained*",
        _share(*asked["spelling_accuracy"]),
        _share(*asked["letter_position_accuracy"]),
        *("–" for _ in POSITIONS),
        _share(*asked["letter_count_accuracy"]),
        "0",
    )


def _row(trial: TrialResult) -> tuple[str, ...]:
    """A trial: the mean over its seeds, with the interval of one seed's n, as all are asked the same."""

    def mean(metric: str) -> float:
        return sum(seed.metrics[metric] for seed in trial.seeds) / len(trial.seeds)

    n = trial.seeds[0].metrics_n
    places = []
    for place in POSITIONS:
        right = [seed.positions[place] for seed in trial.seeds if seed.positions and place in seed.positions]
        places.append(f"{sum(r / asked for r, asked in right) / len(right):.1%}" if right else "–")
    return (
        f"`{trial.name}`",
        _share(mean("spelling_accuracy"), n["spelling_accuracy"]),
        _share(mean("letter_position_accuracy"), n["letter_position_accuracy"]),
        *places,
        _share(mean("letter_count_accuracy"), n["letter_count_accuracy"]),
        f"{trial.tokens:,}",
    )


def _share(value: float | None, n: int | None) -> str:
    if value is None or not n:
        return "–"
    low, high = wilson_interval(round(value * n), n)
    return f"{value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
