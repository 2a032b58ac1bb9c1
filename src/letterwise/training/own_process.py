"""Training in a process of its own, where libraries may be patched, as Unsloth does; measuring in this one.

The other process trains and sends what it has to tell; at each evaluation it saves its adapter, and this process puts
it onto a base model that nothing was replaced in. Knows nothing about what is trained.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.adapters import load_adapter, save_adapter
from letterwise.config import ExperimentConfig
from letterwise.errors import LetterwiseError
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.models import BaseModel, first_line, load_model
from letterwise.results import TrainedRole
from letterwise.training.tracking import Tracker
from letterwise.training.train import StepFigures, TrainingReport, train
from letterwise.training.unsloth_first import start


def train_in_own_process(
    config: ExperimentConfig,
    base: BaseModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    role: TrainedRole,
    evaluate: Callable[[PeftModel], QuickEvaluation],
    tracker: Tracker,
    max_steps: int | None = None,
    on_step: Callable[[StepFigures], None] = lambda figures: None,
    say: Callable[[str], None] = print,
) -> TrainingReport:
    """What `train` does, with the same arguments.

    Raises:
        LetterwiseError: as `train`, or the other process ended before its time.
    """
    context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
    connection, its_end = context.Pipe()
    work = pickle.dumps((_train, (config, base, tokenizer, rows, role, max_steps)))
    process = context.Process(target=start, args=(its_end, work))
    process.start()
    its_end.close()
    plain = None
    told: dict[str, Callable[..., None]] = {"log": tracker.log, "step": on_step, "say": say}
    try:
        while True:
            kind, *content = connection.recv()
            if kind == "done":
                report: TrainingReport = content[0]
                return report
            if kind == "failed":
                raise content[0]
            if kind == "evaluate":
                if plain is None:
                    device = hardware.choose_device()
                    plain = load_model(base, device, hardware.choose_dtype(device, config.training.dtype))
                adapted = load_adapter(plain, content[0], base)
                connection.send(evaluate(adapted))
                plain = adapted.unload()
            else:
                told[kind](*content)
    except EOFError:
        process.join()
        raise LetterwiseError(f"The training process ended with code {process.exitcode}; see above.") from None
    finally:
        process.terminate()
        process.join()


class _Sender:
    """What the training process has instead of the user's functions: each tells the other end."""

    def __init__(self, connection: Connection, base: BaseModel) -> None:
        self.connection = connection
        self.base = base

    def evaluate(self, model: PeftModel) -> QuickEvaluation:
        with tempfile.TemporaryDirectory() as scratch:
            save_adapter(model, self.base, Path(scratch) / "adapter")
            self.connection.send(("evaluate", Path(scratch) / "adapter"))
            measured: QuickEvaluation = self.connection.recv()
        return measured

    def log(self, values: dict[str, Any], step: int) -> None:
        self.connection.send(("log", values, step))

    def step(self, figures: StepFigures) -> None:
        self.connection.send(("step", figures))

    def say(self, line: str) -> None:
        self.connection.send(("say", line))

    def finish(self) -> None:
        """The tracker is finished at the other end."""


def _train(
    connection: Connection,
    config: ExperimentConfig,
    base: BaseModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    role: TrainedRole,
    max_steps: int | None,
) -> None:
    other = _Sender(connection, base)
    try:
        report = train(config, base, tokenizer, rows, role, other.evaluate, other, max_steps, other.step, other.say)
        connection.send(("done", report))
    except LetterwiseError as error:
        connection.send(("failed", error))
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", LetterwiseError(f"Training failed: {first_line(error)}")))
