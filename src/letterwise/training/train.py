"""LoRA fine-tuning on spelling, and the control adapters beside it.

Knows the training texts only as packed rows, and evaluation only as a function to call on a schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from letterwise import hardware, processes
from letterwise.adapters import add_adapter, add_adapter_to_4bit, save_adapter
from letterwise.config import NO_PART_OF_TRAINING, ControlName, ExperimentConfig, TrainingConfig
from letterwise.data.packing import PackedRows, pack, pack_singly
from letterwise.data.role_texts import texts_of_role
from letterwise.data.texts import tokenized_texts
from letterwise.errors import DivergedError
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.files import fingerprint
from letterwise.models import BaseModel, load_model
from letterwise.results import TrainedRole, TrainingLogEntry
from letterwise.sharding import load_sharded, wanted
from letterwise.training.compiled_code import CompiledCode
from letterwise.training.compiling import begin, note_passes, shape_of_training
from letterwise.training.state import (
    BEST,
    AdapterOptimizer,
    Progress,
    TrainingLog,
    load_checkpoint,
    save_checkpoint,
)
from letterwise.training.step import TrainingStep
from letterwise.training.tracking import VALIDATION, Tracker
from letterwise.training.unsloth_model import padding_notice, unsloth_model

ROLE_OF_CONTROL: dict[ControlName, TrainedRole] = {
    "shuffled": "control",
    "format_only": "format_only",
    "random_label": "random_label",
    "ceiling": "ceiling",
}
"""What the adapter of each control is called in files and results."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What one training run came to."""

    adapter: Path
    steps: int
    tokens: int
    seconds: float
    """Training alone, evaluation left out."""
    best_step: int


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Shown while training."""

    step: int
    total: int
    loss: float
    tokens_per_second: float


def training_rows(
    role: TrainedRole, rows: Dataset, tokenizer: PreTrainedTokenizerBase, settings: TrainingConfig, seed: int
) -> PackedRows:
    """Pack the training texts of a role, made from those of the config `spelling`.

    Each text has a row of its own where the attention would not keep them apart. With a curriculum, texts of short
    words stand before those of long ones.
    """
    listed = rows.to_list()
    if settings.curriculum == "length":
        listed.sort(key=lambda row: len(row["word"]))
    examples, kinds = texts_of_role(role, listed, seed)
    texts = tokenized_texts(
        examples,
        kinds,
        tokenizer,
        settings.words_per_text,
        settings.row_length,
        seed,
        settings.loss_on,
    )
    put_into_rows = pack_singly if settings.use_unsloth else pack
    return put_into_rows(texts, settings.row_length, tokenizer.pad_token_id)


def train(
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
    """Train an adapter, or go on with one whose training was interrupted.

    Writes ``<checkpoints>/<role>/{last,best}`` and lines of ``training_log.jsonl``. The tuned adapter kept as `best`
    is the one with the highest validation spelling accuracy; that of a control is its last, because it is there to
    have had the same training, not to spell. Several processes divide the rows of each step, and all of them come back
    with the adapter that one process would have trained; the main one writes.

    Args:
        config: the experiment.
        base: what to adapt.
        tokenizer: of the base.
        rows: training texts, config `spelling`.
        role: 'finetuned', or which control.
        evaluate: measures the model on validation words.
        tracker: where figures go beside the log.
        max_steps: stop after this many steps (the learning-rate schedule stays that of the configuration).
        on_step: called after every step.
        say: prints one line for the user.

    Raises:
        DivergedError: the loss is not a number.
        LetterwiseError: a setting does not fit the model, or a checkpoint is broken.
    """
    settings = config.training
    device = hardware.choose_device()
    dtype = hardware.choose_dtype(device, settings.dtype)
    torch.manual_seed(config.seed)
    model = _model_with_adapter(config, base, device, dtype)
    packed = training_rows(role, rows, tokenizer, settings, config.seed)
    if settings.use_unsloth and (notice := padding_notice(packed, settings.batch_size)):
        say(notice)
    optimizer = AdapterOptimizer(model, settings)
    folder = config.checkpoint_folder / role
    identity = run_identity(config, base, rows, role)
    resumed = load_checkpoint(folder, optimizer, identity)
    progress = resumed or Progress(identity=identity)
    log = TrainingLog(config.run_folder / "training_log.jsonl", role, resumed.step if resumed else -1)
    total = min(max_steps or settings.max_steps, settings.max_steps)
    if 0 < progress.step < total and not progress.finished:
        say(f"Going on with {role} at step {progress.step} of {total}.")
    processes.seed_apart(config.seed, progress.step)
    shape = shape_of_training(model.get_base_model(), settings, config.lora, device, dtype)
    with CompiledCode(shape) as code:
        step_function = TrainingStep(model, packed, settings, config.seed)
        steps_left = 0 if progress.finished else total - progress.step
        progress.seconds += begin(step_function, code, settings, device, steps_left, say)
        step_seconds: list[float] = []
        if not resumed:
            _evaluate(role, config.seed, model, evaluate, progress, log, tracker)
        while progress.step < total and not progress.finished:
            started = time.perf_counter()
            loss, tokens = step_function(progress.step)
            norm = optimizer.step(progress.step)
            seconds = time.perf_counter() - started
            step_seconds.append(seconds)
            if not np.isfinite(loss):
                raise DivergedError(f"The loss is no longer a number at step {progress.step + 1}; lower learning_rate.")
            progress = replace(
                progress, step=progress.step + 1, tokens=progress.tokens + tokens, seconds=progress.seconds + seconds
            )
            entry = _entry(role, config.seed, progress).model_copy(
                update={
                    "loss": loss,
                    "learning_rate": optimizer.learning_rate(progress.step - 1),
                    "tokens_per_second": tokens / seconds,
                    "grad_norm": norm,
                }
            )
            log.add(entry)
            tracker.log({"loss": loss, "grad_norm": norm, "tokens": progress.tokens}, progress.step)
            on_step(StepFigures(progress.step, total, loss, tokens / seconds))
            progress.finished = progress.step == settings.max_steps
            last = progress.step == total
            if last or progress.step % settings.evaluate_every == 0:
                _evaluate(role, config.seed, model, evaluate, progress, log, tracker)
                if role == "finetuned" and progress.best_step == progress.step and processes.is_main():
                    save_adapter(model, base, folder / BEST, role)
                patience = settings.early_stopping_patience
                if role == "finetuned" and patience and progress.evaluations_without_gain >= patience:
                    say(f"Stopped at step {progress.step}: no better spelling for {patience} evaluations.")
                    progress.finished = last = True
            if last and role != "finetuned":
                progress.best_step = progress.step
                if processes.is_main():
                    save_adapter(model, base, folder / BEST, role)
            if last or progress.step % settings.checkpoint_every == 0:
                save_checkpoint(folder, model, base, optimizer, progress, role)
        note_passes(step_function, code, settings, step_seconds)
    return TrainingReport(folder / BEST, progress.step, progress.tokens, progress.seconds, progress.best_step)


def _model_with_adapter(
    config: ExperimentConfig, base: BaseModel, device: torch.device, dtype: torch.dtype
) -> PeftModel:
    if config.training.use_unsloth:
        return unsloth_model(config, base, dtype)
    if config.training.load_in_4bit:
        return add_adapter_to_4bit(base, config.lora, device, dtype)

    def load(held_on: torch.device | None = None) -> PeftModel:
        return add_adapter(load_model(base, device, dtype, held_on), config.lora, base)

    return load_sharded(load, device) if wanted(config.training) else load()


def run_identity(config: ExperimentConfig, base: BaseModel, rows: Dataset, role: TrainedRole) -> str:
    """Fingerprint of what determines a training run; with the same one, it may be resumed.

    The settings of words and data are part of it, because they determine on what the best adapter is chosen.
    """
    sections = config.model_dump(mode="json", include={"words", "data", "lora", "training", "seed"})
    for name in NO_PART_OF_TRAINING:
        sections["training"].pop(name)
    texts = fingerprint(rows["text"][:])
    return fingerprint([sections, base.revision, texts, role])


def _evaluate(
    role: TrainedRole,
    seed: int,
    model: PeftModel,
    evaluate: Callable[[PeftModel], QuickEvaluation],
    progress: Progress,
    log: TrainingLog,
    tracker: Tracker,
) -> None:
    model.eval()
    with torch.compiler.set_stance("force_eager"):  # its shapes vary, and compiling each would cost more than it saves
        measured = evaluate(model)
    model.train()
    if progress.step:  # the untrained adapter is no candidate
        accuracy = measured.metrics["spelling_accuracy"]
        progress.evaluations_without_gain = (
            0 if accuracy > progress.best_accuracy else progress.evaluations_without_gain + 1
        )
        if accuracy >= progress.best_accuracy:  # of equals the later one, which has seen more
            progress.best_accuracy, progress.best_step = accuracy, progress.step
    found = {
        "evaluation": measured.metrics,
        "evaluation_n": measured.n,
        "evaluation_positions": measured.positions or None,
    }
    log.add(_entry(role, seed, progress).model_copy(update=found))
    tracker.log({f"{VALIDATION}{name}": value for name, value in measured.metrics.items()}, progress.step)


def _entry(role: TrainedRole, seed: int, progress: Progress) -> TrainingLogEntry:
    return TrainingLogEntry(
        model=role, seed=seed, step=progress.step, tokens=progress.tokens, seconds=round(progress.seconds, 3)
    )
