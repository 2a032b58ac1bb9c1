"""A worker's loop, with trainings that cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from letterwise.errors import DivergedError, LetterwiseError
from letterwise.sweep_config import SweepConfig
from letterwise.sweep_results import SeedResult, SweepResults
from letterwise.training.study import Study, TakenTrial
from letterwise.training.sweep import Spent, SweepWorker
from letterwise.training.tracking import Watch

VARIANTS = {"low": {"lora.rank": 20}, "mid": {"lora.rank": 50}, "high": {"lora.rank": 80}}


class ScriptedTrainer:
    """A training whose accuracy is its rank in percent, and a little more with each seed."""

    def __init__(self, fails: Callable[[TakenTrial, int], Exception | None] = lambda trial, seed: None) -> None:
        self.fails = fails
        self.trained: list[tuple[str, int]] = []
        self.given_up: list[str] = []

    def train(self, trial: TakenTrial, seed: int, watch: Watch) -> SeedResult:
        value = trial.overrides["lora.rank"] / 100 + seed / 10
        for step in (0, 10, 20):
            watch(step, {"spelling_accuracy": value * step / 20})
        if error := self.fails(trial, seed):
            raise error
        self.trained.append((trial.name, seed))
        return SeedResult(
            **{"seed": seed, "value": value, "interval": (0, 1), "n": 50, "metrics": {"spelling_accuracy": value}},
            **{"kept_step": 20, "steps": 20, "tokens": 1000, "seconds": 2.5, "environment": environment()},
        )

    def give_up(self, trial: TakenTrial, seed: int) -> Spent:
        self.given_up.append(trial.name)
        return Spent(300, 0.5)


def environment() -> dict[str, Any]:
    text = dict.fromkeys(("created", "letterwise", "python", "platform", "cpu", "device", "dtype"), "x")
    rest = {"commit": None, "packages": {}, "cores": 1, "cpu_features": [], "memory_gib": 1, "gpu": None, "seeds": {}}
    return {**text, **rest, "base_model": "tiny", "base_revision": "0"}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., tuple[SweepConfig, Study]]:
    def open_sweep(**study: Any) -> tuple[SweepConfig, Study]:
        config = SweepConfig.model_validate(
            {
                "study": {"name": "night", **study},
                "experiment": {"run_name": "x", "results_folder": str(tmp_path)},
                "variants": VARIANTS,
            }
        )
        return config, Study(config)

    return open_sweep


def test_each_trial_is_the_mean_of_its_seeds(sweep: Callable[..., tuple[SweepConfig, Study]]) -> None:
    config, study = sweep(seeds_per_trial=2)
    seen: list[SweepResults] = []
    trainer = ScriptedTrainer()
    assert SweepWorker(config, study, trainer, seen.append).work()
    assert trainer.trained == [(name, seed) for name in VARIANTS for seed in (0, 1)]
    results = study.results()
    assert [trial.value for trial in results.trials] == pytest.approx([0.25, 0.55, 0.85])
    assert results.best == "high"
    low = results.trial("low")
    assert (low.tokens, low.seconds, low.n) == (2000, 5.0, 50)
    assert low.interval
    assert low.interval[0] < 0.25 < low.interval[1]
    assert [seed.value for seed in low.seeds] == pytest.approx([0.2, 0.3])
    assert low.intermediate == {10: pytest.approx(0.1), 20: pytest.approx(0.2)}  # of the first seed
    assert [each.finished for each in seen] == [0, 1, 2, 3]


def test_what_goes_badly_is_given_up_and_trains_no_further_seed(
    sweep: Callable[..., tuple[SweepConfig, Study]],
) -> None:
    pruner = {"kind": "median", "startup_trials": 1, "warmup_steps": 5}
    config, study = sweep(seeds_per_trial=2, pruner=pruner)
    trainer = ScriptedTrainer()
    # The best comes first, so that the others are below the median.
    config = config.model_copy(update={"variants": dict(reversed(VARIANTS.items()))})
    study = Study(config.model_copy(update={"study": config.study.model_copy(update={"storage": config.folder / "s"})}))
    SweepWorker(config, study, trainer).work()
    assert trainer.trained == [("high", 0), ("high", 1)]
    assert trainer.given_up == ["mid", "low"]
    mid = study.results().trial("mid")
    assert (mid.state, mid.value, mid.tokens) == ("pruned", None, 300)
    assert mid.reason == "spelling_accuracy was 25.0% at step 10"


def test_nothing_is_given_up_after_its_last_step(sweep: Callable[..., tuple[SweepConfig, Study]]) -> None:
    config, _ = sweep(pruner={"kind": "median", "startup_trials": 1, "warmup_steps": 15})
    variants = {name: {**VARIANTS[name], "training.max_steps": 20} for name in ("high", "low")}
    storage = config.study.model_copy(update={"storage": config.folder / "s"})
    config = config.model_copy(update={"variants": variants, "study": storage})
    study = Study(config)
    SweepWorker(config, study, ScriptedTrainer()).work()
    assert [trial.state for trial in study.results().trials] == ["complete", "complete"]


def test_a_training_that_diverges_fails_and_the_study_goes_on(
    sweep: Callable[..., tuple[SweepConfig, Study]],
) -> None:
    config, study = sweep()
    diverged = DivergedError("The loss is no longer a number at step 3; lower learning_rate.")
    trainer = ScriptedTrainer(lambda trial, seed: diverged if trial.name == "high" else None)
    assert SweepWorker(config, study, trainer).work()
    results = study.results()
    assert [trial.state for trial in results.trials] == ["complete", "complete", "failed"]
    assert results.trial("high").reason == str(diverged)
    assert results.best == "mid"


def test_values_that_may_not_be_set_together_fail_the_trial_and_the_study_goes_on(tmp_path: Path) -> None:
    space = {"data.tones": [{"plain": 1}, {"formal": 1}], "data.separators": [["space"], ["dash"]], "lora.rank": [8]}
    config = SweepConfig.model_validate(
        {
            "study": {"name": "night", "sampler": "grid"},
            "experiment": {"run_name": "x", "results_folder": str(tmp_path)},
            "space": space,
        }
    )
    study = Study(config)
    assert SweepWorker(config, study, ScriptedTrainer()).work()
    trials = {
        (*trial.params["data.tones"], *trial.params["data.separators"]): trial for trial in study.results().trials
    }
    assert trials["plain", "dash"].state == "failed"
    assert "there is no plain template" in str(trials["plain", "dash"].reason)
    assert [trial.state for kind, trial in trials.items() if kind != ("plain", "dash")] == ["complete"] * 3


@pytest.mark.parametrize("error", [LetterwiseError("The disk is full."), KeyboardInterrupt()])
def test_what_is_not_the_trials_fault_ends_the_worker_and_loses_nothing(
    sweep: Callable[..., tuple[SweepConfig, Study]], error: BaseException
) -> None:
    config, study = sweep()
    with pytest.raises(type(error)):
        SweepWorker(config, study, ScriptedTrainer(lambda trial, seed: error)).work()  # type: ignore[arg-type, return-value]
    assert [trial.state for trial in study.results().trials] == ["waiting", "waiting", "waiting"]
    trainer = ScriptedTrainer()
    assert SweepWorker(config, Study(config), trainer).work()
    assert sorted(trainer.trained) == [("high", 0), ("low", 0), ("mid", 0)]


def test_when_time_is_up_no_further_trial_begins(sweep: Callable[..., tuple[SweepConfig, Study]]) -> None:
    config, study = sweep(timeout_minutes=1e-9)
    trainer = ScriptedTrainer()
    assert not SweepWorker(config, study, trainer).work()
    assert trainer.trained == []
