"""How the final run comes into docs/transfer_learning.md: what is recorded is shown, what is not is said."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import finished_run as with_predictions
import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from recordable_run import add_analyses, record_steps, write_run

from letterwise.cli import main
from letterwise.config import ControlName, ExperimentConfig
from letterwise.evaluation_log import EvaluationLogEntry, add_to_evaluation_log
from letterwise.reporting.report import write_report
from letterwise.reporting.report_document import Text
from letterwise.results import (
    MODEL_ROLES,
    TASKS,
    Estimate,
    EvaluationResults,
    TransferResults,
    read_results,
    write_results,
)

update_results, final_run, final_run_figure = map(import_module, ("update_results", "final_run", "final_run_figure"))
generated, generated_final, generated_analyses, generated_places = map(
    import_module, ("generated", "generated_final", "generated_analyses", "generated_places")
)
OF_THE_RUN = ("headline", "asked", "failures", "limits", "cost")
OF_ITS_ANALYSES = ("mechanism", "forgetting", "items", "errors")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are written, which `update_results` is to copy to where the page looks for the final one."""
    monkeypatch.setattr(final_run, "DOCS", tmp_path)
    monkeypatch.setattr(final_run, "FOLDER", tmp_path / "results" / "standard")
    return tmp_path / "runs" / "standard"


def copy(run: Path) -> None:
    update_results.copy_results(run, final_run.FOLDER.parent)


def everything() -> list[str]:
    found = [getattr(generated_final, block)() for block in OF_THE_RUN]
    return found + [getattr(generated_analyses, block)() for block in OF_ITS_ANALYSES]


def test_a_run_without_its_ceiling_or_on_validation_words_is_not_the_final_one(record: Path) -> None:
    assert set(everything()) == {final_run.NOT_RECORDED}
    copy(write_run(record, ExperimentConfig(run_name="standard")))
    assert set(everything()) == {final_run.NOT_RECORDED}
    write_run(record, ExperimentConfig(run_name="standard"), every_control=True)
    results = read_results(record / "evaluation_results.json", EvaluationResults)
    write_results(record / "evaluation_results.json", results.model_copy(update={"split": "validation"}))
    record_steps(record, every_control=True)
    copy(record)
    assert set(everything()) == {final_run.NOT_RECORDED}


def test_analyses_that_are_not_recorded_are_not_shown(record: Path) -> None:
    copy(write_run(record, ExperimentConfig(run_name="standard"), every_control=True))
    headline, asked, failures, limits, cost, *analyses = everything()
    assert {asked, limits, *analyses} == {final_run.NOT_RECORDED}
    assert "- worse than before training, seed 0: not recorded" in failures
    assert headline != final_run.NOT_RECORDED
    assert cost != final_run.NOT_RECORDED


def test_goals_are_judged_over_seeds(record: Path) -> None:
    config = ExperimentConfig(run_name="standard", further_seeds=[1, 2])
    for seed, spelling in ((1, 0.97), (2, 0.99)):
        write_run(record.with_name(f"standard-seed-{seed}"), config.with_seed(seed), spelling=spelling, n=1000)
    copy(write_run(record, config, spelling=0.92, n=1000, every_control=True))
    shown = generated_final.headline()
    assert (
        "| spelling | 95% | 96.0% [94.6, 97.0] | 92.0%; 97.0%; 99.0% | yes | "
        "+82.0 [+80.0, +84.0]; +87.0 [+85.0, +89.0]; +89.0 [+87.0, +91.0] | yes |" in shown
    )
    assert "| letter positions, `direct` | 60% | 25.0% [22.4, 27.8] | 25.0%; 25.0%; 25.0% | no | " in shown
    assert "| letter counts, `spell_first` | 85% | 50.0% [46.9, 53.1] | 50.0%; 50.0%; 50.0% | no | +25.0 [" in shown
    assert (
        "| share of the ceiling's gain, letter counts, `direct` | 50% | 0.0% [−10.0, 10.0] | 0.0% [−10.0, 10.0]; –; – "
        "| no |" in shown
    )
    assert (
        "Of 5 accuracies 1 reach their goal (spelling). The gain over the control is above zero in every seed in 3 of "
        "them (spelling; letter positions, `spell_first`; letter counts, `spell_first`). Trained with 3 seeds, as "
        "wanted; the smallest n of a seed is 1,000, as wanted. The tuned adapter trained on 2,000 tokens, the ceiling "
        "on 2,000." in shown
    )
    assert "| letter counts, `direct` | 24.0% | 25.0% [22.4, 27.8] |" in shown
    assert "| accuracy | majority class | base | control | format only | random label | ceiling | tuned | n |" in shown
    assert "| spelling | 92.0%; +82.0 [+80.0, +84.0] | 97.0%; +87.0 [+85.0, +89.0] |" in shown
    assert (
        "![Count and position accuracy of each model in each answer mode](results/standard/answer_modes.png)" in shown
    )
    failed = generated_final.failures()
    assert "- spelling" not in failed
    assert "- letter positions, `direct`: 25.0% [22.4, 27.8] instead of 60%" in failed
    assert "- share of the ceiling's gain, letter counts, `direct`: 0.0% [−10.0, 10.0] instead of 50%" in failed
    assert "- seeds" not in failed
    assert "- smallest n" not in failed
    assert "- letter counts, `direct`: no gain over the control above zero in every seed (0.0 [" in failed.replace(
        "+", ""
    )
    cost = generated_final.cost()
    assert cost.count("| tuned |") == 3
    assert cost.count("| ceiling |") == 1
    assert "In all 0.3 hours of training, evaluation left out, on 2 cores of A Processor, 2026-01-02." in cost


def test_models_that_were_asked_about_test_words_more_than_once_are_named(record: Path) -> None:
    write_run(record, ExperimentConfig(run_name="standard"), every_control=True)
    results = read_results(record / "evaluation_results.json", EvaluationResults)
    revisions = {role: model.revision for role in MODEL_ROLES if (model := results.model(role))}
    revisions |= {role: control.revision for role, control in results.other_controls.items()}
    first = {"limit": None, "tasks": list(TASKS), "folder": "results/standard"}
    for split, models in (
        ("validation", revisions),
        ("test", {**revisions, "finetuned": "an earlier adapter"}),
        ("test", revisions),
        ("test", {"finetuned": revisions["finetuned"]}),
        ("test", {"finetuned": revisions["ceiling"]}),  # by `letterwise evaluate --adapter`
    ):
        add_to_evaluation_log(record, EvaluationLogEntry(split=split, models=models, **first))
    copy(record)
    assert generated_final.asked() == (
        "By the logs of finished evaluations in the run's folders, 0 of 5 trained models were asked about test words "
        "once (control of seed 0: 2 times; format only of seed 0: 2 times; random label of seed 0: 2 times; ceiling of "
        "seed 0: 3 times; tuned of seed 0: 2 times)."
    )


def test_positions_are_shown_by_the_place_asked_for(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(record, ExperimentConfig(run_name="standard"), every_control=True)
    copy(record)
    assert generated_places.by_place() == final_run.NOT_RECORDED
    results = read_results(record / "evaluation_results.json", EvaluationResults)
    for model in filter(None, (results.base_model, results.finetuned_model)):
        for place, value, n in (("first", 0.9, 40), ("inner", 0.05, 30), ("last", 0.1, 10)):
            metric = f"letter_position_accuracy_{place}"
            model.metrics[metric], model.n[metric] = value, n
    write_results(record / "evaluation_results.json", results)
    record_steps(record, every_control=True)
    copy(record)
    shown = generated_places.by_place()
    assert "| asked for | base | control | format only | random label | ceiling | tuned | n |" in shown
    assert "| the first letter | 90.0% [76.9, 96.0] | – | – | – | – | 90.0% [76.9, 96.0] | 40 |" in shown
    assert "is right on 50.0% of these questions" in shown
    monkeypatch.setattr(generated, "RESULTS", final_run.FOLDER.parent)
    assert generated_places.by_place_of_second_family() == final_run.NOT_RECORDED
    shutil.copytree(final_run.FOLDER, final_run.FOLDER.with_name(generated.SECOND_FAMILY))
    of_another = generated_places.by_place_of_second_family()
    assert of_another.replace("one seed", "means over the seeds that have the model") == shown
    short = generated_places.in_short()
    assert "Over 1 seed the tuned model spells 40.0%" in short
    assert "(the first letter 90.0% [76.9, 96.0], an inner letter 5.0%" in short
    assert "ceiling (the very questions, about training words; 2,000 tokens) 65.0% [55.3, 73.6] and 65.0%" in short


def test_a_share_of_a_ceiling_without_a_gain_is_no_number_and_its_mean_is_none(record: Path) -> None:
    config = ExperimentConfig(run_name="standard", further_seeds=[1, 2])
    nothing = Estimate(value=None, reason="The ceiling adapter's gain is not significantly above zero.", n=1000)
    some = Estimate(value=0.6, interval=(0.4, 0.8), n=1000)
    for seed, share in ((0, some), (1, nothing), (2, some.model_copy(update={"value": 0.5}))):
        each = config if seed == 0 else config.with_seed(seed)
        folder = write_run(record.with_name(each.run_name), each, n=1000, every_control=True)
        transfer = read_results(folder / "transfer.json", TransferResults)
        transfer.share_of_ceiling["letter_count"] = share
        transfer.share_of_ceiling["letter_position"] = some.model_copy(update={"value": 0.5 + seed / 10})
        write_results(folder / "transfer.json", transfer)
        record_steps(folder, every_control=True)
    copy(record)
    shown, failed = generated_final.headline(), generated_final.failures()
    told = f"60.0% [40.0, 80.0]; {nothing.reason}; 50.0% [40.0, 80.0]"
    assert f"| share of the ceiling's gain, letter counts, `direct` | 50% | – | {told} | – |" in shown
    assert f"- share of the ceiling's gain, letter counts, `direct`: no value ({told})" in failed
    assert "| share of the ceiling's gain, letter positions, `direct` | 50% | 60.0% | 50.0% [40.0, 80.0]; " in shown
    assert "share of the ceiling's gain, letter positions" not in failed


def test_a_goal_that_was_not_measured_counts_as_missed(record: Path) -> None:
    write_run(record, ExperimentConfig(run_name="standard"), every_control=True)
    path = record / "evaluation_results.json"
    results = read_results(path, EvaluationResults)
    del results.answer_modes["spell_first"]
    write_results(path, results)
    record_steps(record, every_control=True)
    copy(record)
    failed = generated_final.failures()
    assert "- letter counts, `spell_first`: not measured" in failed
    assert "- seeds: 1 instead of 3\n- smallest n of a seed: 100 instead of 1,000" in failed


def test_goals_are_drawn_beside_what_was_reached(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final_run_figure.main()
    assert capsys.readouterr().out == ""
    config = ExperimentConfig(run_name="standard", further_seeds=[1])
    write_run(record.with_name("standard-seed-1"), config.with_seed(1), spelling=0.9)
    copy(write_run(record, config, spelling=0.7, every_control=True))
    assert "goals.png" not in generated_final.headline()
    final_run_figure.main()
    drawn = final_run.FOLDER / "goals.png"
    assert drawn.stat().st_size < 60_000
    assert "(results/standard/goals.png)" in generated_final.headline()
    once = drawn.read_bytes()
    final_run_figure.main()
    assert drawn.read_bytes() == once


def test_the_drawn_goals_are_those_of_the_recorded_run(tmp_path: Path) -> None:
    run, kept = final_run.read_final_run(), final_run.FOLDER / "goals.png"
    assert bool(run) == kept.is_file(), "run `make docs`"
    if run:
        final_run_figure.draw(run, tmp_path / "goals.png")
        assert np.array_equal(imread(tmp_path / "goals.png"), imread(kept)), "goals.png is old: run `make docs`"


def test_too_few_seeds_and_words_are_said(record: Path) -> None:
    copy(write_run(record, ExperimentConfig(run_name="standard"), every_control=True))
    assert (
        "Trained with 1 seed, of the 3 wanted; the smallest n of a seed is 100, fewer than the 1,000 wanted."
        in generated_final.headline()
    )


def test_analyses_are_shown_as_the_report_shows_them(record: Path) -> None:
    record.mkdir(parents=True)
    with_predictions.complete(record)
    write_run(record, ExperimentConfig(run_name="standard"), every_control=True)
    add_analyses(record)
    write_report(record)
    copy(record)
    _, _, _, limits, _, mechanism, forgetting, items, errors = everything()
    assert "One training (seed 0) of one base model" in limits
    assert "| Its last letter | 60.0% [59.0, 61.0] | 70.0% [69.0, 71.0] (layer 1) |" in mechanism
    assert "A best place is chosen on the tokens that it is shown on" in mechanism
    assert "It tells significantly more than the base model at 1 of 2 places" in mechanism
    assert "(results/standard/probes.png)" in mechanism
    assert "Tuning made plain English harder to predict" in forgetting
    assert "| tuned | 24.000 [23.990, 24.010] | 1.200 [1.190, 1.210] |" in forgetting
    assert "place of the letter in the word: inner | 25.0% [20.0, 30.0] |" in items
    assert "tokens of the word: 3 | 25.0% [20.0, 30.0] |" in items
    assert "| letters in the word | one less | 0.900 [0.800, 1.000] |" in items
    assert "| too many letters | `cricket` | 2 | `criccket` | 55.0% |" in errors


def test_what_is_no_markup_is_not_read_as_such() -> None:
    block = Text("p <0.001, a_b * `c_d`")
    assert final_run.markdown([block]) == "p &lt;0.001, a\\_b \\* `c_d`"


@pytest.mark.slow
def test_a_real_run_with_further_seeds_and_all_analyses_is_recorded_and_shown(
    tmp_path: Path, tiny_gpt2: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **{"run_name": "standard", "base_model": str(tiny_gpt2), "further_seeds": [1]},
        "words": {"validation_words": 30, "test_words": 30, "min_zipf": 4.5},
        "data": {"train_examples": 400, "count_questions": 10, "position_questions": 10},
        "lora": {"rank": 4, "alpha": 8},
        "training": {
            **{"max_steps": 4, "batch_size": 2, "row_length": 160, "evaluate_every": 2, "evaluation_words": 8},
            "controls": list(get_args(ControlName)),
        },
        "evaluation": {"limit": 10, "training_tokens": 6, "bootstrap_samples": 100},
        **{"results_folder": str(record.parent), "checkpoints_folder": str(tmp_path / "checkpoints")},
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for command in ("run", "probe", "retention", "report"):
        monkeypatch.setattr(sys, "argv", ["letterwise", command, "--config", str(tmp_path / "experiment.yaml")])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    copy(record)
    assert final_run.NOT_RECORDED not in "".join(everything())
    assert "| seed 0 | seed 1 |" in generated_final.headline()
    assert generated_final.cost().count("| ceiling |") == 2
