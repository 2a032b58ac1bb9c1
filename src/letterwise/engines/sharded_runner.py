"""Runs a model of which each process holds a part: no process can run a pass without the others.

Each says before a pass that it has one to run; who has no more keeps running empty passes until nobody has. Knows
nothing about prompts.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from letterwise import processes
from letterwise.engines.engine import Engine
from letterwise.engines.packed_model import Step
from letterwise.engines.runner import KeyShape, Output, TorchRunner


class ShardedRunner(TorchRunner):
    """The runner of PyTorch around a sharded model."""

    def __init__(self, model: PreTrainedModel, shape: KeyShape) -> None:
        super().__init__(model)
        self._shape = shape

    def run(self, step: Step) -> Output:
        """One forward pass, while the other processes run one too."""
        processes.in_any(True)
        return self._gathering_pass(step)

    def finish(self) -> None:
        """Come back when no process has passes to run; all have to come here."""
        while processes.in_any(False):
            self._gathering_pass(self._empty_step())

    def _gathering_pass(self, step: Step) -> Output:
        # Weights gathered in inference mode could not be gathered anew for training.
        with torch.inference_mode(False), torch.no_grad():
            return self._pass(step)

    def _empty_step(self) -> Step:
        """One token behind nothing."""
        token = torch.zeros(1, dtype=torch.long, device=self.device)
        return Step(
            ids=token,
            positions=token,
            unpack=token,
            pack=token,
            prefix=self._shape.no_prefix(self.dtype, self.device),
            sees_prefix=torch.zeros(1, 0, dtype=torch.bool, device=self.device),
            sees_own=torch.ones(1, 1, 1, dtype=torch.bool, device=self.device),
            past=(),
            keep=token,
        )


def keep_pace(engine: Engine) -> None:
    """Wait until all processes have asked what they had to ask; where the model is not sharded, go on at once.

    Whatever brings processes together, such as a barrier, has to come after this.
    """
    runner = getattr(engine, "runner", None)
    if isinstance(runner, ShardedRunner):
        runner.finish()
