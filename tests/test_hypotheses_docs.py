"""What docs/transfer_learning.md says of a hypothesis follows from what is recorded, and from nothing else."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from recordable_run import write_run

from letterwise.config import ExperimentConfig
from letterwise.results import EvaluationResults, read_results, write_results
from letterwise.sweep_config import load_sweep
from letterwise.sweep_results import SweepResults

study_evidence, generated_hypotheses, generated_study, final_run, update_results = map(
    import_module, ("study_evidence", "generated_hypotheses", "generated_study", "final_run", "update_results")
)


SPELLING = "the gain in spelling over shuffled letters counts as transfer"
CEILING = "the limit in counts is the model's, if they stay at the majority class even for the ceiling"


@pytest.fixture(autouse=True)
def nothing_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_study, "RECORDED", tmp_path / "study")
    monkeypatch.setattr(final_run, "DOCS", tmp_path)
    monkeypatch.setattr(final_run, "FOLDER", tmp_path / "results" / "standard")


def row(expected: str) -> list[str]:
    """The last cells of an expectation's row: compared with, came out so, came out otherwise, open."""
    (line,) = [line for line in generated_hypotheses.verdicts().splitlines() if f" | {expected} | " in line]
    return [cell.strip() for cell in line.split("|")[4:-1]]


def record(sweep: str, shown: SweepResults) -> None:
    write_results(generated_study.RECORDED / f"study-{sweep}" / "sweep.json", shown)


def recorded(**changed: dict[str, float]) -> SweepResults:
    """The recorded sweep `exercises`, with other accuracies for some variants."""
    sweep = read_results(Path(__file__).parents[1] / "docs/results/study/study-exercises/sweep.json", SweepResults)
    for trial in sweep.trials:
        trial.seeds[0].metrics.update(changed.get(trial.name, {}))
    return sweep


def test_what_is_not_recorded_is_open() -> None:
    assert row("exercises inside a word raise positions")[:3] == ["`plain`", "–", "–"]
    assert row("exercises inside a word raise positions")[3].startswith("`inside`; `backwards`; ")
    assert row(SPELLING) == ["control", "–", "–", "not recorded"]


def test_a_variant_is_judged_by_the_test_of_its_sweep() -> None:
    positions = {"plain": 0.30, "inside": 0.36, "backwards": 0.33, "gaps": 0.24}
    sweep = recorded(**{name: {"letter_position_accuracy": value} for name, value in positions.items()})
    sweep.trials = [trial for trial in sweep.trials if trial.name != "pairs"]
    record("exercises", sweep)
    than, so, otherwise, left = row("exercises inside a word raise positions")
    assert (than, so) == ("`plain` 30.0%", "`inside` 36.0% (higher); `every_plain` 34.9% (higher)")
    assert otherwise.startswith("`backwards` 33.0% (no different); `gaps` 24.0% (lower); ")
    assert left == "`pairs`"


def test_not_higher_is_as_expected_wherever_it_is_lower_too() -> None:
    counts = {"plain": 0.30, "inside": 0.36, "backwards": 0.24, "gaps": 0.30}
    record("exercises", recorded(**{name: {"letter_count_accuracy": value} for name, value in counts.items()}))
    than, so, otherwise, _ = row("the others do not")
    assert than == "`plain` 30.0% (untrained 31.0%, majority class 28.6%)"
    assert so.startswith("`backwards` 24.0% (lower); `gaps` 30.0% (no different); ")
    assert otherwise.startswith("`inside` 36.0% (higher)")


def test_what_lacks_its_reference_is_open() -> None:
    sweep = recorded()
    sweep.trials = [trial for trial in sweep.trials if trial.name != "plain"]
    record("exercises", sweep)
    _, so, otherwise, left = row("exercises that choose letters raise counts")
    assert (so, otherwise) == ("–", "–")
    assert left.startswith("`groups` 25.2% (`plain` is not finished); ")


EVIDENCE = [each for expectation in generated_hypotheses.EXPECTATIONS for each in expectation.evidence]


@pytest.mark.parametrize("evidence", [each for each in EVIDENCE if isinstance(each, study_evidence.InSweep)])
def test_what_a_hypothesis_is_looked_up_by_exists(evidence: Any) -> None:
    sweep = load_sweep(generated_study.ROOT / "configs" / "study" / f"{evidence.sweep}.yaml")
    assert {evidence.than, *evidence.variants} <= sweep.variants.keys()
    assert evidence.what in generated_study.METRICS


def test_a_gain_of_the_final_run_counts_where_each_seed_has_it() -> None:
    config = ExperimentConfig(run_name="standard", further_seeds=[1])
    runs = final_run.DOCS / "runs"
    write_run(runs / "standard-seed-1", config.with_seed(1), spelling=0.5)
    update_results.copy_results(
        write_run(runs / "standard", config, spelling=0.7, every_control=True), final_run.FOLDER.parent
    )
    assert row(SPELLING) == [
        "control",
        "+60.0 [+58.0, +62.0]; +40.0 [+38.0, +42.0]",
        "–",
        "–",
    ]
    assert row(SPELLING.replace("spelling", "counts, `direct`,"))[1:] == [
        "–",
        "+0.0 [−2.0, +2.0]; +0.0 [−2.0, +2.0]",
        "–",
    ]
    than, so, otherwise, left = row(CEILING)
    assert than.startswith("majority class ")
    assert otherwise.startswith("ceiling ")
    assert otherwise.endswith("(above)")
    assert (so, left) == ("–", "–")

    path = final_run.FOLDER / "seed-1" / "evaluation_results.json"
    results = read_results(path, EvaluationResults)
    for each in results.significance["control_to_finetuned"]:
        each.interval = (-0.01, 0.9)
    write_results(path, results)
    assert row(SPELLING)[1:] == [
        "–",
        "+60.0 [+58.0, +62.0]; +40.0 [−1.0, +90.0]",
        "–",
    ]
