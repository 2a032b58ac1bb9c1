"""A sweep on this machine: each training as a run on disk, workers side by side, and what the study comes to.

Knows the steps of a run and the layout of a study's folder; how trials are chosen is known on the floors below.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from rich.console import Console

from letterwise import hardware
from letterwise.config import ExperimentConfig, dump_config, load_config
from letterwise.errors import LetterwiseError
from letterwise.evaluation.baselines import majority_class_accuracy
from letterwise.evaluation.statistics import wilson_interval
from letterwise.files import explained_write_errors, fingerprint, make_folder, write_text
from letterwise.pipeline import data_step, questions_in_training, train_step, words_step
from letterwise.reporting.console import Advance, Terminal
from letterwise.reporting.sweep_figures import plot_importance
from letterwise.results import Environment, TrainingLogEntry, read_results, read_training_log, write_results
from letterwise.run_folder import Run
from letterwise.sweep_config import SweepConfig, vary
from letterwise.sweep_results import BEST_CONFIG_FILE, IMPORTANCE_FIGURE, SWEEP_FILE, SeedResult, SweepResults
from letterwise.training.state import LAST
from letterwise.training.study import Study, TakenTrial
from letterwise.training.sweep import Spent, SweepWorker
from letterwise.training.tracking import Watch

THREADS_VARIABLE = "OMP_NUM_THREADS"
STOP_SECONDS = 60.0
"""A worker that was told to stop and has not by then is killed."""


class RunTrainer:
    """Trains each seed of a trial as a run of its own, on words and data that trials share."""

    def __init__(self, config: SweepConfig, note: Callable[[str], None]) -> None:
        self.config = config
        self.note = note

    def train(self, trial: TakenTrial, seed: int, watch: Watch) -> SeedResult:
        """Train one seed, or go on with a training that was interrupted."""
        run = self._run(trial, seed)
        for entry in self._before_interruption(run):
            watch(entry.step, entry.evaluation or {})
        try:
            run.execute(train_step(run, "finetuned", watch))
            if self.config.study.control:
                run.execute(train_step(run, "control"))
        finally:
            _forget_model()
        for role in ("finetuned", "control"):  # what an interrupted training goes on from is large
            shutil.rmtree(run.config.checkpoint_folder / role / LAST, ignore_errors=True)
        return self._result(run, seed)

    def give_up(self, trial: TakenTrial, seed: int) -> Spent:
        """Delete the checkpoints of a training that will not go on; its log stays."""
        run = self._run(trial, seed)
        shutil.rmtree(run.config.checkpoint_folder, ignore_errors=True)
        log = run.folder / "training_log.jsonl"
        last = {entry.model: entry for entry in read_training_log(log)} if log.is_file() else {}
        return Spent(
            sum(entry.tokens for entry in last.values()), round(sum(entry.seconds for entry in last.values()), 3)
        )

    def _before_interruption(self, run: Run) -> list[TrainingLogEntry]:
        """What this very training was measured at; a study of the same name may have been deleted."""
        recorded = run.folder / "config.yaml"
        same = recorded.is_file() and load_config(recorded) == run.config
        return _evaluations(run.folder / "training_log.jsonl", "finetuned") if same else []

    def _run(self, trial: TakenTrial, seed: int) -> Run:
        config = self.config.trial_config(trial.name, trial.overrides, seed)
        terminal = _NotingTerminal(lambda note: self.note(f"{trial.name} seed {seed} {note}"))
        run = Run(config, terminal)
        run.words_folder, run.data_folder = self._shared(vary(self.config.experiment, trial.overrides), terminal)
        return run

    def _shared(self, experiment: ExperimentConfig, terminal: Terminal) -> tuple[Path, Path]:
        """Words and data of an experiment; built once, by whichever worker wants them first."""
        folder = make_folder(self.config.folder / "data")
        words = Run(experiment.model_copy(update={"results_folder": folder}), terminal)
        words_key = fingerprint([experiment.words.model_dump(), experiment.seed, words.base.revision])
        words = self._named(words, f"words-{words_key}")
        data = self._named(words, f"data-{fingerprint([words_key, experiment.data.model_dump()])}")
        data.words_folder = words.words_folder
        with explained_write_errors(folder), FileLock(folder / "build.lock"):
            words.execute(words_step(words))
            data.execute(data_step(data))
        return words.words_folder, data.data_folder

    def _named(self, run: Run, name: str) -> Run:
        named = Run(run.config.model_copy(update={"run_name": name}), run.terminal)
        named.base = run.base  # found once: its weights are checksummed
        return named

    def _result(self, run: Run, seed: int) -> SeedResult:
        log = run.folder / "training_log.jsonl"
        everything = _evaluations(log, "finetuned")
        evaluations = [entry for entry in everything if entry.step]
        # As training keeps it: the best at spelling, of equals the last.
        kept = max(evaluations, key=lambda entry: ((entry.evaluation or {})["spelling_accuracy"], entry.step))
        metric = self.config.study.metric
        metrics, n = kept.evaluation or {}, (kept.evaluation_n or {})[metric]
        last = evaluations[-1]
        control = _evaluations(log, "control")
        return SeedResult(
            seed=seed,
            value=metrics[metric],
            interval=wilson_interval(round(metrics[metric] * n), n),
            n=n,
            metrics=metrics,
            metrics_n=kept.evaluation_n or {},
            positions=kept.evaluation_positions,
            untrained=next((entry.evaluation for entry in everything if not entry.step), None),
            majority_class={
                kind: majority_class_accuracy([question.answer for question in asked])
                for kind, asked in questions_in_training(run).items()
            },
            kept_step=kept.step,
            steps=last.step,
            tokens=last.tokens,
            seconds=last.seconds,
            control_metrics=control[-1].evaluation if control else None,
            environment=read_results(run.folder / "environment.json", Environment),
        )


class _NotingTerminal(Terminal):
    """Shows the progress of one training as a note beside that of the study, and no lines."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(Console(quiet=True))
        self._note = note

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        """Say how far `total` items are done while the block runs."""
        done = 0

        def advance(finished: int, note: str) -> None:
            nonlocal done
            done += finished
            self._note(f"{what} {done}/{total} {note}")

        yield advance


def _evaluations(log: Path, role: str) -> list[TrainingLogEntry]:
    entries = read_training_log(log) if log.is_file() else []
    return [entry for entry in entries if entry.model == role and entry.evaluation]


def _forget_model() -> None:
    """Free the last training's memory, and its compiled layers: PyTorch gives up compiling after a few models."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_sweep(config: SweepConfig, terminal: Terminal) -> SweepResults:
    """Work on the study in this process until it is finished or time is up, and write what it came to."""
    study = Study(config)
    with _progress(config, study.results(), terminal) as (show, note):

        def on_trial(results: SweepResults) -> None:
            write_outcome(config, results)
            show(results)

        SweepWorker(config, study, RunTrainer(config, note), on_trial).work()
    return _finish(config, study)


def run_workers(config: SweepConfig, path: Path, workers: int, terminal: Terminal) -> SweepResults:
    """Let several processes work on the study, each as `run_sweep` does, and write what it came to.

    Raises:
        LetterwiseError: a worker ended early; the study can be gone on with.
    """
    study = Study(config)
    folder = make_folder(config.folder / "workers")
    logs = [folder / f"worker-{number}.log" for number in range(1, workers + 1)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, log in enumerate(logs):
            with explained_write_errors(log), log.open("wb") as stream:
                command = [sys.executable, "-m", "letterwise", "sweep", "--config", str(path)]
                environment = worker_environment(number, workers)
                # In sessions of their own, so that Ctrl-C reaches them once: from here.
                process = subprocess.Popen(
                    command, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
                )
                processes.append(process)
        with _progress(config, study.results(), terminal) as (show, note):
            while any(process.poll() is None for process in processes):
                show(study.results())
                note(f"{sum(process.poll() is None for process in processes)} workers")
                time.sleep(1)
    except BaseException:
        _stop(processes)
        raise
    results = _finish(config, study)
    if ended := [(log, process.returncode) for log, process in zip(logs, processes, strict=True) if process.returncode]:
        raise LetterwiseError(_why(*ended[0]))
    return results


def worker_environment(number: int, workers: int) -> dict[str, str]:
    """Environment of one of several workers: its share of the processor's cores, and a GPU of its own where it can."""
    threads = max(1, hardware.cpu_cores() // workers)
    environment = {THREADS_VARIABLE: str(threads), **os.environ}
    gpus = torch.cuda.device_count()
    if gpus > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        environment["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
    return environment


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let workers put their trials back; not by SIGINT, which those of a job in the background ignore, as it does."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _why(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return f"A worker ended with exit code {code}: {last.strip().removeprefix('Error: ').rstrip('.')} (see {log})."


def write_outcome(config: SweepConfig, results: SweepResults) -> None:
    """Write sweep.json and, once a trial is complete, the configuration of the best."""
    write_results(config.folder / SWEEP_FILE, results)
    if results.best:
        best = results.trial(results.best)
        name = f"{config.study.name}-best"
        experiment = vary(config.experiment, {**best.params, "run_name": name})
        low, high = best.interval or (0.0, 1.0)
        figures = f"{best.value:.1%} [{low:.1%}, {high:.1%}], n = {best.n}"
        header = (
            f"# {best.name} of {results.study}: {results.metric} {figures}, on the validation words it was chosen by\n"
        )
        write_text(config.folder / BEST_CONFIG_FILE, header + dump_config(experiment))


def _finish(config: SweepConfig, study: Study) -> SweepResults:
    results = study.results()
    write_outcome(config, results)
    if results.importance:
        plot_importance(results, config.folder / IMPORTANCE_FIGURE)
    return results


@contextmanager
def _progress(
    config: SweepConfig, results: SweepResults, terminal: Terminal
) -> Iterator[tuple[Callable[[SweepResults], None], Callable[[str], None]]]:
    """Show how many trials are finished, by whichever worker, and a note on what goes on."""
    shown = 0
    with terminal.track(config.study.name, len(results.trials)) as advance:

        def show(results: SweepResults) -> None:
            nonlocal shown
            if results.finished != shown:
                best = results.trial(results.best).value if results.best else None
                advance(results.finished - shown, "" if best is None else f"best {best:.1%}")
                shown = results.finished

        yield show, lambda note: advance(0, note)
