"""A study on disk that any number of workers share: which trials there are, who runs them, what came of them.

Optuna keeps the journal, chooses values and judges what to give up. A trial under way holds a lock on a file, which the
system frees when its process dies; whoever finds it free puts the trial back into the queue. Knows nothing about
training.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from letterwise.errors import LetterwiseError
from letterwise.files import explained_write_errors, fingerprint, make_folder
from letterwise.sweep_config import Overrides, PrunerSection, SweepConfig, is_integer
from letterwise.sweep_results import SeedResult, SweepResults, TrialResult
from letterwise.sweep_results import TrialState as StateName

LOST_ATTEMPTS = 3
"""A trial whose worker died this many times has failed: it may be what kills them."""

IMPORTANCE_TRIALS = 10
"""Complete trials below which the importance of settings is not estimated."""

STATES: dict[TrialState, StateName] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TakenTrial:
    """A trial that this worker runs."""

    def __init__(self, trial: optuna.Trial, overrides: Overrides, lock: FileLock) -> None:
        self.name = str(trial.user_attrs["name"])
        self.overrides = overrides
        self.trial = trial
        self.lock = lock
        self._reported: set[int] = set()

    def report(self, step: int, value: float) -> bool:
        """Tell the study how it goes; returns whether to give up."""
        if step in self._reported:  # measured again after an interruption, with the same result
            return False
        self._reported.add(step)
        self.trial.report(value, step)
        return self.trial.should_prune()

    def note(self, **values: Any) -> None:
        """Keep something about the trial in the journal."""
        for name, value in values.items():
            self.trial.set_user_attr(name, value)


class Study:
    """The trials of a sweep, in a journal on disk."""

    def __init__(self, config: SweepConfig) -> None:
        """Open the study, or begin it; trials of workers that died are put back into the queue.

        Raises:
            LetterwiseError: the folder cannot be written, or holds a study of other settings.
        """
        self.config = config
        self.folder = make_folder(config.storage_folder).resolve()
        self._mutex = FileLock(self.folder / "study.lock")
        self._distributions = {path: _distribution(config, path) for path in config.space}
        self._slots = _slots(config)
        with self._alone():
            self._study = self._open()
            self._check_settings()
            self._recall_lost()
            attempts = self._attempts()
            for name, (fixed, overrides) in self._slots.items():
                if name not in attempts:
                    self._study.enqueue_trial(fixed, {"name": name, "overrides": overrides, "attempts": 0, "lost": 0})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other worker takes or returns a trial while the block runs."""
        with explained_write_errors(self.folder), self._mutex:
            yield

    def _open(self) -> optuna.Study:
        journal = str(self.folder / "study.journal")
        try:
            # A lock file opened exclusively works on every system, and on NFS from version 3 on.
            storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
            return optuna.create_study(
                storage=storage,
                study_name=self.config.study.name,
                direction="maximize",
                pruner=_pruner(self.config.study.pruner),
                load_if_exists=True,
            )
        except (ValueError, KeyError) as error:
            raise LetterwiseError(f"The journal {journal} is broken; delete it to begin the study anew.") from error

    def _check_settings(self) -> None:
        """Refuse to go on with a study whose trials would not be comparable with those to come."""
        wanted = _settings(self.config)
        recorded = self._study.user_attrs.get("settings")
        if recorded is None:
            self._study.set_user_attr("settings", wanted)
        elif changed := sorted(part for part in wanted if wanted[part] != recorded.get(part)):
            raise LetterwiseError(
                f"The study in {self.folder} was made with another {' and '.join(changed)}; give this one another "
                "study.name, or delete that folder."
            )
        for name, trial in self._attempts().items():
            overrides = self._slots[name][1] if name in self._slots else None
            if overrides is not None and overrides != trial.user_attrs["overrides"]:
                raise LetterwiseError(
                    f"The study in {self.folder} has a variant '{name}' with other settings; give this one a new name."
                )

    def _attempts(self) -> dict[str, FrozenTrial]:
        """The last attempt at each trial, withdrawn ones left out."""
        found = self._study.get_trials(deepcopy=False)
        last = {str(trial.user_attrs["name"]): trial for trial in found}
        return {name: trial for name, trial in last.items() if not trial.user_attrs.get("withdrawn")}

    def take(self) -> TakenTrial | None:
        """The next trial to run, or None when none waits."""
        with self._alone():
            self._recall_lost()
            while waiting := self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                # A sampler of its own for each trial: what it draws depends on the trial, not on the worker.
                self._study.sampler = _sampler(self.config, waiting[0].number)
                trial = self._study.ask(self._distributions)
                name = str(trial.user_attrs["name"])
                if name not in self._slots:  # no longer wanted
                    trial.set_user_attr("withdrawn", True)
                    self._study.tell(trial, state=TrialState.FAIL)
                    continue
                lock = self._lock(trial.number)
                lock.acquire(blocking=False)
                trial.set_user_attr("attempts", trial.user_attrs["attempts"] + 1)
                return TakenTrial(trial, self._overrides(trial.params, trial.user_attrs), lock)
            return None

    def others_at_work(self) -> bool:
        """Whether other workers still run trials, which they might leave unfinished."""
        return any(trial.state == TrialState.RUNNING for trial in self._attempts().values())

    def complete(self, taken: TakenTrial, value: float) -> None:
        """The trial came to this value."""
        self._finish(taken, TrialState.COMPLETE, value)

    def prune(self, taken: TakenTrial, reason: str) -> None:
        """The trial was given up."""
        taken.note(reason=reason)
        self._finish(taken, TrialState.PRUNED)

    def fail(self, taken: TakenTrial, reason: str) -> None:
        """The trial cannot be run with these settings."""
        taken.note(reason=reason)
        self._finish(taken, TrialState.FAIL)

    def put_back(self, taken: TakenTrial) -> None:
        """The trial was interrupted: another attempt goes on with it."""
        with self._alone():
            self._requeue(taken.trial.number, taken.trial.params, taken.trial.user_attrs)
        taken.lock.release()

    def _finish(self, taken: TakenTrial, state: TrialState, value: float | None = None) -> None:
        with self._alone():
            self._study.tell(taken.trial, value, state)
        taken.lock.release()

    def _recall_lost(self) -> None:
        """Put trials of workers that died back into the queue."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = self._lock(trial.number)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            lock.release()
            attributes = {**trial.user_attrs, "lost": trial.user_attrs["lost"] + 1}
            if attributes["lost"] < LOST_ATTEMPTS:
                self._requeue(trial.number, trial.params, attributes)
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _requeue(self, number: int, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        # In this order, so that a death in between loses nothing; its traces are the same trial twice, the second last.
        if self._attempts()[str(attributes["name"])].number == number:
            self._study.enqueue_trial(dict(params), dict(attributes))
        self._study.tell(number, state=TrialState.FAIL)

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number:04d}.lock")

    def _overrides(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> Overrides:
        """What the trial changes in the experiment: its variant, or the values chosen for it."""
        chosen = {
            path: self.config.choices(path)[value] if self.config.space[path].choices else value
            for path, value in params.items()
        }
        return {**attributes["overrides"], **chosen}

    def results(self) -> SweepResults:
        """Everything that the study has found so far."""
        attempts = self._attempts()
        trials = [self._result(name, attempts[name]) for name in self._slots if name in attempts]
        complete = [trial for trial in trials if trial.value is not None]
        best = max(complete, key=lambda trial: trial.value or 0.0, default=None)
        importance, reason = self._importance(len(complete))
        return SweepResults(
            study=self.config.study.name,
            metric=self.config.study.metric,
            seeds=self.config.seeds,
            config=self.config.model_dump(mode="json"),
            trials=trials,
            best=best.name if best else None,
            importance=importance,
            importance_reason=reason,
        )

    def _result(self, name: str, trial: FrozenTrial) -> TrialResult:
        noted = trial.user_attrs
        seeds = [SeedResult.model_validate(seed) for seed in noted.get("seeds", [])]
        lost = noted["lost"] >= LOST_ATTEMPTS - 1 and trial.state == TrialState.FAIL
        unfinished = noted.get("unfinished", {"tokens": 0, "seconds": 0.0})
        finished = trial.state == TrialState.COMPLETE
        return TrialResult(
            name=name,
            state=STATES[trial.state],
            params=self._overrides(trial.params, noted),
            value=trial.value if finished else None,
            interval=noted.get("interval") if finished else None,
            n=noted.get("n") if finished else None,
            seeds=seeds,
            intermediate=trial.intermediate_values,
            tokens=sum(seed.tokens for seed in seeds) + unfinished["tokens"],
            seconds=round(sum(seed.seconds for seed in seeds) + unfinished["seconds"], 3),
            attempts=noted["attempts"],
            reason=noted.get("reason") or (f"its worker died {LOST_ATTEMPTS} times" if lost else None),
        )

    def _importance(self, complete: int) -> tuple[dict[str, float] | None, str | None]:
        if not self.config.space:
            return None, "Variants are compared, not settings."
        if complete < IMPORTANCE_TRIALS:
            return None, f"{IMPORTANCE_TRIALS} complete trials are wanted, there are {complete}."
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings(action="ignore"):  # what they say is the reason below
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator, normalize=False)
        total = sum(found.values())
        if not total:
            return None, "No setting sets the best trials apart from the others."
        return {name: float(weight / total) for name, weight in found.items()}, None


def _slots(config: SweepConfig) -> dict[str, tuple[dict[str, Any], Overrides]]:
    """Name of each trial wanted → the values fixed for the sampler, and the settings of its variant."""
    if config.variants:
        return {name: ({}, dict(overrides)) for name, overrides in config.variants.items()}
    fixed = config.grid() if config.study.sampler == "grid" else [{}] * (config.study.trials or 0)
    return {f"trial-{number:03d}": (values, {}) for number, values in enumerate(fixed)}


def _settings(config: SweepConfig) -> dict[str, str]:
    """Fingerprints of what all trials of a study share."""
    places = {"run_name", "results_folder", "checkpoints_folder", "tracking", "evaluation"}
    # What is left at its default does not count, so that a new setting ends no study.
    experiment = config.experiment.model_dump(mode="json", exclude=places, exclude_defaults=True)
    space = {path: dimension.model_dump(mode="json") for path, dimension in config.space.items()}
    rules = config.study.model_dump(include={"metric", "seeds_per_trial", "control"})
    return {"experiment": fingerprint(experiment), "space": fingerprint(space), "study": fingerprint(rules)}


def _distribution(config: SweepConfig, path: str) -> BaseDistribution:
    dimension = config.space[path]
    if dimension.choices is not None:
        return CategoricalDistribution(list(config.choices(path)))
    low, high = dimension.low or 0.0, dimension.high or 0.0
    if is_integer(path):
        return IntDistribution(int(low), int(high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(low, high, dimension.log, dimension.step)


def _sampler(config: SweepConfig, number: int) -> optuna.samplers.BaseSampler:
    seed = int(fingerprint([config.experiment.seed, number])[:8], 16)
    if config.study.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed)


def _pruner(section: PrunerSection) -> optuna.pruners.BasePruner:
    if section.kind == "median":
        return optuna.pruners.MedianPruner(section.startup_trials, section.warmup_steps)
    if section.kind == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(max(1, section.warmup_steps) if section.warmup_steps else "auto")
    return optuna.pruners.NopPruner()
