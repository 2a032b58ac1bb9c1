"""The queue of trials that workers share, without any training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from letterwise.errors import LetterwiseError
from letterwise.sweep_config import SweepConfig
from letterwise.training.study import LOST_ATTEMPTS, Study

MakeSweep = Callable[..., SweepConfig]


@pytest.fixture
def make_sweep(tmp_path: Path) -> MakeSweep:
    """A sweep below the test's folder; keywords change its section `study`."""

    def make(
        space: dict[str, Any] | None = None, variants: dict[str, Any] | None = None, rank: int = 4, **study: Any
    ) -> SweepConfig:
        return SweepConfig.model_validate(
            {
                "study": {"name": "night", **study},
                "experiment": {"run_name": "x", "results_folder": str(tmp_path / "results"), "lora": {"rank": rank}},
                "space": space or {},
                "variants": variants or {},
            }
        )

    return make


SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "lora.rank": [4, 8]}


def run_all(study: Study, value: Callable[[dict[str, Any]], float]) -> list[dict[str, Any]]:
    seen = []
    while taken := study.take():
        seen.append(taken.overrides)
        study.complete(taken, value(taken.overrides))
    return seen


def test_values_are_chosen_within_their_ranges_and_the_best_trial_is_named(make_sweep: MakeSweep) -> None:
    space = {**SPACE, "training.max_steps": {"low": 100, "high": 300, "step": 100}}
    space["lora.target_modules"] = ["auto", ["q_proj", "v_proj"]]
    study = Study(make_sweep(space, trials=12))
    seen = run_all(study, lambda params: params["training.learning_rate"])
    assert len(seen) == 12
    for params in seen:
        assert 1e-4 <= params["training.learning_rate"] <= 1e-2
        assert params["lora.rank"] in (4, 8)
        assert params["training.max_steps"] in (100, 200, 300)
        assert params["lora.target_modules"] in ("auto", ["q_proj", "v_proj"])
    results = study.results()
    assert results.best
    assert results.trial(results.best).value == max(params["training.learning_rate"] for params in seen)
    assert len({tuple(map(str, params.values())) for params in seen}) > 6  # the sampler does not repeat itself


def test_what_is_drawn_depends_on_the_trial_and_not_on_the_worker(make_sweep: MakeSweep, tmp_path: Path) -> None:
    one = run_all(Study(make_sweep(SPACE, trials=4, sampler="random", storage=tmp_path / "one")), lambda _: 0.5)
    config = make_sweep(SPACE, trials=4, sampler="random", storage=tmp_path / "two")
    other = []
    for _ in range(4):
        study = Study(config)  # each trial by another worker
        taken = study.take()
        assert taken
        other.append(taken.overrides)
        study.complete(taken, 0.5)
    assert other == one


def test_importance_finds_the_setting_that_matters(make_sweep: MakeSweep) -> None:
    study = Study(make_sweep({**SPACE, "lora.dropout": {"low": 0.0, "high": 0.5}}, trials=25, sampler="random"))
    run_all(study, lambda params: params["lora.dropout"])
    importance = study.results().importance
    assert importance
    assert max(importance, key=lambda name: importance[name]) == "lora.dropout"
    assert sum(importance.values()) == pytest.approx(1)


def test_too_few_trials_have_no_importance_but_a_reason(make_sweep: MakeSweep) -> None:
    study = Study(make_sweep(SPACE, trials=2))
    run_all(study, lambda _: 0.5)
    results = study.results()
    assert results.importance is None
    assert results.importance_reason == "10 complete trials are wanted, there are 2."


def test_equal_trials_have_no_importance_but_a_reason(make_sweep: MakeSweep, recwarn: pytest.WarningsRecorder) -> None:
    study = Study(make_sweep(SPACE, trials=12))
    run_all(study, lambda _: 0.5)
    results = study.results()
    assert results.importance is None
    assert results.importance_reason == "No setting sets the best trials apart from the others."
    assert not recwarn.list


def test_variants_are_run_once_each_under_their_names(make_sweep: MakeSweep) -> None:
    variants: dict[str, Any] = {"plain": {}, "wide": {"lora.rank": 64, "lora.alpha": 128}}
    study = Study(make_sweep(variants=variants))
    assert run_all(study, lambda params: params.get("lora.rank", 0) / 100) == [{}, variants["wide"]]
    results = study.results()
    assert [trial.name for trial in results.trials] == ["plain", "wide"]
    assert results.best == "wide"


def test_a_grid_holds_every_combination_once(make_sweep: MakeSweep) -> None:
    space = {"lora.rank": [4, 8], "lora.target_modules": ["auto", ["q_proj"]]}
    seen = run_all(Study(make_sweep(space, sampler="grid")), lambda _: 0.5)
    assert sorted(map(str, seen)) == sorted(
        str({"lora.rank": rank, "lora.target_modules": modules}) for rank in (4, 8) for modules in ("auto", ["q_proj"])
    )


def test_a_trial_put_back_comes_again_with_the_same_values(make_sweep: MakeSweep) -> None:
    study = Study(make_sweep(SPACE, trials=1))
    first = study.take()
    assert first
    study.put_back(first)
    again = Study(study.config).take()
    assert again
    assert (again.name, again.overrides) == (first.name, first.overrides)
    study.complete(again, 0.5)
    (trial,) = study.results().trials
    assert (trial.state, trial.attempts) == ("complete", 2)


def test_more_trials_and_variants_can_be_asked_for_later(make_sweep: MakeSweep, tmp_path: Path) -> None:
    assert len(run_all(Study(make_sweep(SPACE, trials=2)), lambda _: 0.5)) == 2
    assert len(run_all(Study(make_sweep(SPACE, trials=5)), lambda _: 0.5)) == 3
    storage = tmp_path / "variants"
    run_all(Study(make_sweep(variants={"plain": {}}, storage=storage)), lambda _: 0.5)
    more = {"plain": {}, "wide": {"lora.rank": 64}}
    assert run_all(Study(make_sweep(variants=more, storage=storage)), lambda _: 0.5) == [{"lora.rank": 64}]


def test_what_is_no_longer_wanted_is_not_run_until_it_is_wanted_again(make_sweep: MakeSweep) -> None:
    both = {"plain": {}, "wide": {"lora.rank": 64}}
    Study(make_sweep(variants=both))
    assert run_all(Study(make_sweep(variants={"plain": {}})), lambda _: 0.5) == [{}]
    assert run_all(Study(make_sweep(variants=both)), lambda _: 0.5) == [{"lora.rank": 64}]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rank": 16}, "another experiment"),
        ({"space": {"lora.rank": [4, 16]}}, "another space"),
        ({"metric": "letter_count_accuracy"}, "another study"),
    ],
)
def test_a_study_of_other_settings_is_not_gone_on_with(
    make_sweep: MakeSweep, changed: dict[str, Any], named: str
) -> None:
    Study(make_sweep(SPACE, trials=2))
    with pytest.raises(LetterwiseError, match=f"{named}.*study.name"):
        Study(make_sweep(**{"space": SPACE, "trials": 2, **changed}))


def test_a_variant_does_not_change_under_its_name(make_sweep: MakeSweep) -> None:
    Study(make_sweep(variants={"wide": {"lora.rank": 64}}))
    with pytest.raises(LetterwiseError, match="'wide' with other settings"):
        Study(make_sweep(variants={"wide": {"lora.rank": 128}}))


def test_a_broken_journal_is_named(make_sweep: MakeSweep) -> None:
    config = make_sweep(SPACE, trials=2)
    Study(config)
    (config.storage_folder / "study.journal").write_text("{torn\n{torn\n", encoding="utf-8")
    with pytest.raises(LetterwiseError, match=r"study\.journal is broken"):
        Study(config)


DIE = """
import os, sys
from letterwise.sweep_config import SweepConfig
from letterwise.training.study import Study
study = Study(SweepConfig.model_validate_json(sys.stdin.read()))
taken = study.take()
taken.report(10, 0.25)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_trial_whose_worker_was_killed_comes_again_until_it_has_killed_too_many(make_sweep: MakeSweep) -> None:
    config = make_sweep(SPACE, trials=1)
    for attempt in range(LOST_ATTEMPTS):
        study = Study(config)
        (trial,) = study.results().trials
        assert (trial.state, trial.attempts) == ("waiting", attempt)
        killed = subprocess.run([sys.executable, "-c", DIE], input=config.model_dump_json(), text=True, check=False)
        assert killed.returncode == -9
        assert study.others_at_work()
    study = Study(config)
    assert study.take() is None
    (trial,) = study.results().trials
    assert (trial.state, trial.reason) == ("failed", "its worker died 3 times")


def test_a_trial_that_another_worker_runs_is_left_to_it(make_sweep: MakeSweep) -> None:
    config = make_sweep(SPACE, trials=2)
    one, other = Study(config), Study(config)
    first, second = one.take(), other.take()
    assert first
    assert second
    assert first.name != second.name
    assert one.take() is None
    assert other.others_at_work()
    one.complete(first, 0.5)
    other.complete(second, 0.5)
    assert not one.others_at_work()
    assert one.results().finished == 2


def test_a_trial_below_the_median_is_to_be_given_up(make_sweep: MakeSweep) -> None:
    study = Study(make_sweep(SPACE, trials=3, pruner={"startup_trials": 2}))
    for value in (0.5, 0.6):
        taken = study.take()
        assert taken
        assert not taken.report(10, value)
        study.complete(taken, value)
    taken = study.take()
    assert taken
    assert taken.report(10, 0.1)
    study.prune(taken, "too low")
    trial = study.results().trials[2]
    assert (trial.state, trial.value, trial.reason, trial.intermediate) == ("pruned", None, "too low", {10: 0.1})
