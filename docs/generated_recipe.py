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
from letterwise.sweep_config import load_sweep, vary
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
    "run_name",
    "further_seeds",
    "controls_of_further_seeds",
    "data.train_examples",
    "training.max_steps",
    "training.evaluate_every",
    "training.evaluation_words",
    "training.checkpoint_every",
    "evaluation.split",
)
"""Settings that are the final run's own: its length, its seeds, how often it is looked at, and its words."""


def recipe() -> str:
    """The candidates, each beside the chosen one by the tests of the sweep's table, and which is chosen."""
    found = recorded_sweep(SWEEP)
    trials = {trial.name: trial for trial in found.trials if trial.state == "complete"} if found else {}
    if not set(CANDIDATES) <= trials.keys():
        return NOT_RECORDED
    name = chosen(trials)
    rows = [(f"`{each}`", *(_cell(trials[each], trials[name], what) for what in DECIDING)) for each in CANDIDATES]
    final = load_config(FINAL_CONFIG).training.max_steps
    tried = load_sweep(SWEEP_FILE).experiment.training.max_steps
    return (
        f"{markdown_table(('candidate', *DECIDING), rows)}\n\n"
        f"Beside each figure, how it differs from that of `{name}` ({TEST_IN_WORDS}). `{name}` is the recipe: no other "
        "candidate beats it beyond chance in the first figure in which they differ, and of those that none beats it is "
        f"the one with the least. The candidates trained for {tried:,} steps, the final run trains for {final:,}; but "
        "for that, for as many more texts, and for how often it is evaluated meanwhile, its training has the "
        "candidate's settings."
    )


def chosen(trials: Mapping[str, TrialResult]) -> str:
    """The candidate with the least of everything among those that no other beats."""
    return next(
        name
        for name in CANDIDATES
        if not any(_beats(trials[other], trials[name]) for other in CANDIDATES if other != name)
    )


def chosen_config(name: str, final: ExperimentConfig) -> ExperimentConfig:
    """The candidate's experiment with what is the final run's own."""
    sweep = load_sweep(SWEEP_FILE)
    values = final.model_dump()
    own = {}
    for path in OF_THE_FINAL_RUN:
        section, _, setting = path.rpartition(".")
        own[path] = (values[section] if section else values)[setting]
    return vary(sweep.experiment, {**sweep.variants[name], **own})


def _beats(trial: TrialResult, other: TrialResult) -> bool:
    """Whether it is higher in the first figure in which they differ beyond chance."""
    differing = (difference(trial, other, what) for what in DECIDING)
    return next((way for way in differing if way != WAYS[-1]), WAYS[-1]) == "higher"


def _cell(trial: TrialResult, other: TrialResult, what: str) -> str:
    share = share_text(shares(trial)[what][0])
    return share if trial is other else f"{share} ({difference(trial, other, what)})"
