"""`letterwise sweep` on tiny random models: what it writes, how workers share a study, what an interruption does."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from letterwise.config import load_config
from letterwise.files import read_json
from letterwise.results import TrainingLogEntry, read_results, read_training_log
from letterwise.sweep_config import load_sweep
from letterwise.sweep_results import SWEEP_FILE, SweepResults
from letterwise.sweep_steps import worker_environment
from letterwise.training.state import AdapterOptimizer
from letterwise.training.study import Study

Letterwise = Callable[..., int]
WriteConfig = Callable[..., Path]
WriteSweep = Callable[..., Path]

SPACE = {"training.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}, "lora.rank": [2, 4]}
SHIPPED = Path(__file__).parents[2] / "configs" / "sweep.yaml"


@pytest.fixture
def write_sweep(tmp_path: Path, tiny_llama: Path, write_config: WriteConfig) -> WriteSweep:
    """A sweep of the small experiment; keywords change its section `study`."""

    def write(
        space: dict[str, Any] | None = None,
        variants: dict[str, Any] | None = None,
        base: Path = tiny_llama,
        **study: Any,
    ) -> Path:
        experiment = write_config(tmp_path, base)
        whole = {"study": {"name": "night", **study}, "experiment": experiment.name}
        whole |= {"variants": variants} if variants else {"space": space or SPACE}
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        return path

    return write


def results_of(path: Path) -> SweepResults:
    return read_results(load_sweep(path).folder / SWEEP_FILE, SweepResults)


def log_of(path: Path, trial: str, seed: int) -> list[TrainingLogEntry]:
    folder = load_sweep(path).folder / "trials" / f"{trial}-seed-{seed}"
    return read_training_log(folder / "training_log.jsonl")


def test_a_sweep_ends_in_a_table_and_a_configuration_to_run(
    write_sweep: WriteSweep, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(variants={"narrow": {"lora.rank": 2}, "wide": {"lora.rank": 8}})

    assert letterwise("sweep", "--config", str(path)) == 0

    results, folder = results_of(path), load_sweep(path).folder
    assert [(trial.name, trial.state) for trial in results.trials] == [("narrow", "complete"), ("wide", "complete")]
    for trial in results.trials:
        (seed,) = trial.seeds
        (kept,) = [e for e in log_of(path, trial.name, 1) if e.step == seed.kept_step and e.evaluation]
        assert seed.metrics == kept.evaluation
        assert trial.value == seed.value == seed.metrics["spelling_accuracy"]
        assert (trial.n, seed.steps, trial.tokens) == (8, 6, log_of(path, trial.name, 1)[-1].tokens)
    # Words and data are built once, for all trials.
    assert len(list((folder / "data").glob("words-*"))) == len(list((folder / "data").glob("data-*"))) == 1
    best = load_config(folder / "best_config.yaml")
    assert results.best
    assert best.lora.rank == results.trial(results.best).params["lora.rank"]
    assert "n = 8, on the validation words" in (folder / "best_config.yaml").read_text()
    assert (best.run_name, best.seed, best.training.seed) == ("night-best", 1, None)
    printed = capsys.readouterr().out
    assert "2 trials: 2 complete." in printed
    assert f"letterwise run --config {folder / 'best_config.yaml'}" in printed
    # Kept is what was chosen, not what an interrupted training goes on from.
    assert {path.name for path in folder.parents[1].glob("checkpoints/night/*/*/*")} == {"best"}


@pytest.mark.slow
def test_seeds_vary_the_training_on_the_same_words_and_data(write_sweep: WriteSweep, letterwise: Letterwise) -> None:
    path = write_sweep(variants={"plain": {}}, seeds_per_trial=2, control=True)

    assert letterwise("sweep", "--config", str(path)) == 0

    (trial,) = results_of(path).trials
    assert [seed.seed for seed in trial.seeds] == [1, 2]
    assert trial.value == pytest.approx(sum(seed.value for seed in trial.seeds) / 2)
    for seed in trial.seeds:
        assert seed.environment.seeds == {"words": 1, "data": 1, "training": seed.seed, "bootstrap": 1}
        last = [entry for entry in log_of(path, "plain", seed.seed) if entry.model == "control"][-1]
        assert seed.control_metrics == last.evaluation
    losses = [[entry.loss for entry in log_of(path, "plain", seed.seed)] for seed in trial.seeds]
    assert losses[0] != losses[1]
    assert len(list((load_sweep(path).folder / "data").glob("data-*"))) == 1


def test_an_interrupted_sweep_goes_on_from_the_checkpoint(
    write_sweep: WriteSweep,
    letterwise: Letterwise,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_sweep(trials=1, sampler="random")
    take_step, taken = AdapterOptimizer.step, []

    def step(self: AdapterOptimizer, number: int) -> float:
        taken.append(number)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return take_step(self, number)

    monkeypatch.setattr(AdapterOptimizer, "step", step)
    assert letterwise("sweep", "--config", str(path)) == 130
    assert "Stopped; the same command goes on where it was." in capsys.readouterr().out
    assert [trial.state for trial in results_of(path).trials] == ["waiting"]

    assert letterwise("sweep", "--config", str(path)) == 0

    # Interrupted at its fourth step, it goes on from the checkpoint after its second.
    assert taken == [0, 1, 2, 3, 2, 3, 4, 5]
    (trial,) = results_of(path).trials
    assert (trial.state, trial.attempts) == ("complete", 2)
    assert list(trial.intermediate) == [2, 4, 6]
    before = list(taken)
    assert letterwise("sweep", "--config", str(path)) == 0
    assert taken == before


@pytest.mark.slow
def test_a_deleted_study_of_the_same_name_leaves_nothing_behind(
    write_sweep: WriteSweep, letterwise: Letterwise
) -> None:
    for every, steps in ((2, [2, 4, 6]), (3, [3, 6])):
        path = write_sweep(variants={"a": {"training.evaluate_every": every}})
        assert letterwise("sweep", "--config", str(path)) == 0
        (trial,) = results_of(path).trials
        assert list(trial.intermediate) == steps
        shutil.rmtree(load_sweep(path).storage_folder)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "said"), [("1", "Error: "), ("2", "Error: A worker ended with exit code 2: ")])
def test_a_mistake_costs_no_trial(
    write_sweep: WriteSweep, letterwise: Letterwise, capsys: pytest.CaptureFixture[str], workers: str, said: str
) -> None:
    path = write_sweep(variants={"misnamed": {"lora.target_modules": ["q_project"]}})
    assert letterwise("sweep", "--config", str(path), "--workers", workers) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{said}lora.target_modules does not fit")
    assert message.count("\n") == 1
    assert [trial.state for trial in results_of(path).trials] == ["waiting"]


def start(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "letterwise", "sweep", "--config", str(path), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_processes_share_a_study_and_finish_exactly_its_trials(write_sweep: WriteSweep) -> None:
    path = write_sweep(trials=6, pruner={"kind": "none"})
    processes = [start(path), start(path)]
    printed = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    results = results_of(path)
    assert [(trial.state, trial.attempts) for trial in results.trials] == [("complete", 1)] * 6
    folder = load_sweep(path).folder
    assert len(list((folder / "trials").iterdir())) == 6
    assert len(list((folder / "data").glob("data-*"))) == 1
    assert all("6 trials: 6 complete." in text for text in printed)


def wait_for_training(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(load_sweep(path).folder.glob("trials/*/training_log.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(write_sweep: WriteSweep) -> None:
    """The first is killed in its training; the workers started afterwards go on with what it began."""
    path = write_sweep(trials=4, pruner={"kind": "none"})
    victim = start(path)
    wait_for_training(path, victim)
    victim.send_signal(signal.SIGKILL)
    victim.wait()

    workers = start(path, "--workers", "2")

    printed = workers.communicate(timeout=200)[0]
    assert workers.returncode == 0, printed
    results = results_of(path)
    assert [trial.state for trial in results.trials] == ["complete"] * 4
    assert sum(trial.attempts for trial in results.trials) == 5
    assert "4 trials: 4 complete." in printed
    logs = [log.read_text() for log in (load_sweep(path).folder / "workers").iterdir()]
    assert len(logs) == 2
    assert all("4 trials: 4 complete." in log for log in logs)


@pytest.mark.slow
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "scheduler"])
@pytest.mark.parametrize("workers_asked_for", ["1", "2"])
def test_who_is_stopped_puts_trials_back(write_sweep: WriteSweep, told: signal.Signals, workers_asked_for: str) -> None:
    path = write_sweep(trials=50, pruner={"kind": "none"})
    workers = start(path, "--workers", workers_asked_for)
    wait_for_training(path, workers)

    workers.send_signal(told)

    printed = workers.communicate(timeout=100)[0]
    assert workers.returncode == 130
    assert "Stopped; the same command goes on where it was." in printed
    assert "Traceback" not in printed
    study = Study(load_sweep(path))
    assert not study.others_at_work()
    assert {trial.state for trial in study.results().trials} <= {"waiting", "complete"}


@pytest.mark.slow
def test_the_shipped_sweep_runs(
    tmp_path: Path, tiny_llama: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    settings["study"]["trials"] = 2
    settings["experiment"] |= {
        "base_model": str(tiny_llama),
        "results_folder": str(tmp_path / "results"),
        "checkpoints_folder": str(tmp_path / "checkpoints"),
        "words": {"validation_words": 30, "test_words": 30, "min_zipf": 4.5},
        "data": {"train_examples": 400, "count_questions": 10, "position_questions": 10},
    }
    settings["experiment"]["training"] |= {"evaluate_every": 2, "evaluation_words": 4, "row_length": 160}
    settings["space"]["training.max_steps"] = [2, 4]
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert letterwise("sweep", "--config", str(path)) == 0
    assert {trial.state for trial in results_of(path).trials} == {"complete"}
    assert read_json(load_sweep(path).folder / SWEEP_FILE)["importance"] is None
    assert "No importance: 10 complete trials are wanted" in capsys.readouterr().out


def test_workers_share_cores_and_each_takes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("letterwise.hardware.cpu_cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    environments = [worker_environment(number, 3) for number in range(3)]
    assert [each["OMP_NUM_THREADS"] for each in environments] == ["2", "2", "2"]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["0", "1", "0"]
