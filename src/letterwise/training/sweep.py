"""One worker of a sweep: takes trials from the study until none is left, trains each for every seed, tells the result.

Knows a training only as a function of trial and seed; knows nothing about run folders or other workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from letterwise.errors import DivergedError
from letterwise.evaluation.statistics import wilson_interval
from letterwise.sweep_config import SweepConfig, vary
from letterwise.sweep_results import SeedResult, SweepResults
from letterwise.training.study import Study, TakenTrial
from letterwise.training.tracking import Watch

POLL_SECONDS = 2.0
"""Between two looks at what other workers do, when nothing is left to take."""


class GivenUpError(Exception):
    """Raised inside a training that the study gives up."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What an unfinished training has cost."""

    tokens: int
    seconds: float


class Trainer(Protocol):
    """Trains one seed of a trial; what it did before an interruption it does not do again."""

    def train(self, trial: TakenTrial, seed: int, watch: Watch) -> SeedResult:
        """Train, telling `watch` of each evaluation, also of those before an interruption."""
        ...

    def give_up(self, trial: TakenTrial, seed: int) -> Spent:
        """Clear away a training that will not go on, and say what it has cost."""
        ...


class SweepWorker:
    """Runs trials one after another."""

    def __init__(
        self,
        config: SweepConfig,
        study: Study,
        trainer: Trainer,
        on_trial: Callable[[SweepResults], None] = lambda results: None,
    ) -> None:
        """Prepare to work.

        Args:
            config: the sweep.
            study: where trials come from.
            trainer: trains one seed of a trial.
            on_trial: called with the results so far, at the start and whenever a trial of any worker is finished.
        """
        self.config = config
        self.study = study
        self.trainer = trainer
        self.on_trial = on_trial

    def work(self) -> bool:
        """Take trials until none is left and none of another worker's can come back; False when time ran out.

        Raises:
            LetterwiseError: a trial cannot be run for a reason that is not its own; it is put back into the queue.
        """
        minutes = self.config.study.timeout_minutes
        ends = time.monotonic() + 60 * minutes if minutes else float("inf")
        self.on_trial(self.study.results())
        while time.monotonic() < ends:
            if taken := self.study.take():
                self._run(taken)
                self.on_trial(self.study.results())
            elif self.study.others_at_work():
                time.sleep(POLL_SECONDS)
                self.on_trial(self.study.results())
            else:
                return True
        return False

    def _run(self, taken: TakenTrial) -> None:
        metric, seeds = self.config.study.metric, self.config.seeds
        try:
            last_step = vary(self.config.experiment, taken.overrides).training.max_steps
        except ValueError as error:  # each value is allowed, but not all of them together
            self.study.fail(taken, str(error))
            return
        found: list[SeedResult] = []

        def watch(step: int, measured: Mapping[str, float]) -> None:
            # Other seeds are not compared at equal steps: a trial that the first did not end is worth them all.
            badly = step and not found and taken.report(step, measured[metric])
            if badly and step < last_step:  # after it, nothing is saved by giving up
                raise GivenUpError(f"{metric} was {measured[metric]:.1%} at step {step}")

        try:
            for seed in seeds:
                found.append(self.trainer.train(taken, seed, watch))
                taken.note(seeds=[result.model_dump(mode="json") for result in found])
        except (GivenUpError, DivergedError, torch.OutOfMemoryError) as error:
            spent = self.trainer.give_up(taken, seeds[len(found)])
            taken.note(unfinished={"tokens": spent.tokens, "seconds": spent.seconds})
            end = self.study.prune if isinstance(error, GivenUpError) else self.study.fail
            end(taken, str(error).splitlines()[0])
        except BaseException:  # Ctrl-C, a full disk, a mistake in the settings or here: not the trial's fault
            self.study.put_back(taken)
            raise
        else:
            value = sum(result.value for result in found) / len(found)
            n = found[0].n
            taken.note(interval=wilson_interval(round(value * n), n), n=n)
            self.study.complete(taken, value)
