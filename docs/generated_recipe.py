"""Which recipe the study chooses, by the plan's rule, and that the final run trains it.

Called from a cog block in docs/transfer_learning.md. Knows the recorded sweep `small` and the final run's
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

from generated_study import NOT_RECORDED, ROOT, TEST_IN_WORDS, WAYS, difference, recorded_sweep, shares

from letterwise.config import ExperimentConfig, load_config
from letterwise.reporting.summary import share_text
from letterwise.reporting.templating import markdown_table
from letterwise.sweep_config import load_sweep, setting, vary
from letterwise.sweep_results import TrialResult

SWEEP = "small"
SWEEP_FILE = ROOT / "configs" / "study" / f"{SWEEP}.yaml"
CANDIDATES = (
    "base",
    "mostly_words",
    "mostly_words_eight",
    "mostly_words_eight_two_rows",
    "mostly_words_eight_rank_128",
)
"""What the plan says that the recipe is chosen of; the one with less of everything first."""
DECIDING = ("positions", "counts", "spelling")
"""Figures in the order in which they decide."""
FINAL_CONFIG = ROOT / "configs" / "experiment_config.yaml"
OF_THE_FINAL_RUN = (
    "data.train_examples",
    "training.max_steps",
    "training.evaluate_every",
    "training.evaluation_words",
    "training.checkpoint_every",
    "evaluation.split",
)
"""Settings that are the final run's own: its length, how it is looked at meanwhile, and whose words are asked for."""
SEEDS = ("further_seeds", "controls_of_further_seeds")


def recipe() -> str:
    """The candidates, each beside the chosen one by the tests of the sweep's table, and which is chosen."""
    found = recorded_sweep(SWEEP)
    trials = {trial.name: trial for trial in found.trials if trial.state == "complete"} if found else {}
    if not set(CANDIDATES) <= trials.keys():
        return NOT_RECORDED
    if not (name := chosen(trials)):
        return "Each candidate is beaten by another: the rule chooses none."
    rows = [(f"`{each}`", *(_cell(trials[each], trials[name], what) for what in DECIDING)) for each in CANDIDATES]
    decided = {deciding(trials[name], trials[each]) for each in CANDIDATES}
    differing = " and ".join(what for what in DECIDING if what in decided) or "nothing"
    final = load_config(FINAL_CONFIG)
    return (
        f"{markdown_table(('candidate', *DECIDING), rows)}\n\n"
        f"Beside each figure, how it differs from that of `{name}` ({TEST_IN_WORDS}). `{name}` is the recipe: no other "
        "candidate beats it beyond chance in the first figure in which they differ, and of those that none beats it is "
        f"the one with the least. It differs from the others in {differing} beyond chance. The "
        f"final run trains it with these settings of its own: {'; '.join(own_settings(name, final))}."
    )


def chosen(trials: Mapping[str, TrialResult]) -> str | None:
    """The candidate with the least of everything among those that no other beats; None where each is beaten."""
    return next(
        (
            name
            for name in CANDIDATES
            if not any(_beats(trials[other], trials[name]) for other in CANDIDATES if other != name)
        ),
        None,
    )


def own_settings(name: str, final: ExperimentConfig) -> list[str]:
    """What the final run has otherwise than the candidate, each with both values."""
    sweep = load_sweep(SWEEP_FILE)
    candidate = vary(sweep.experiment, sweep.variants[name])
    pairs = {path: (setting(final, path), setting(candidate, path)) for path in OF_THE_FINAL_RUN}
    return [
        f"`{path}` {_value(own)} instead of {_value(tried)}" for path, (own, tried) in pairs.items() if own != tried
    ]


def chosen_config(name: str, final: ExperimentConfig) -> ExperimentConfig:
    """The candidate's experiment with what is the final run's own."""
    sweep = load_sweep(SWEEP_FILE)
    own = {path: setting(final, path) for path in ("run_name", *SEEDS, *OF_THE_FINAL_RUN)}
    return vary(sweep.experiment, {**sweep.variants[name], **own})


def deciding(trial: TrialResult, other: TrialResult) -> str | None:
    """The first figure in which two candidates differ beyond chance; None where they do in none."""
    return next((what for what in DECIDING if difference(trial, other, what) != WAYS[-1]), None)


def _beats(trial: TrialResult, other: TrialResult) -> bool:
    """Whether it is higher in the figure that decides between them."""
    what = deciding(trial, other)
    return what is not None and difference(trial, other, what) == "higher"


def _value(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(trial: TrialResult, other: TrialResult, what: str) -> str:
    share = share_text(shares(trial)[what][0])
    return share if trial is other else f"{share} ({difference(trial, other, what)})"
