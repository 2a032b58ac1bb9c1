"""Forward and backward over packed rows, alone or divided among processes.

Knows packed rows and a model with an adapter; knows nothing about schedules, checkpoints or what the rows say.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from peft import PeftModel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from letterwise import hardware, processes
from letterwise.config import TrainingConfig
from letterwise.data.packing import IGNORED, PackedRows, attention_masks
from letterwise.errors import LetterwiseError
from letterwise.sharding import inside, is_sharded, repeated_blocks
from letterwise.training.unsloth_model import summed_loss


class TrainingStep:
    """Forward and backward over the rows of one optimizer step, of which each process takes its share."""

    def __init__(self, model: PeftModel, packed: PackedRows, settings: TrainingConfig, seed: int) -> None:
        """Prepare; with several processes, all have to do so.

        Raises:
            LetterwiseError: the rows of a step cannot be divided evenly among the processes, or the launcher was told
                to shard the model, which is a matter of the configuration.
        """
        processes.refuse_sharding_by_launcher()
        self.packed = packed
        self.settings = settings
        self.seed = seed
        self.device = model.get_base_model().device
        rows = settings.batch_size * settings.gradient_accumulation
        if rows % processes.count():
            raise LetterwiseError(
                f"{rows} rows in a step cannot be divided evenly among {processes.count()} processes; choose a "
                "training.batch_size or training.gradient_accumulation that can."
            )
        model.train()
        # The number type is the model's own, whatever the launcher's configuration says of mixed precision.
        self.accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision="no",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        narrow = hardware.choose_dtype(self.device, settings.dtype) == torch.bfloat16
        # Around a base in 4 bits or Unsloth's model, the adapter is in float32 and what is computed is not.
        self.mixed = narrow and (settings.load_in_4bit or settings.use_unsloth)
        self.module = SummedLoss(model, settings.use_unsloth)
        self.sharded = is_sharded(model)
        self.summed_loss = self.module if self.sharded else self.accelerator.prepare_model(self.module)
        self.sizes = [len(batch) for batch in self.batches(self.rows(0))]
        self.compiled = False

    def compile(self) -> None:
        """Have the layers compiled when they next run; setting `compiled` to false undoes it."""
        self.module.compile_layers()
        self.compiled = True

    def __call__(self, step: int) -> tuple[float, int]:
        """Accumulate gradients; returns the mean loss over learned tokens and the number of tokens read, of all."""
        rows = self.rows(step)
        learned = max(1, int((self.packed.labels[rows] != IGNORED).sum()))
        batches = self.batches(rows)
        total = torch.zeros((), device=self.device)
        for place, batch in enumerate(batches, start=1):
            # Gradients of several processes are averaged, and here their sum is wanted.
            total += self._pass(batch, processes.count() / learned, together=place == len(batches))
        if self.sharded:
            self._average_gradients()
        tokens = int((self.packed.segments[rows] > 0).sum())
        return float(self.accelerator.reduce(total, "mean")), tokens

    def rehearse(self) -> None:
        """Forward and backward over one batch of each size, in this process alone and without a trace.

        No gradient is left, and random numbers drawn are drawn again.
        """
        batches = {len(batch): batch for batch in self.batches(self.rows(0))}
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for batch in batches.values():
                self._pass(batch, 1.0, together=False)
        for parameter in self.module.parameters():
            parameter.grad = None
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def batches(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """This process's share of the rows, in batches."""
        share, size = processes.share(rows), self.settings.batch_size
        return [share[start : start + size] for start in range(0, len(share), size)]

    def rows(self, step: int) -> list[int]:
        """Row numbers of one step: every epoch goes through all rows in another random order.

        With a curriculum the whole training goes through the same rows in the order in which they are packed.
        """
        size = self.settings.batch_size * self.settings.gradient_accumulation
        wanted = range(step * size, (step + 1) * size)
        if self.settings.curriculum == "length":
            return [int(self._ascending[place]) for place in wanted]
        orders = {epoch: self._order(epoch) for epoch in {place // len(self.packed) for place in wanted}}
        return [int(orders[place // len(self.packed)][place % len(self.packed)]) for place in wanted]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.packed))

    @cached_property
    def _ascending(self) -> NDArray[np.int64]:
        """Every row number of the training, as often as it comes, ascending."""
        size = self.settings.batch_size * self.settings.gradient_accumulation * self.settings.max_steps
        epochs = range(-(-size // len(self.packed)))
        return np.sort(np.concatenate([self._order(epoch) for epoch in epochs])[:size])

    def tensors(self, batch: Sequence[int]) -> list[torch.Tensor]:
        """Ids, labels, segments and positions of some rows, on the device."""
        packed = self.packed
        arrays = (packed.input_ids, packed.labels, packed.segments, packed.position_ids)
        return [torch.from_numpy(array[batch]).to(self.device) for array in arrays]

    def _average_gradients(self) -> None:
        """What DistributedDataParallel does by itself; around a sharded base the adapter is whole in each process."""
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        vector_to_parameters(self.accelerator.reduce(parameters_to_vector(gradients), "mean"), gradients)

    def _pass(self, batch: Sequence[int], scale: float, together: bool) -> torch.Tensor:
        """Forward and backward over some rows; with `together`, the gradients of all processes come together."""
        with (
            nullcontext() if together else self.accelerator.no_sync(self.summed_loss),
            torch.compiler.set_stance("default" if self.compiled else "force_eager"),
        ):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                summed = self.summed_loss(*self.tensors(batch))
            loss: torch.Tensor = summed * scale
            torch.autograd.backward(loss)
        return loss.detach()


class SummedLoss(torch.nn.Module):
    """A model with its loss over packed rows: the module that accelerate makes parallel."""

    def __init__(self, model: PeftModel, unsloth: bool) -> None:
        super().__init__()
        self.model = model
        self.inner = model.get_base_model()
        self.unsloth = unsloth
        self.loss = _letter_loss
        self.cap: float | None = getattr(self.inner.config.get_text_config(), "final_logit_softcapping", None)
        """Bound that the model's logits approach, as Gemma 2's do; None for none."""

    def compile_layers(self) -> None:
        """Have the repeated blocks, which share one compiled program, and the loss compiled when they next run."""
        for block in repeated_blocks(self.inner):
            block.compile(dynamic=False)
        self.loss = torch.compile(_letter_loss, dynamic=True)

    def forward(
        self, input_ids: torch.Tensor, labels: torch.Tensor, segments: torch.Tensor, position_ids: torch.Tensor
    ) -> torch.Tensor:
        """The sum of the losses of all tokens to learn."""
        if self.unsloth:
            return summed_loss(self.model, input_ids, labels, segments)
        return inside(self.model, lambda: self._summed(input_ids, labels, segments, position_ids))

    def _summed(
        self, input_ids: torch.Tensor, labels: torch.Tensor, segments: torch.Tensor, position_ids: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.inner.base_model(
            input_ids=input_ids,
            attention_mask=attention_masks(self.inner.config, segments, self.inner.dtype),
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        # The vocabulary is large beside the model: logits are computed where there is something to learn only.
        learned = labels != IGNORED
        return self.loss(self.inner.get_output_embeddings()(hidden[learned]), labels[learned], self.cap)


def _letter_loss(logits: torch.Tensor, labels: torch.Tensor, cap: float | None) -> torch.Tensor:
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
