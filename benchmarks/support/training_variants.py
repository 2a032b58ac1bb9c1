"""What benchmarks/training_speed.py measures: letterwise's step, transformers.Trainer with peft, and the ceiling.

All train a LoRA adapter of the same rank on the same texts and learn the same tokens; each stands in a process of its
own and runs when it is asked to. Counted are tokens of texts, not padding.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)
from turns import Turns

from letterwise import hardware
from letterwise.adapters import add_adapter
from letterwise.config import LoraSection, TrainingConfig, load_config
from letterwise.data.build import load_data
from letterwise.data.packing import IGNORED, TokenizedExample
from letterwise.data.texts import spelling_examples, tokenized_texts
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.training.compiled_code import CompiledCode
from letterwise.training.compiling import begin, shape_of_training
from letterwise.training.state import AdapterOptimizer
from letterwise.training.step import TrainingStep
from letterwise.training.tracking import NoTracker
from letterwise.training.train import train, training_rows

TEXTS = 6000
PREPARED_STEPS = 50


def run_variant(spec: dict[str, Any]) -> None:
    """Be the variant that the parent asked for, until it has had enough."""
    kinds: dict[str, Callable[[dict[str, Any]], None]] = {
        "letterwise": ours,
        "run": whole_run,
        "trainer": peer,
        "products": products,
    }
    kinds[spec["stack"]](spec)


def ours(spec: dict[str, Any]) -> None:
    """letterwise: packed rows, compiled or not; `settings` are those of the section `training`."""
    base, device, dtype = _base(spec)
    settings = TrainingConfig(**spec["settings"])
    tokenizer = load_tokenizer(base)
    model = add_adapter(load_model(base, device, dtype), LoraSection(), base)
    packed = training_rows("finetuned", _texts(spec), tokenizer, settings, 0)
    step, optimizer = TrainingStep(model, packed, settings, 0), AdapterOptimizer(model, settings)
    started = time.perf_counter()
    for number in range(PREPARED_STEPS):
        for batch in step.batches(step.rows(number)):
            step.tensors(batch)
    preparation = (time.perf_counter() - started) / PREPARED_STEPS
    turns, said = Turns(), [""]
    shape = shape_of_training(model.get_base_model(), settings, LoraSection(), device, dtype)
    with CompiledCode(shape) as code:
        seconds = begin(step, code, settings, device, 1, said.append)
        turns.answer(seconds_to_start=seconds, preparation_seconds=preparation, compiled=step.compiled, said=said[-1])
        taken = 0
        while order := turns.order():
            tokens, steps, started = 0, 0, time.perf_counter()
            while tokens < order["tokens"]:
                tokens += step(taken)[1]
                optimizer.step(taken % settings.max_steps)
                taken, steps = taken + 1, steps + 1
            _synchronize(device)
            turns.answer(tokens=tokens, steps=steps, seconds=time.perf_counter() - started)


def whole_run(spec: dict[str, Any]) -> None:
    """A training with letterwise from beginning to end, as the command does it, but for the evaluations.

    `config` is the file of the experiment, whose results and checkpoints folders are empty.
    """
    config = load_config(Path(spec["config"]))
    base = resolve_base(config.base_model)
    said: list[str] = []
    report = train(
        config,
        base,
        load_tokenizer(base),
        load_data(Path(spec["data"]))[0]["train"],
        "finetuned",
        lambda model: QuickEvaluation({"spelling_accuracy": 0.0}, {"spelling_accuracy": 0}),
        NoTracker(),
        say=said.append,
    )
    Turns().answer(tokens=report.tokens, steps=report.steps, training_seconds=report.seconds, said=said)


def peer(spec: dict[str, Any]) -> None:
    """transformers.Trainer with peft.

    As they come: the model in the type that it was saved in, with its own choice of attention; an adapter in float32,
    as peft makes it; texts in random order, padded to the longest of the batch. `attention`, `adapter`, `by_length`
    and `compile` say otherwise.
    """
    base, device, _ = _base(spec)
    tokenizer = load_tokenizer(base)
    chosen = {"attn_implementation": spec["attention"]} if "attention" in spec else {}
    model = AutoModelForCausalLM.from_pretrained(base.folder, **chosen)
    lora = LoraSection(**spec.get("lora", {}))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        fan_in_fan_out=hasattr(model, "transformer"),
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=spec.get("adapter") != "bfloat16")
    settings = TrainingConfig(**spec["settings"])
    examples = spelling_examples(_texts(spec).to_list())
    templates = _texts(spec)["template"][:]
    texts = tokenized_texts(examples, templates, tokenizer, settings.words_per_text, settings.row_length, 0)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=spec["batch"],
            max_steps=10**6,
            learning_rate=settings.learning_rate,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            train_sampling_strategy="group_by_length" if spec.get("by_length") else "random",
            torch_compile=bool(spec.get("compile")),
            use_cpu=device.type == "cpu",
        )
        turns = Turns()
        trainer = _CountingTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list([_as_row(text) for text in texts]),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
        )
        trainer.add_callback(_TakingTurns(trainer, turns, device))
        turns.answer(parameters=model.get_base_model().num_parameters())
        trainer.train()


def products(spec: dict[str, Any]) -> None:
    """The ceiling: floating-point operations a second of one large matrix product, in the type of training."""
    _, device, dtype = _base(spec)
    size = 8192 if device.type == "cuda" else 2048
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    turns = Turns()
    turns.answer()
    while turns.order() is not None:
        rates = []
        for _ in range(6):
            _synchronize(device)
            started = time.perf_counter()
            first @ second
            _synchronize(device)
            rates.append(2 * size**3 / (time.perf_counter() - started))
        turns.answer(rate=statistics.median(rates[1:]))


class _CountingTrainer(Trainer):
    """Counts the tokens that are not padding."""

    tokens = 0

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> torch.Tensor:
        self.tokens += int(inputs["attention_mask"].sum())
        return super().training_step(model, inputs, *rest, **more)


class _TakingTurns(TrainerCallback):
    """Stops between two steps until the parent asks for more, so that what is measured is the steady state."""

    def __init__(self, trainer: _CountingTrainer, turns: Turns, device: torch.device) -> None:
        self.trainer = trainer
        self.turns = turns
        self.device = device

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        self._await_order(control)

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        self.steps += 1
        if self.trainer.tokens >= self.wanted:
            _synchronize(self.device)
            seconds = time.perf_counter() - self.started
            self.turns.answer(tokens=self.trainer.tokens, steps=self.steps, seconds=seconds)
            self._await_order(control)

    def _await_order(self, control: TrainerControl) -> None:
        order = self.turns.order()
        control.should_training_stop = order is None
        self.wanted, self.steps, self.trainer.tokens = order["tokens"] if order else 0, 0, 0
        self.started = time.perf_counter()


def _base(spec: dict[str, Any]) -> tuple[BaseModel, torch.device, torch.dtype]:
    device = hardware.choose_device()
    return resolve_base(spec["base"]), device, hardware.choose_dtype(device)


def _texts(spec: dict[str, Any]) -> Dataset:
    texts = load_data(Path(spec["data"]))[0]["train"]
    return texts.select(range(min(TEXTS, len(texts))))


def _as_row(text: TokenizedExample) -> dict[str, list[int]]:
    pairs = zip(text.input_ids, text.wanted, strict=True)
    return {"input_ids": text.input_ids, "labels": [token if wanted else IGNORED for token, wanted in pairs]}


def _synchronize(device: torch.device) -> None:
    """Wait for what a GPU is still doing; the processor does nothing behind one's back."""
    if device.type == "cuda":
        torch.cuda.synchronize()
