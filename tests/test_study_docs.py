"""How the study's sweeps come into docs/transfer_learning.md, and how a recorded one is gone on with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from letterwise.config import load_config
from letterwise.errors import LetterwiseError
from letterwise.files import write_text
from letterwise.results import read_results, write_results
from letterwise.sweep_config import load_sweep
from letterwise.sweep_results import SWEEP_FILE, SweepResults, TrialResult
from letterwise.training.study import Study

update_study, generated_study, generated_recipe = map(
    import_module, ("update_study", "generated_study", "generated_recipe")
)


def seed_result(spelling: float, position: float) -> dict[str, Any]:
    metrics = {"spelling_accuracy": spelling, "letter_count_accuracy": 0.25, "letter_position_accuracy": position}
    text = dict.fromkeys(("letterwise", "python", "platform", "device", "dtype"), "x")
    rest: dict[str, Any] = {"commit": None, "packages": {}, "cores": 2, "cpu_features": [], "memory_gib": 1}
    return {
        "seed": 0,
        "value": position,
        "interval": (0.0, 1.0),
        "n": 1000,
        "metrics": metrics,
        "metrics_n": dict.fromkeys(metrics, 1000),
        "positions": {"first": (300, 333), "inner": (30, 334), "last": (60, 333)},
        "untrained": {"spelling_accuracy": 0.01, "letter_count_accuracy": 0.3, "letter_position_accuracy": 0.15},
        "majority_class": {"letter_count": 0.25, "letter_position": 0.121},
        **{"kept_step": 450, "steps": 450, "tokens": 229000, "seconds": 300.0},
        "environment": {
            **text,
            **rest,
            **{"gpu": None, "seeds": {}},
            "created": "2026-01-02T03:04:05+00:00",
            "cpu": "A Processor",
            "base_model": "tiny",
            "base_revision": "0",
        },
    }


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    """A sweep with two finished trials and one to come."""
    folder = tmp_path / "study-exercises"
    trials: list[dict[str, Any]] = [
        {"name": name, "state": "complete", "params": params, "value": position, "interval": (0, 1), "n": 1000,
         "seeds": [seed_result(spelling, position)], "tokens": 229000}
        for name, spelling, position, params in (
            ("plain", 0.31, 0.2, {}), ("backwards", 0.25, 0.39, {"data.exercises": {"spelling": 1, "backwards": 1}})
        )
    ]  # fmt: skip
    trials.append({"name": "gaps", "state": "waiting", "params": {}})
    found = {"study": "study-exercises", "metric": "letter_position_accuracy", "seeds": [0], "config": {}}
    results = SweepResults.model_validate({**found, "trials": trials, "best": "backwards", "importance": None})
    write_results(folder / "sweep.json", results)
    write_text(folder / "study" / "study.journal", "{}\n")
    return folder


def test_what_is_recorded_is_shown_with_intervals_and_what_is_not_is_said(
    sweep_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated_study, "RECORDED", tmp_path / "recorded")
    assert generated_study.results().count("*Not recorded yet.*") == len(generated_study.ORDER)
    assert generated_study.cost() == "*Not recorded yet.*"
    copied = update_study.copy_study(sweep_folder, tmp_path / "recorded")
    assert sorted(path.name for path in copied.iterdir()) == ["study.journal.gz", "sweep.json"]
    shown = generated_study.results()
    assert shown.count("*Not recorded yet.*") == len(generated_study.ORDER) - 1
    assert "| *untrained* | 1.0% [0.5, 1.8] | 15.0% [12.9, 17.3] | – | – | – | 30.0% [27.2, 32.9] | 0 |" in shown
    assert "| `backwards` | 25.0% [22.4, 27.8] | 39.0% [36.0, 42.1] | 90.1% | 9.0% | 18.0% | 25.0%" in shown
    assert "Always the most frequent answer is right on 12.1% of the positions, 25.0% of the counts." in shown
    assert "Trained on 2 cores of A Processor, 2026-01-02. Not finished: `inside`, `gaps`, `parts`, `pairs`," in shown
    assert "not corrected for the number of variants): spelling lower with `backwards`; positions higher with " in shown
    assert "counts no different" in shown
    assert "| 2 cores of A Processor | 2 | 0.5 M | 0.2 |" in generated_study.cost()


def test_a_finished_sweep_is_recorded_without_its_journal(sweep_folder: Path, tmp_path: Path) -> None:
    found = read_results(sweep_folder / "sweep.json", SweepResults)
    found.trials.pop()
    write_results(sweep_folder / "sweep.json", found)
    copied = update_study.copy_study(sweep_folder, tmp_path / "recorded")
    assert [path.name for path in copied.iterdir()] == ["sweep.json"]
    assert read_results(copied / "sweep.json", SweepResults) == found
    with pytest.raises(LetterwiseError, match="Nothing is recorded to go on with study-exercises"):
        update_study.put_back(tmp_path / "elsewhere" / "study-exercises", tmp_path / "recorded")


def test_a_recorded_sweep_is_gone_on_with(sweep_folder: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded"
    update_study.copy_study(sweep_folder, recorded)
    with pytest.raises(LetterwiseError, match="is there already"):
        update_study.put_back(sweep_folder, recorded)
    journal = update_study.put_back(tmp_path / "elsewhere" / "study-exercises", recorded)
    assert journal == tmp_path / "elsewhere" / "study-exercises" / "study" / "study.journal"
    assert journal.read_text() == "{}\n"
    with pytest.raises(LetterwiseError, match="Nothing is recorded to go on with study-words"):
        update_study.put_back(tmp_path / "study-words", recorded)


@pytest.mark.parametrize(
    "recorded", sorted(update_study.RESULTS.glob("*/study.journal.gz")), ids=lambda path: path.parent.name
)
def test_an_unfinished_sweep_that_is_recorded_is_gone_on_with_by_its_shipped_file(
    recorded: Path, tmp_path: Path
) -> None:
    name = recorded.parent.name
    sweep = load_sweep(generated_study.ROOT / "configs" / "study" / f"{name.removeprefix('study-')}.yaml")
    section = sweep.study.model_copy(update={"storage": update_study.put_back(tmp_path / name).parent})
    study = Study(sweep.model_copy(update={"study": section})).results()
    assert [trial.name for trial in study.trials] == [*sweep.variants]
    assert complete(study) == complete(read_results(recorded.with_name(SWEEP_FILE), SweepResults))


def complete(found: SweepResults) -> list[str]:
    return [trial.name for trial in found.trials if trial.state == "complete"]


def test_a_sweep_without_a_complete_trial_is_not_recorded(sweep_folder: Path, tmp_path: Path) -> None:
    (sweep_folder / "study" / "study.journal").unlink()
    with pytest.raises(LetterwiseError, match="no complete trial yet"):
        update_study.copy_study(sweep_folder, tmp_path / "recorded")
    assert not (tmp_path / "recorded").exists()


def candidates(**spelling: float) -> dict[str, TrialResult]:
    """Each candidate with as many right positions and counts, and this spelling."""
    return {
        name: TrialResult.model_validate(
            {"name": name, "state": "complete", "params": {}, "value": 0.3, "interval": (0, 1), "n": 1000,
             "seeds": [seed_result(spelling.get(name, 0.5), 0.3)], "tokens": 229000}
        )
        for name in generated_recipe.CANDIDATES
    }  # fmt: skip


def test_the_recipe_is_the_candidate_with_the_least_that_no_other_beats_beyond_chance() -> None:
    assert generated_recipe.chosen(candidates()) == "base"
    assert generated_recipe.chosen(candidates(mostly_words=0.52)) == "base"
    assert generated_recipe.chosen(candidates(mostly_words=0.56, mostly_words_eight=0.59)) == "mostly_words"
    assert generated_recipe.chosen(candidates(mostly_words=0.56, mostly_words_eight=0.66)) == "mostly_words_eight"


def test_positions_decide_before_spelling() -> None:
    found = candidates(mostly_words=0.7)
    found["mostly_words_eight"].seeds[0].metrics["letter_position_accuracy"] = 0.4
    assert generated_recipe.chosen(found) == "mostly_words_eight"


def test_the_final_run_trains_the_recipe_that_the_study_chose() -> None:
    recorded = generated_study.recorded_sweep(generated_recipe.SWEEP)
    chosen = generated_recipe.chosen({trial.name: trial for trial in recorded.trials if trial.state == "complete"})
    final = load_config(generated_recipe.FINAL_CONFIG)
    assert generated_recipe.chosen_config(chosen, final) == final
    assert generated_recipe.own_settings(chosen, final) == [
        "`data.train_examples` 50,000 instead of 30,000",
        "`training.max_steps` 1,000 instead of 500",
        "`training.evaluate_every` 200 instead of 500",
        "`training.evaluation_words` 100 instead of 1,000",
        "`training.checkpoint_every` 50 instead of 250",
        "`evaluation.split` test instead of validation",
    ]


def test_where_each_candidate_is_beaten_none_is_chosen() -> None:
    found = candidates()
    for name, positions, counts, spelling in (
        ("base", 0.30, 0.31, 0.60),
        ("mostly_words", 0.33, 0.28, 0.40),
        ("mostly_words_eight", 0.36, 0.20, 0.50),
    ):
        metrics = found[name].seeds[0].metrics
        metrics |= {
            "letter_position_accuracy": positions,
            "letter_count_accuracy": counts,
            "spelling_accuracy": spelling,
        }
    for name in generated_recipe.CANDIDATES[3:]:
        found[name].seeds[0].metrics["letter_position_accuracy"] = 0.1
    assert generated_recipe.chosen(found) is None
