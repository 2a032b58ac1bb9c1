"""The thin switch to Unsloth: its fast model with our adapter, and the loss of rows that hold one text each.

Unsloth's kernels attend causally whatever mask they are given, so several texts in a row would see one another. On
import it replaces parts of transformers for the whole process: import it in a process of its own
(`letterwise.training.own_process`). Knows nothing about the data or the schedule.
"""

from __future__ import annotations

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from letterwise.adapters import name_base
from letterwise.config import ExperimentConfig, LoraSection
from letterwise.data.packing import IGNORED, PackedRows
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, first_line

MUCH_PADDING = 0.5
"""From this share of padding on, the user is told."""


def unsloth_model(config: ExperimentConfig, base: BaseModel, dtype: torch.dtype) -> PeftModel:
    """Unsloth's model of the base, in 4 bits if the configuration says so, with a fresh LoRA adapter.

    Raises:
        LetterwiseError: Unsloth does not know the architecture, or cannot load it.
    """
    from unsloth import FastLanguageModel

    try:
        model, _ = FastLanguageModel.from_pretrained(
            model_name=str(base.folder),
            max_seq_length=config.training.row_length,
            dtype=dtype,
            load_in_4bit=config.training.load_in_4bit,
            use_exact_model_name=True,  # it would otherwise take a quantized copy of its own from the Hub
        )
        adapted = FastLanguageModel.get_peft_model(
            model,
            r=config.lora.rank,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=_target_modules(model, config.lora),
            use_gradient_checkpointing=False,
            random_state=config.seed,
        )
    except Exception as error:  # it raises many kinds for what it does not support
        raise LetterwiseError(
            f"Unsloth cannot train {base.id}: {first_line(error)}; set training.use_unsloth to false."
        ) from error
    return name_base(adapted, base)


def _target_modules(model: PreTrainedModel, lora: LoraSection) -> list[str]:
    """The names chosen; 'auto' is all linear layers, quantized ones too, but the output head, as with peft."""
    if isinstance(lora.target_modules, list):
        return lora.target_modules
    head = model.get_output_embeddings()
    modules = [(name, each) for name, each in model.named_modules() if each is not head]
    return sorted({name.rpartition(".")[2] for name, each in modules if isinstance(each, torch.nn.Linear)})


def summed_loss(
    model: PeftModel, input_ids: torch.Tensor, labels: torch.Tensor, segments: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy summed over the learned tokens of rows with one text each, by the model's own loss.

    Args:
        model: returns the mean loss over labels, as transformers' models do.
        input_ids: shape (rows, row length), padded on the right.
        labels: the token wanted after each position, `IGNORED` elsewhere; transformers shifts labels itself.
        segments: 1 for the text, 0 for padding.
    """
    present = segments > 0
    width = int(present.sum(dim=1).max())  # beyond the longest text there is padding only
    wanted_here = torch.full_like(labels, IGNORED)
    wanted_here[:, 1:] = labels[:, :-1]
    mean: torch.Tensor = model(
        input_ids=input_ids[:, :width], attention_mask=present[:, :width].long(), labels=wanted_here[:, :width]
    ).loss
    return mean * (labels != IGNORED).sum()


def padding_notice(packed: PackedRows, batch_size: int) -> str | None:
    """A sentence about the padding in batches, where it is much of what is computed."""
    lengths = (packed.segments > 0).sum(axis=1)
    batches = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    share = 1 - packed.tokens / sum(len(batch) * int(batch.max()) for batch in batches)
    if share < MUCH_PADDING:
        return None
    return f"With one text a row, about {share:.0%} of what is computed is padding; without Unsloth, rows are packed."
