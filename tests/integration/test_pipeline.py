"""The whole `letterwise run`, on tiny random models: what it writes, what it skips, and what an interruption does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import pandas as pd
import pytest
import yaml

from letterwise.analysis_results import ItemAnalysis
from letterwise.config import ControlName, dump_config, load_config, read_settings
from letterwise.data_config import ExerciseName
from letterwise.evaluation_log import EVALUATION_LOG, read_evaluation_log
from letterwise.files import read_json, sha256_file
from letterwise.reporting.report_model import FinalReport
from letterwise.results import (
    POSITION_COUNT_PREDICTION_COLUMNS,
    SPELLING_PREDICTION_COLUMNS,
    TASKS,
    DataAudit,
    Environment,
    EvaluationResults,
    TransferResults,
    read_results,
    read_training_log,
)

Letterwise = Callable[..., int]
WriteConfig = Callable[..., Path]

FOLDERS = {"results_folder": "results", "checkpoints_folder": "checkpoints"}
STEPS = ("words", "data", "train-finetuned", "train-control", "calibrate", "evaluate", "transfer", "report")
ROOT = Path(__file__).parents[2]
SHIPPED = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if "study" not in read_settings(path)]


def files_with_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def curve(folder: Path, role: str) -> list[dict[str, Any]]:
    """The training log of one adapter, without the times that it took."""
    log = read_training_log(folder / "results/tiny/training_log.jsonl")
    return [entry.model_dump(exclude={"seconds", "tokens_per_second"}) for entry in log if entry.model == role]


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a run finds out; the adapters' checksums are in the evaluation."""
    run = folder / "results" / "tiny"
    return {
        "data": read_results(run / "data_audit.json", DataAudit).checksums,
        "curves": [curve(folder, role) for role in ("finetuned", "control")],
        "evaluation": read_json(run / "evaluation_results.json"),
        "transfer": read_json(run / "transfer.json"),
    }


def test_a_run_folder_holds_every_file_in_its_declared_form(finished: Path) -> None:
    run = finished / "results" / "tiny"

    config = load_config(run / "config.yaml")
    assert config.training.max_steps == 6
    assert config.evaluation.modes == ["direct", "spell_first", "computed"]  # a default, resolved
    environment = read_results(run / "environment.json", Environment)
    assert environment.base_model == Path(config.base_model).name
    assert set(environment.seeds.values()) == {config.seed}
    assert read_results(run / "data_audit.json", DataAudit).passed
    evaluation = read_results(run / "evaluation_results.json", EvaluationResults)
    assert evaluation.finetuned_model
    assert evaluation.control_model
    (asked,) = read_evaluation_log(run)
    assert (asked.split, asked.limit, asked.tasks) == ("test", 10, list(TASKS))
    assert asked.models["finetuned"] == evaluation.finetuned_model.revision
    assert asked.models["control"] == evaluation.control_model.revision
    assert read_results(run / "transfer.json", TransferResults).checkpoints
    items = read_results(run / "item_analysis.json", ItemAnalysis).items
    assert [each.accuracy.n for each in items] == [10] * 3 * 2 * 3
    log = read_training_log(run / "training_log.jsonl")
    for role in ("finetuned", "control"):
        assert [entry.step for entry in log if entry.model == role and entry.loss is not None] == [1, 2, 3, 4, 5, 6]
        assert [entry.step for entry in log if entry.model == role and entry.evaluation] == [0, 2, 4, 6]
    for task in ("spelling", "position_count"):
        assert list((run / task / "figures").glob("*.png"))
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        *("config.yaml", "environment.json", "data_audit.json", "training_log.jsonl"),
        *("evaluation_results.json", "transfer.json", "words", "data", "spelling", "position_count"),
        *("item_analysis.json", "final_report.json", "final_report.html", "final_report.pdf", EVALUATION_LOG),
    }


@pytest.mark.slow
def test_a_run_with_every_exercise_and_control(
    tmp_path: Path,
    tiny_llama: Path,
    write_config: WriteConfig,
    letterwise: Letterwise,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(
        tmp_path,
        tiny_llama,
        words__extra_training_words=30,
        data__exercises=dict.fromkeys(get_args(ExerciseName), 1),
        training__controls=list(get_args(ControlName)),
        training__curriculum="length",
        training__loss_on="all",
        lora__modules_to_save=["embed_tokens"],
    )
    assert letterwise("run", "--config", str(config)) == 0

    run = tmp_path / "results" / "tiny"
    audit = read_results(run / "data_audit.json", DataAudit)
    assert audit.exercise_shares.keys() == set(get_args(ExerciseName))
    assert audit.n["extra_training_words"] == 30
    evaluation = read_results(run / "evaluation_results.json", EvaluationResults)
    assert evaluation.control_model
    assert evaluation.other_controls.keys() == {"format_only", "random_label", "ceiling"}
    transfer = read_results(run / "transfer.json", TransferResults)
    assert transfer.share_of_ceiling.keys() == {"letter_count", "letter_position", "position_count"}
    log = read_training_log(run / "training_log.jsonl")
    last = {entry.model: entry.step for entry in log if entry.loss is not None}
    assert last == dict.fromkeys(("finetuned", "control", "format_only", "random_label", "ceiling"), 6)
    tokens = {entry.model: entry.tokens for entry in log}
    assert tokens["ceiling"] == pytest.approx(tokens["finetuned"], rel=0.1), "the ceiling is to have read as much"
    assert "share_of_ceiling" in (run / "final_report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    capsys.readouterr()
    assert letterwise("run", "--config", str(config)) == 0
    assert "train-ceiling: up to date" in capsys.readouterr().out


def test_further_seeds_train_anew_on_the_same_words_and_data(
    finished: Path, tmp_path: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("results", "checkpoints"):
        shutil.copytree(finished / name, tmp_path / name)
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings |= {name: str(tmp_path / folder) for name, folder in FOLDERS.items()} | {"further_seeds": [7]}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert letterwise("run", "--config", str(tmp_path / "experiment.yaml")) == 0

    said = capsys.readouterr().out
    assert said.index("train-finetuned: up to date") < said.index("Once more with training seed 7")
    assert "Over seeds of the training" in said
    first, again = (tmp_path / "results" / name for name in ("tiny", "tiny-seed-7"))
    audits = [read_results(run / "data_audit.json", DataAudit) for run in (first, again)]
    assert audits[0] == audits[1]
    results = [read_results(run / "evaluation_results.json", EvaluationResults) for run in (first, again)]
    assert results[0].base_model == results[1].base_model
    for role in ("finetuned", "control"):
        one, other = (each.model(role) for each in results)
        assert one
        assert other
        assert one.revision != other.revision
    assert read_results(again / "environment.json", Environment).seeds["training"] == 7
    transfers = [read_results(run / "transfer.json", TransferResults) for run in (first, again)]
    assert [sorted({point["seed"] for point in each.checkpoints}) for each in transfers] == [[1, 7], [7]]
    assert len(transfers[0].checkpoints) == 2 * len(transfers[1].checkpoints) - 1, "the untrained model counts once"
    page = (first / "final_report.html").read_text(encoding="utf-8")
    assert "Over seeds" in page
    assert "2 trainings (seeds 1, 7)" in page
    reports = [read_results(run / "final_report.json", FinalReport) for run in (first, again)]
    spelling = next(each for each in reports[0].over_seeds if each.model == "finetuned")
    assert spelling.values == {
        seed: each.model("finetuned").metrics["spelling_accuracy"] for seed, each in zip((1, 7), results, strict=True)
    }
    assert any(each.gain_over_control and each.intervals.keys() == {1, 7} for each in reports[0].over_seeds)
    assert not reports[1].over_seeds
    assert "Over seeds" not in (again / "final_report.html").read_text(encoding="utf-8")

    (again / "evaluation_results.json").unlink()
    assert letterwise("report", "--config", str(tmp_path / "experiment.yaml")) == 2
    assert "is not of all seeds; run `letterwise transfer`" in capsys.readouterr().err
    for command in ("transfer", "report"):
        assert letterwise(command, "--config", str(tmp_path / "experiment.yaml")) == 0
    assert "Over seeds" not in (first / "final_report.html").read_text(encoding="utf-8")


def test_a_run_that_names_no_further_seeds_any_more_shows_none(
    finished: Path, tmp_path: Path, letterwise: Letterwise
) -> None:
    for name in ("results", "checkpoints"):
        shutil.copytree(finished / name, tmp_path / name)
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings |= {name: str(tmp_path / folder) for name, folder in FOLDERS.items()}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    written = tmp_path / "results" / "tiny" / "config.yaml"
    before = load_config(written).model_copy(update={"further_seeds": [7]})
    written.write_text(dump_config(before), encoding="utf-8")
    assert letterwise("run", "--config", str(tmp_path / "experiment.yaml")) == 0
    assert load_config(written).further_seeds == []


def test_a_report_is_written_again_after_publishing_and_changes_nothing_else(
    finished: Path, tmp_path: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings["results_folder"] = str(tmp_path / "results")
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    run = tmp_path / "results" / "tiny"
    before = read_json(run / "environment.json")
    upload = {
        **{"repo_id": "me/tiny", "kind": "model", "url": "https://hub/me/tiny", "commit": "c0ffee", "private": False},
        **{"uploaded": "2026-11-24T12:00:00+00:00", "verified": "2026-11-24T12:01:00+00:00"},
        "uploaded_to_hugging_face": True,
    }
    (run / "publication.json").write_text(json.dumps({"model": upload}), encoding="utf-8")

    assert letterwise("report", "--config", str(tmp_path / "experiment.yaml")) == 0

    assert read_json(run / "final_report.json")["conclusion"]["success_criteria_met"]["uploaded_to_hugging_face"]
    assert read_json(run / "environment.json") == before
    assert read_json(run / "final_report.json")["conclusion"]["summary"] in capsys.readouterr().out
    assert letterwise("report", "--config", str(tmp_path / "experiment.yaml")) == 0
    assert "report: up to date" in capsys.readouterr().out


def test_every_question_is_answered_by_every_model_in_every_mode(finished: Path) -> None:
    run = finished / "results" / "tiny"

    answers = pd.read_parquet(run / "position_count" / "predictions.parquet")
    questions = pd.read_parquet(run / "data" / "position_count" / "test.parquet")
    spelled = pd.read_parquet(run / "spelling" / "predictions.parquet")

    assert list(answers.columns) == list(POSITION_COUNT_PREDICTION_COLUMNS)
    assert len(questions) == 20
    assert len(answers) == 20 * 3 * 3
    asked = {group: sorted(rows["id"]) for group, rows in answers.groupby(["model", "mode"])}
    assert len(asked) == 9
    assert all(ids == sorted(questions["id"]) for ids in asked.values())
    assert list(spelled.columns) == list(SPELLING_PREDICTION_COLUMNS)
    subsets = spelled.groupby(["model", "subset"])["id"].nunique().unstack()
    assert (subsets["held_out"] == 10).all()
    assert (subsets["training_tokens"] == 6).all()
    trained = pd.read_parquet(run / "data" / "spelling" / "train.parquet")["word"].str.lower()
    assert not set(spelled[spelled["subset"] == "held_out"]["word"]) & set(trained)


def test_a_second_run_does_nothing_and_prints_the_table_again(
    finished: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_with_times(finished)

    assert letterwise("run", "--config", str(finished / "experiment.yaml")) == 0

    assert files_with_times(finished) == before
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if "up to date" in line] == [f"{step}: up to date" for step in STEPS]
    for word in ("spelling_accuracy", "letter_count_accuracy", "letter_position_accuracy", "base", "control", "tuned"):
        assert word in printed
    results = read_results(finished / "results/tiny/evaluation_results.json", EvaluationResults)
    assert f"{results.base_model.metrics['letter_position_accuracy']:.1%}" in printed


@pytest.fixture
def with_words(finished: Path, tmp_path: Path) -> Path:
    """The same experiment in a folder of its own, of which only the step `words` is done."""
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings["results_folder"] = str(tmp_path / "results")
    settings["checkpoints_folder"] = str(tmp_path / "checkpoints")
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copytree(finished / "results/tiny/words", tmp_path / "results/tiny/words")
    (tmp_path / "results/tiny/.steps").mkdir()
    shutil.copy(finished / "results/tiny/.steps/words.json", tmp_path / "results/tiny/.steps/words.json")
    return tmp_path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest of a tiny run."""
    monkeypatch.setattr("letterwise.pipeline.write_all_figures", lambda folder: [])


@pytest.mark.parametrize("finished", ["tiny_gpt2"], indirect=True)
def test_one_seed_gives_the_same_words_and_data_to_the_byte(
    finished: Path, with_words: Path, letterwise: Letterwise
) -> None:
    shutil.rmtree(with_words / "results")

    assert letterwise("data", "--config", str(with_words / "experiment.yaml")) == 0

    for part in ("words/*.json", "data/*/*.parquet"):
        made, before = (
            {path.name: sha256_file(path) for path in (folder / "results/tiny").glob(part)}
            for folder in (with_words, finished)
        )
        assert made == before
        assert made


INTERRUPTIONS = {
    "in data": [
        ("letterwise.pipeline.build_data", 1),
        ("letterwise.data.build.pq.write_table", 3),  # some files are written, others not
        ("letterwise.run_folder.write_json", 1),  # all is built, and not yet recorded as done
    ],
    "in training": [
        ("letterwise.training.state.AdapterOptimizer.step", 1),
        ("letterwise.training.state.AdapterOptimizer.step", 2),  # before the first checkpoint
        ("letterwise.training.state.AdapterOptimizer.step", 4),  # between two checkpoints
        ("letterwise.training.state.torch.save", 1),  # while a checkpoint is written
        ("letterwise.training.state.torch.save", 2),  # at the last one
        ("letterwise.training.state.AdapterOptimizer.step", 6),  # in the control's training
    ],
    "in calibration": [
        ("letterwise.evaluation.pieces.atomic_path", 2),
        ("letterwise.evaluation_steps.fit_calibration", 1),
    ],
    "in evaluation": [
        ("letterwise.evaluation.pieces.atomic_path", 1),
        ("letterwise.evaluation.pieces.atomic_path", 9),  # among the tuned model's answers
        ("letterwise.evaluation_steps.summarise", 1),
        ("letterwise.evaluation_steps.write_results", 1),  # predictions are written, results are not
    ],
    "in transfer": [
        ("letterwise.pipeline.analyse_transfer", 1),
        ("letterwise.pipeline.analyse_items", 1),
        ("letterwise.pipeline.write_all_figures", 1),
        ("letterwise.run_folder.write_json", 1),
    ],
}
"""What is called, and at which call the user presses Ctrl-C; each time the run is started again."""


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("finished", ["tiny_gpt2"], indirect=True)
@pytest.mark.parametrize("step", INTERRUPTIONS)
def test_an_interrupted_run_ends_in_the_same_result(
    finished: Path, with_words: Path, letterwise: Letterwise, step: str
) -> None:
    """Training and evaluation of the two runs agree to the last digit, so one seed gives one result."""
    config = str(with_words / "experiment.yaml")
    before = list(INTERRUPTIONS)[: list(INTERRUPTIONS).index(step)]
    if "in training" in before:
        shutil.copytree(finished / "checkpoints", with_words / "checkpoints")
        shutil.copytree(finished / "results", with_words / "results", dirs_exist_ok=True)
        undone = ["transfer.json", "item_analysis.json", ".steps/transfer.json"]
        if step != "in transfer":
            undone += ["evaluation_results.json", ".steps/evaluate.json"]
        if step == "in calibration":
            undone.append(".steps/calibrate.json")
        for name in undone:
            (with_words / "results/tiny" / name).unlink()
    for called, times in INTERRUPTIONS[step]:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, called, times)
            assert letterwise("run", "--config", config) == 130, f"{called} is not called {times} times"

    assert letterwise("run", "--config", config) == 0

    assert outcome(with_words) == outcome(finished)
    assert {path.name for path in with_words.rglob(".*")} == {".steps"}


def interrupt(patch: pytest.MonkeyPatch, called: str, times: int) -> None:
    """Make a call of a function, the `times`-th, end as if the user pressed Ctrl-C."""
    original = resolve_name(called)
    calls = 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == times:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(called, interrupted)


KILLED_AT_THE_FOURTH_STEP = """
import os, signal, sys
from letterwise.cli import main
from letterwise.training.state import AdapterOptimizer

take_step = AdapterOptimizer.step

def step(self, number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return take_step(self, number)

AdapterOptimizer.step = step
main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("finished", ["tiny_llama"], indirect=True)
def test_a_killed_process_leaves_what_the_next_one_goes_on_with(
    finished: Path, with_words: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--config", str(with_words / "experiment.yaml")]

    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_FOURTH_STEP, *arguments], env=dict(os.environ), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert letterwise(*arguments) == 0

    assert "Going on with finetuned at step 2 of 6" in capsys.readouterr().out
    weights = "checkpoints/tiny/finetuned/best/adapter_model.safetensors"
    assert sha256_file(with_words / weights) == sha256_file(finished / weights)
    assert curve(with_words, "finetuned") == curve(finished, "finetuned")


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("finished", ["tiny_gpt2"], indirect=True)
@pytest.mark.parametrize(
    ("section", "setting", "value", "redone"),
    [
        ("tracking", "group", "night", ()),
        ("training", "checkpoint_every", 3, ()),
        ("evaluation", "bootstrap_samples", 200, ("evaluate", "transfer", "report")),
        ("training", "learning_rate", 0.01, STEPS[2:]),
        ("data", "use_exponent", 0.0, STEPS[1:]),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it(
    finished: Path,
    tmp_path: Path,
    letterwise: Letterwise,
    capsys: pytest.CaptureFixture[str],
    section: str,
    setting: str,
    value: object,
    redone: tuple[str, ...],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings["results_folder"], settings["checkpoints_folder"] = str(copy / "results"), str(copy / "checkpoints")
    settings.setdefault(section, {})[setting] = value
    (copy / "experiment.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    assert letterwise("run", "--config", str(copy / "experiment.yaml")) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [step for step in STEPS if f"{step}: …" in lines] == list(redone)
    assert [step for step in STEPS if f"{step}: up to date" in lines] == [step for step in STEPS if step not in redone]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_runs(
    shipped: Path, tmp_path: Path, request: pytest.FixtureRequest, letterwise: Letterwise
) -> None:
    family = next((name for name in ("gpt2", "gemma") if name in load_config(shipped).base_model), "llama")
    base = request.getfixturevalue(f"tiny_{family}")
    settings = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    settings |= {
        "base_model": str(base),
        "results_folder": str(tmp_path / "results"),
        "checkpoints_folder": str(tmp_path / "checkpoints"),
    }
    settings["words"] |= {"validation_words": 30, "test_words": 30, "min_zipf": 4.5}
    if "extra_training_words" in settings["words"]:
        settings["words"]["extra_training_words"] = 200
    settings["data"] |= {"train_examples": 400, "count_questions": 12, "position_questions": 12}
    settings["training"] |= {"max_steps": 6, "batch_size": 2, "evaluate_every": 1, "evaluation_words": 2}
    settings["training"] |= {"checkpoint_every": 3, "compile": False}
    settings["evaluation"] |= {"limit": 10, "training_tokens": 6, "bootstrap_samples": 100}
    small = tmp_path / "small.yaml"
    small.write_text(yaml.safe_dump(settings), encoding="utf-8")

    assert letterwise("run", "--config", str(small)) == 0

    run = load_config(small).run_folder
    results = read_results(run / "evaluation_results.json", EvaluationResults)
    assert results.split == "test"
    assert results.base_model.n["spelling_accuracy"] == 10
    assert read_results(run / "transfer.json", TransferResults).generalization
    taken = {
        role: max(entry.step for entry in read_training_log(run / "training_log.jsonl") if entry.model == role)
        for role in ("finetuned", "control")
    }
    # A random model never spells a word: the first step stays the best until patience runs out; and the control is
    # trained for exactly as long.
    patience = settings["training"].get("early_stopping_patience")
    steps = 1 + patience if patience else 6
    assert taken == {"finetuned": steps, "control": steps}
