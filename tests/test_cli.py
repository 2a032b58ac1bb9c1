"""The command line as a user meets it: every mistake is one sentence, exit code 2, and nothing half written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from letterwise import __version__, cli, doctor
from letterwise.evaluation_log import EVALUATION_LOG, read_evaluation_log
from letterwise.results import EvaluationResults, read_results

SETTINGS: dict[str, Any] = {
    "run_name": "tiny",
    # Common words only: looking tens of thousands of words up in every context takes half a minute.
    "words": {"validation_words": 12, "test_words": 12, "min_zipf": 4.5},
    "data": {"train_examples": 200, "count_questions": 6, "position_questions": 6},
    "lora": {"rank": 4, "alpha": 8},
    "training": {"max_steps": 2, "batch_size": 2, "row_length": 160, "evaluate_every": 2, "evaluation_words": 2},
    "evaluation": {"training_tokens": 4, "bootstrap_samples": 100},
}


def letterwise(*arguments: str | Path) -> int:
    """What the shell would get back from `letterwise` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["letterwise", *map(str, arguments)])
        patch.setenv("COLUMNS", "160")
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return int(exit_.value.code or 0)


class Refused:
    """Runs a command that must be refused, and returns the sentence that the user reads."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> str:
        self.capsys.readouterr()
        assert letterwise(*arguments) == 2
        message = self.capsys.readouterr().err
        assert message.startswith("Error: ")
        assert message.count("\n") == 1, "one sentence on one line"
        assert "Traceback" not in message
        return message


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(capsys)


def write_config(folder: Path, base: Path | str, **replaced: dict[str, Any] | str | int) -> Path:
    """An experiment of seconds, with its outputs beside it."""
    settings = {**SETTINGS, "base_model": str(base)}
    settings |= {"results_folder": str(folder / "results"), "checkpoints_folder": str(folder / "checkpoints")}
    for key, value in replaced.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> Path:
    """A folder with experiment.yaml, data and a trained adapter, not yet evaluated; only read it."""
    folder = tmp_path_factory.mktemp("trained")
    assert letterwise("train", "--config", write_config(folder, tiny_gpt2)) == 0
    return folder


@pytest.fixture
def experiment(trained: Path, tmp_path: Path, tiny_gpt2: Path) -> Path:
    """The trained experiment in a folder of its own; its configuration file."""
    for part in ("results", "checkpoints"):
        shutil.copytree(trained / part, tmp_path / part)
    return write_config(tmp_path, tiny_gpt2)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What a user gets wrong in the configuration


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("run_name: [tiny\n", "not valid YAML"),
        ("just words", "key: value"),
        ("run_name: tiny\nlearning_rate: 0.1\n", "unknown key 'learning_rate'"),
        ("run_name: tiny\ntraining:\n  max_step: 3\n", "unknown key 'training.max_step'"),
        ("run_name: tiny\ntraining:\n  max_steps: -5\n", "'training.max_steps': input should be greater"),
        ("run_name: tiny\nseed: -1\n", "'seed': input should be greater"),
        ("run_name: ../tiny\n", "'run_name': "),
        ("base_model: embedded\n", "'run_name' is missing"),
        ("run_name: tiny\nwords: {min_letters: 9, max_letters: 4}\n", "max_letters must not be smaller"),
    ],
)
def test_a_mistake_in_the_configuration(refused: Refused, tmp_path: Path, text: str, named: str) -> None:
    config = tmp_path / "mistaken.yaml"
    config.write_text(text, encoding="utf-8")

    message = refused("run", "--config", config)

    assert str(config) in message
    assert named in message
    assert list(tmp_path.iterdir()) == [config]


def test_a_configuration_that_is_missing(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert "missing.yaml does not exist" in refused("train", "--config", "missing.yaml")
    assert "configs/experiment_config.yaml does not exist" in refused("words")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--seed", "-1"], "--seed: Input should be greater"),
        (["run", "--run-name", "a/b"], "--run-name: String should match"),
        (["evaluate", "--limit", "-3"], "--limit: Input should be greater"),
        (["evaluate", "--limit", "0"], "--limit: Input should be greater"),
    ],
)
def test_a_mistake_in_an_option_names_the_option(
    refused: Refused, tmp_path: Path, tiny_gpt2: Path, arguments: list[str], named: str
) -> None:
    message = refused(*arguments, "--config", write_config(tmp_path, tiny_gpt2))

    assert message.startswith(f"Error: {named}")
    assert not (tmp_path / "results").exists()


def test_an_unknown_command_or_choice_is_refused_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert letterwise("spell") == 2
    assert "No such command 'spell'" in capsys.readouterr().err
    assert letterwise("evaluate", "--task", "arithmetic") == 2
    assert "'arithmetic' is not one of" in capsys.readouterr().err


# What a user gets wrong about models


@pytest.mark.parametrize(
    ("base", "named"),
    [
        ("nobody/no-such-model", "use --base-model embedded"),
        ("not a model id", "neither a folder nor a Hub id"),
        ("./missing", "The base model folder ./missing does not exist"),
    ],
)
def test_an_unknown_model(refused: Refused, tmp_path: Path, base: str, named: str) -> None:
    message = refused("run", "--config", write_config(tmp_path, base))

    assert base in message
    assert named in message
    assert not (tmp_path / "results").exists()


def test_an_adapter_of_another_base(refused: Refused, experiment: Path, tiny_llama: Path) -> None:
    adapter = experiment.parent / "checkpoints/tiny/finetuned/best"
    before = contents(experiment.parent)
    other = ["--config", experiment, "--model", tiny_llama]

    assert "was trained on tiny-gpt2, not on tiny-llama" in refused("evaluate", *other, "--adapter", adapter)
    merged = experiment.parent / "merged"
    assert "was trained on tiny-gpt2" in refused("merge", adapter, merged, "--base-model", tiny_llama)

    assert contents(experiment.parent) == before


def test_an_adapter_that_is_not_there(refused: Refused, experiment: Path, tmp_path: Path, tiny_gpt2: Path) -> None:
    missing = tmp_path / "missing"

    assert f"{missing} holds no adapter" in refused("evaluate", "--config", experiment, "--adapter", missing)
    assert f"{missing} holds no adapter" in refused("merge", missing, tmp_path / "to", "--base-model", tiny_gpt2)


# What a user gets wrong about words and the order of the steps


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"min_zipf": 8.0}, "only 0 words can be held out"),
        ({"validation_words": 50_000}, "50000 validation and 12 test words are wanted"),
    ],
)
def test_too_few_words(refused: Refused, tmp_path: Path, tiny_gpt2: Path, words: dict[str, Any], named: str) -> None:
    message = refused("data", "--config", write_config(tmp_path, tiny_gpt2, words=words))

    assert named in message
    assert "lower words.min_zipf" in message
    assert {path.name for path in (tmp_path / "results/tiny").iterdir()} == {"config.yaml", "environment.json"}


def test_steps_in_the_wrong_order(refused: Refused, tmp_path: Path, tiny_gpt2: Path) -> None:
    config = write_config(tmp_path, tiny_gpt2)

    assert "train one first" in refused("evaluate", "--config", config)
    assert "run the steps train and evaluate first" in refused("transfer", "--config", config)
    assert "config.yaml does not exist; run `letterwise run`" in refused("report", "--config", config)
    assert not (tmp_path / "results").exists()


def test_a_report_needs_to_know_of_which_run(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert "--run-name" in refused("report")
    assert "results/unknown/config.yaml does not exist" in refused("report", "--run-name", "unknown")


def test_a_bare_model_cannot_be_asked_before_there_is_data(refused: Refused, tmp_path: Path, tiny_gpt2: Path) -> None:
    config = write_config(tmp_path, tiny_gpt2)

    assert "run `letterwise data`" in refused("evaluate", "--config", config, "--model", tiny_gpt2)


# What a disk does


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with these options; skips where only the administrator may."""
    folder = tmp_path / "mounted"

    def mount(options: str) -> Path:
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(refused: Refused, mounted: Callable[[str], Path], tmp_path: Path, tiny_gpt2: Path) -> None:
    disk = mounted("size=32k")
    config = write_config(tmp_path, tiny_gpt2, results_folder=str(disk))

    assert "the disk is full; free some space or choose another folder" in refused("words", "--config", config)

    assert {path.name for path in disk.rglob("*") if path.is_file()} == {"config.yaml", "environment.json"}


def test_a_disk_that_fills_up_in_the_middle(
    refused: Refused, mounted: Callable[[str], Path], experiment: Path, tmp_path: Path, tiny_gpt2: Path
) -> None:
    """What was written before stays whole, and with more space the same command goes on."""
    disk = mounted("size=256k")
    shutil.copytree(tmp_path / "results", disk, dirs_exist_ok=True)
    config = write_config(tmp_path, tiny_gpt2, results_folder=str(disk), data={"train_examples": 20_000})
    before = contents(disk / "tiny/data")

    assert "the disk is full" in refused("data", "--config", config)

    assert contents(disk / "tiny/data") == before
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    assert letterwise("data", "--config", config) == 0
    assert len(pd.read_parquet(disk / "tiny/data/spelling/train.parquet")) == 20_000


@pytest.mark.parametrize("size", ["16k", "48k"], ids=["at the adapter", "at the optimizer's state"])
def test_a_disk_too_small_for_a_checkpoint(
    refused: Refused, mounted: Callable[[str], Path], experiment: Path, tmp_path: Path, tiny_gpt2: Path, size: str
) -> None:
    disk = mounted(f"size={size}")
    config = write_config(tmp_path, tiny_gpt2, checkpoints_folder=str(disk))

    assert "the disk is full" in refused("train", "--config", config)

    assert not (disk / "tiny/finetuned/last").exists()
    assert not list(disk.rglob(".*"))


@pytest.mark.parametrize("folder", ["results_folder", "checkpoints_folder"])
def test_a_read_only_folder_is_found_before_any_work(
    refused: Refused,
    mounted: Callable[[str], Path],
    experiment: Path,
    tmp_path: Path,
    tiny_gpt2: Path,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = mounted("ro")
    config = write_config(tmp_path, tiny_gpt2, **{folder: str(disk)})
    monkeypatch.setattr("letterwise.pipeline.build_words", lambda *arguments: pytest.fail("worked for nothing"))
    monkeypatch.setattr("letterwise.pipeline.train", lambda *arguments, **options: pytest.fail("worked for nothing"))

    assert "the file system is read-only; choose another folder" in refused("train", "--config", config)


def test_a_file_in_the_way_of_the_results(refused: Refused, tmp_path: Path, tiny_gpt2: Path) -> None:
    config = write_config(tmp_path, tiny_gpt2, results_folder=str(tmp_path / "experiment.yaml"))

    assert "a part of the path is a file, not a folder" in refused("words", "--config", config)


def test_a_broken_results_file(refused: Refused, experiment: Path) -> None:
    tokens = experiment.parent / "results/tiny/words/tokens.json"
    tokens.write_text("{", encoding="utf-8")
    record = experiment.parent / "results/tiny/.steps/words.json"
    done = json.loads(record.read_text(encoding="utf-8"))
    record.write_text("not JSON", encoding="utf-8")

    assert f"{record} cannot be read as JSON" in refused("words", "--config", experiment)

    record.write_text(json.dumps(done), encoding="utf-8")
    assert letterwise("words", "--config", experiment) == 0  # a changed output is made again
    assert json.loads(tokens.read_text(encoding="utf-8"))["tokens"]


# What the commands say and do


@pytest.mark.parametrize(
    ("command", "taught"),
    [
        ("words", "words/tokens.json"),
        ("data", "data/spelling/*.parquet"),
        ("train", "training_log.jsonl"),
        ("evaluate", "evaluation_results.json"),
        ("transfer", "transfer.json"),
        ("run", "results/<run_name>/"),
        ("merge", "stand-alone model"),
        ("report", "final_report.pdf"),
        ("retention", "retention.json"),
        ("export", "formats of other tools"),
        ("publish", "Hugging Face Hub"),
        ("doctor", "writes nothing"),
    ],
)
def test_help_says_what_a_command_writes(command: str, taught: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert letterwise(command, "--help") == 0

    assert taught in " ".join(capsys.readouterr().out.split())


def test_help_is_quick_to_come() -> None:
    """A mistake in the configuration is, too: PyTorch, which takes seconds to import, is not needed for either."""
    script = "import sys, letterwise.cli as cli\ntry: cli.main()\nfinally: print('torch' in sys.modules)"

    for arguments in (["train", "--help"], ["run", "--config", "missing.yaml"], ["publish", "all", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)

        assert done.stdout.endswith("False\n"), done.stderr


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    letterwise()

    printed = capsys.readouterr()
    commands = "words data train evaluate transfer report export run merge publish doctor"
    for command in commands.split():
        assert f" {command} " in printed.out + printed.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert letterwise("--version") == 0
    assert capsys.readouterr().out == f"letterwise {__version__}\n"


def test_words_prints_the_table_of_lengths(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert letterwise("words", "--config", experiment) == 0

    printed = capsys.readouterr().out
    assert "words: up to date" in printed
    assert "Letter tokens" in printed
    assert (experiment.parent / "results/tiny/words/token_distribution.png").is_file()


def test_an_evaluation_with_other_options_has_a_folder_of_its_own(experiment: Path) -> None:
    run = experiment.parent / "results" / "tiny"
    before = contents(run)
    adapter = experiment.parent / "checkpoints/tiny/finetuned/best"
    options = ["--task", "spelling", "--limit", "5", "--split", "validation", "--adapter", adapter]

    assert letterwise("evaluate", "--config", experiment, *options) == 0

    own = run / "evaluations" / "spelling-validation-5-tiny-finetuned-best"
    results = read_results(own / "evaluation_results.json", EvaluationResults)
    assert results.split == "validation"
    assert results.finetuned_model
    assert results.base_model.n["spelling_accuracy"] == results.finetuned_model.n["spelling_accuracy"] == 5
    assert "letter_count_accuracy" not in results.base_model.metrics
    assert not (own / "position_count").exists()
    assert yaml.safe_load((own / "config.yaml").read_text(encoding="utf-8"))["evaluation"]["limit"] == 5
    log = run / EVALUATION_LOG
    left = {path: content for path, content in contents(run).items() if own not in path.parents and path != log}
    assert left == {path: content for path, content in before.items() if path != log}
    asked = read_evaluation_log(run)[-1]
    assert (asked.split, asked.limit, asked.tasks, asked.folder) == ("validation", 5, ["spelling"], own.as_posix())
    assert asked.models.keys() == {"base", "finetuned"}
    assert asked.models["finetuned"] == results.finetuned_model.revision


def test_a_broken_log_of_evaluations_is_refused_before_anything_is_asked(
    experiment: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = experiment.parent / "results" / "tiny" / EVALUATION_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    before = log.read_bytes() if log.is_file() else b""
    log.write_bytes(before + b"{\n")
    monkeypatch.setattr("letterwise.evaluation_steps._ask", lambda *arguments: pytest.fail("asked"))
    assert f"{EVALUATION_LOG} is not an evaluation log entry" in refused(
        "evaluate", "--config", experiment, "--split", "validation"
    )
    log.write_bytes(before)


def test_questions_alone_into_a_chosen_folder(experiment: Path, tmp_path: Path, tiny_gpt2: Path) -> None:
    output = tmp_path / "elsewhere"
    options = ["--task", "position_count", "--model", tiny_gpt2, "--output", output]

    assert letterwise("evaluate", "--config", experiment, *options) == 0

    results = read_results(output / "evaluation_results.json", EvaluationResults)
    assert results.finetuned_model is None
    assert results.base_model.n["letter_count_accuracy"] == 6
    assert set(pd.read_parquet(output / "position_count/predictions.parquet")["model"]) == {"base"}
    assert not (output / "spelling").exists()


def test_the_control_alone(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = experiment.parent / "checkpoints/tiny/finetuned/best/adapter_model.safetensors"
    before = tuned.read_bytes()

    assert letterwise("train", "--config", experiment, "--control", "shuffled") == 0

    control = experiment.parent / "checkpoints/tiny/control/best"
    assert f"Adapter: {control}" in capsys.readouterr().out
    assert (control / "adapter_model.safetensors").read_bytes() != before
    assert tuned.read_bytes() == before


@pytest.mark.parametrize("control", ["format_only", "random_label", "ceiling"])
def test_another_control_is_trained_and_evaluated_beside_the_tuned_model(experiment: Path, control: str) -> None:
    assert letterwise("train", "--config", experiment, "--control", control) == 0
    assert (
        letterwise("evaluate", "--config", experiment, "--task", "spelling", "--output", experiment.parent / "x") == 0
    )

    adapter = experiment.parent / "checkpoints/tiny" / control / "best"
    assert json.loads((adapter / "letterwise_base.json").read_text(encoding="utf-8"))["role"] == control
    results = read_results(experiment.parent / "x/evaluation_results.json", EvaluationResults)
    assert results.other_controls.keys() == {control}
    assert results.control_model is None
    assert f"{control}_to_finetuned" in results.significance


def test_a_merged_model_can_be_evaluated_as_a_model(experiment: Path, tmp_path: Path, tiny_gpt2: Path) -> None:
    adapter, merged = experiment.parent / "checkpoints/tiny/finetuned/best", tmp_path / "merged"

    assert letterwise("merge", adapter, merged, "--base-model", tiny_gpt2) == 0
    assert letterwise("evaluate", "--config", experiment, "--task", "spelling", "--model", merged) == 0

    results = read_results(
        tmp_path / "results/tiny/evaluations/spelling-test-all-merged/evaluation_results.json", EvaluationResults
    )
    assert results.base_model.id == "merged"
    assert results.base_model.n["spelling_accuracy"] == 12


def test_transfer_after_evaluation_prints_its_figures(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert letterwise("evaluate", "--config", experiment) == 0
    assert letterwise("transfer", "--config", experiment) == 0

    printed = capsys.readouterr().out
    for figure in ("correlation", "item_phi", "transfer_efficiency", "control_adjusted_gain", "generalization"):
        assert figure in printed
    assert (experiment.parent / "results/tiny/transfer.json").is_file()


def test_doctor_prints_its_findings_and_no_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_topsecret")
    monkeypatch.setattr(doctor, "urlopen", lambda request, timeout: BytesIO())

    assert letterwise("doctor", "--results-folder", tmp_path / "results") == 0

    printed = capsys.readouterr().out
    for what in ("processor", "memory", "free disk", "GPU", "Hugging Face Hub", "HF_TOKEN", "WANDB_API_KEY"):
        assert what in printed
    assert "topsecret" not in printed


def test_interrupting_is_not_an_error_of_the_program(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("letterwise.evaluation_steps.evaluate_model", interrupted)

    assert letterwise("evaluate", "--config", experiment) == 130

    assert "Traceback" not in capsys.readouterr().err


def test_the_installed_command_and_the_module_are_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "letterwise", "words", "--config", "missing.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
    )

    assert done.returncode == 2
    assert done.stderr == "Error: The configuration missing.yaml does not exist.\n"
