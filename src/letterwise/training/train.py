"""LoRA fine-tuning on spelling, and the control adapter on shuffled letters.

Knows the training texts only as packed rows, and evaluation only as a function to call on a schedule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.adapters import add_adapter, save_adapter
from letterwise.config import ExperimentConfig, TrainingConfig
from letterwise.data.packing import IGNORED, PackedRows, attention_mask, pack
from letterwise.data.texts import shuffled_spelling, spelling_examples, tokenized_texts
from letterwise.errors import DivergedError, LetterwiseError
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.files import fingerprint
from letterwise.models import BaseModel, load_model
from letterwise.results import TrainingLogEntry
from letterwise.training.state import (
    BEST,
    AdapterOptimizer,
    Progress,
    TrainingLog,
    load_checkpoint,
    save_checkpoint,
)
from letterwise.training.tracking import VALIDATION, Tracker

TrainedRole = Literal["finetuned", "control"]

COMPILE_FROM_TOKENS = 400_000
"""`compile: auto` compiles runs of at least this many tokens. Speed alone would allow shorter ones, but an interrupted
compilation can leave a broken file in PyTorch's cache. `benchmarks/training_speed.py` measures the gain."""


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
    """Pack the training texts of the config `spelling`; for the control with every word's letters shuffled."""
    listed = rows.to_list()
    examples = spelling_examples(listed) if role == "finetuned" else shuffled_spelling(listed, seed)
    texts = tokenized_texts(
        examples, rows["template"][:], tokenizer, settings.words_per_text, settings.row_length, seed
    )
    return pack(texts, settings.row_length, tokenizer.pad_token_id)


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
    is the one with the highest validation spelling accuracy; the control's is its last, because it is there to have
    had the same training, not to spell.

    Args:
        config: the experiment.
        base: what to adapt.
        tokenizer: of the base.
        rows: training texts, config `spelling`.
        role: 'finetuned', or 'control' for shuffled letters.
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
    model = add_adapter(load_model(base, device, dtype), config.lora, base)
    packed = training_rows(role, rows, tokenizer, settings, config.seed)
    optimizer = AdapterOptimizer(model, settings)
    folder = config.checkpoint_folder / role
    identity = run_identity(config, base, rows, role)
    resumed = load_checkpoint(folder, optimizer, identity)
    progress = resumed or Progress(identity=identity)
    log = TrainingLog(config.run_folder / "training_log.jsonl", role, resumed.step if resumed else -1)
    total = min(max_steps or settings.max_steps, settings.max_steps)
    if 0 < progress.step < total and not progress.finished:
        say(f"Going on with {role} at step {progress.step} of {total}.")
    step_function = TrainingStep(model, packed, settings, config.seed, _compiles(settings, device, say))
    if not resumed:
        _evaluate(role, config.seed, model, evaluate, progress, log, tracker)
    while progress.step < total and not progress.finished:
        started = time.perf_counter()
        loss, tokens = step_function(progress.step)
        norm = optimizer.step(progress.step)
        seconds = time.perf_counter() - started
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
            if role == "finetuned" and progress.best_step == progress.step:
                save_adapter(model, base, folder / BEST)
            patience = settings.early_stopping_patience
            if role == "finetuned" and patience and progress.evaluations_without_gain >= patience:
                say(f"Stopped at step {progress.step}: no better spelling for {patience} evaluations.")
                progress.finished = last = True
        if last and role == "control":
            progress.best_step = progress.step
            save_adapter(model, base, folder / BEST)
        if last or progress.step % settings.checkpoint_every == 0:
            save_checkpoint(folder, model, base, optimizer, progress)
    return TrainingReport(folder / BEST, progress.step, progress.tokens, progress.seconds, progress.best_step)


def run_identity(config: ExperimentConfig, base: BaseModel, rows: Dataset, role: TrainedRole) -> str:
    """Fingerprint of what determines a training run; with the same one, it may be resumed.

    The settings of words and data are part of it, because they determine on what the best adapter is chosen.
    """
    sections = config.model_dump(mode="json", include={"words", "data", "lora", "training", "seed"})
    sections["training"].pop("checkpoint_every")
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
    log.add(
        _entry(role, seed, progress).model_copy(update={"evaluation": measured.metrics, "evaluation_n": measured.n})
    )
    tracker.log({f"{VALIDATION}{name}": value for name, value in measured.metrics.items()}, progress.step)


def _entry(role: TrainedRole, seed: int, progress: Progress) -> TrainingLogEntry:
    return TrainingLogEntry(
        model=role, seed=seed, step=progress.step, tokens=progress.tokens, seconds=round(progress.seconds, 3)
    )


def _compiles(settings: TrainingConfig, device: torch.device, say: Callable[[str], None]) -> bool:
    tokens = settings.max_steps * settings.batch_size * settings.gradient_accumulation * settings.row_length
    able = device.type != "mps" and hardware.cpp_compiler() is not None
    if settings.compile is True and not able:
        raise LetterwiseError(
            "training.compile needs a C++ compiler and no MPS device; install g++ or set it to false."
        )
    if not able or settings.compile is False or (settings.compile == "auto" and tokens < COMPILE_FROM_TOKENS):
        return False
    say(f"Compiling the model's layers for about {tokens:,} tokens of training.")
    return True


class TrainingStep:
    """Forward and backward over the rows of one optimizer step."""

    def __init__(
        self, model: PeftModel, packed: PackedRows, settings: TrainingConfig, seed: int, compiled: bool
    ) -> None:
        self.inner = model.get_base_model()
        self.packed = packed
        self.settings = settings
        self.seed = seed
        self.loss = _letter_loss
        model.train()
        if compiled:
            for block in _repeated_blocks(self.inner):
                block.compile(dynamic=False)
            self.loss = torch.compile(_letter_loss, dynamic=True)

    def __call__(self, step: int) -> tuple[float, int]:
        """Accumulate gradients; returns the mean loss over learned tokens and the number of tokens read."""
        batches = list(self._batches(step))
        learned = sum(int((self.packed.labels[batch] != IGNORED).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = self._summed_loss(batch) / max(1, learned)
            torch.autograd.backward(loss)
            total += loss.item()
        tokens = sum(int((self.packed.segments[batch] > 0).sum()) for batch in batches)
        return total, tokens

    def _batches(self, step: int) -> Iterator[Sequence[int]]:
        """Row numbers of one step: every epoch goes through all rows in another random order."""
        size, pieces = self.settings.batch_size, self.settings.gradient_accumulation
        first = step * size * pieces
        wanted = range(first, first + size * pieces)
        epochs = {place // len(self.packed) for place in wanted}
        orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(len(self.packed)) for epoch in epochs}
        rows = [int(orders[place // len(self.packed)][place % len(self.packed)]) for place in wanted]
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _summed_loss(self, batch: Sequence[int]) -> torch.Tensor:
        device, dtype = self.inner.device, self.inner.dtype
        ids, labels, segments, position_ids = (
            torch.from_numpy(array[batch]).to(device)
            for array in (self.packed.input_ids, self.packed.labels, self.packed.segments, self.packed.position_ids)
        )
        hidden = self.inner.base_model(
            input_ids=ids,
            attention_mask=attention_mask(segments, dtype),
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        # The vocabulary is large beside the model: logits are computed where there is something to learn only.
        learned = labels != IGNORED
        return self.loss(self.inner.get_output_embeddings()(hidden[learned]), labels[learned])


def _letter_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


def _repeated_blocks(model: torch.nn.Module) -> Sequence[torch.nn.Module]:
    """The transformer blocks: they share one compiled program."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])
