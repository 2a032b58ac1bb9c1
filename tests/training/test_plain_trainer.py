"""The training held against the plain stack, `transformers.Trainer` with peft: padded texts instead of packed rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from letterwise.adapters import add_adapter
from letterwise.config import LoraSection, TrainingConfig
from letterwise.data.packing import IGNORED, PackedRows, pack, tokenize_examples
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.answering import spell_words
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.tasks.spelling import SpellingExample, parse_spelling, spell, spelling_prompt
from letterwise.training.state import AdapterOptimizer
from letterwise.training.step import TrainingStep

CPU = torch.device("cpu")
WORDS = ("bread", "castle", "dream", "flower", "hammer", "island", "jungle", "kitten", "lemon", "monkey", "ocean")
UNSEEN = ("pepper", "queen", "river", "summer", "tiger")
STEPS = 120
SETTINGS = TrainingConfig(
    max_steps=STEPS, batch_size=3, row_length=256, learning_rate=1e-2, warmup_steps=10, dtype="float32"
)
LORA = LoraSection(rank=16, alpha=32)


def packed_words(tokenizer: PreTrainedTokenizerBase) -> PackedRows:
    """Texts of two words, each a prompt of the evaluation with its answer, several in a row."""
    examples = []
    for word in WORDS * 2:
        prompt, answer = spelling_prompt(word).text, f" {spell(word, 'space')}"
        examples.append(SpellingExample(f"{prompt}{answer}\n", ((len(prompt), len(prompt) + len(answer)),)))
    return pack(tokenize_examples(tokenizer, examples), SETTINGS.row_length, tokenizer.pad_token_id)


def texts_of(packed: PackedRows, rows: Sequence[int]) -> Iterator[dict[str, list[int]]]:
    """The texts in some rows as the plain stack takes them: labels beside the ids, shifted by the model itself."""
    for row in rows:
        for segment in range(1, packed.segments[row].max() + 1):
            places = packed.segments[row] == segment
            yield {
                "input_ids": packed.input_ids[row][places].tolist(),
                "labels": [IGNORED, *packed.labels[row][places].tolist()[:-1]],
            }


class PlainTrainer(Trainer):
    """The Trainer as it comes, but for the order of texts, which is ours, and the losses, which it keeps."""

    def __init__(self, batches: list[list[int]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.batches = batches
        self.losses: list[float] = []

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)  # type: ignore[arg-type]

    def training_step(self, *arguments: Any) -> torch.Tensor:
        loss = super().training_step(*arguments)
        self.losses.append(float(loss))
        return loss


class Norms(TrainerCallback):
    """Keeps the gradient norms before clipping."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "grad_norm" in logs:
            self.found.append(float(logs["grad_norm"]))


def spelled(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    engine = TransformersEngine(model.eval(), tokenizer)
    return [parse_spelling(each.text) for each in spell_words(engine, [*WORDS, *UNSEEN], 12)]


@pytest.mark.slow
def test_losses_and_spelling_are_those_of_the_plain_stack(tiny_base: BaseModel, tmp_path: Path) -> None:
    """Up to the order in which float32 numbers are added, which AdamW carries on from step to step."""
    tokenizer = load_tokenizer(tiny_base)
    packed = packed_words(tokenizer)
    assert packed.segments.max() > 1, "several texts share a row"
    torch.manual_seed(0)
    ours = add_adapter(load_model(tiny_base, CPU, torch.float32), LORA, tiny_base)
    at_first = {name: value.clone() for name, value in ours.state_dict().items()}
    before = spelled(ours, tokenizer)
    step, optimizer = TrainingStep(ours, packed, SETTINGS, 0), AdapterOptimizer(ours, SETTINGS)
    losses, norms = [], []
    for number in range(STEPS):
        losses.append(step(number)[0])
        norms.append(optimizer.step(number))

    plain = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_base.folder, dtype=torch.float32),
        LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear",
            fan_in_fan_out=ours.peft_config["default"].fan_in_fan_out,
        ),
    )  # fmt: skip
    plain.load_state_dict(at_first)
    texts: list[dict[str, list[int]]] = []
    batches = []
    for number in range(STEPS):
        of_step = list(texts_of(packed, step.rows(number)))
        batches.append(list(range(len(texts), len(texts) + len(of_step))))
        texts += of_step
    weights = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    adamw = torch.optim.AdamW(weights, lr=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay)
    rates = LambdaLR(adamw, lambda number: optimizer.learning_rate(number) / SETTINGS.learning_rate)
    trainer = PlainTrainer(
        batches,
        model=plain,
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=STEPS, max_grad_norm=SETTINGS.max_grad_norm, use_cpu=True,
            report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
        ),
        train_dataset=texts,  # type: ignore[arg-type]
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        optimizers=(adamw, rates),
        callbacks=[norms_there := Norms()],
    )  # fmt: skip
    trainer.train()

    assert len(trainer.losses) == STEPS
    # AdamW carries the rounding of a step on to those after it, where it grows.
    assert losses[:40] == pytest.approx(trainer.losses[:40], rel=1e-3)
    assert losses == pytest.approx(trainer.losses, rel=0.05)
    assert norms[:40] == pytest.approx(norms_there.found[:40], rel=1e-2)
    assert losses[-1] < 0.5 * losses[0]
    answers = spelled(ours, tokenizer)
    assert answers == spelled(plain, tokenizer)
    assert answers[: len(WORDS)] == list(WORDS) != before[: len(WORDS)]
