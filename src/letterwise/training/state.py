"""What a training run needs to go on after an interruption: weights, optimizer, place and log.

Knows how to save and restore these; knows nothing about the loss or the data.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from letterwise import processes
from letterwise.adapters import write_adapter
from letterwise.config import TrainingConfig
from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, explained_write_errors, read_json, write_json, write_text
from letterwise.models import BaseModel
from letterwise.results import TrainedRole, TrainingLogEntry, read_training_log

LAST, BEST = "last", "best"


class AdapterOptimizer:
    """AdamW in float32 over adapter weights of any number type, with linear warm-up and cosine decay to a tenth.

    All weights lie behind one another in a single master, for an adapter has hundreds of small ones, and on a processor
    as many calls for each of AdamW's operations cost more than the numbers do.
    """

    def __init__(self, model: torch.nn.Module, config: TrainingConfig) -> None:
        self.parameters: list[torch.Tensor] = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.master = torch.cat([parameter.detach().float().flatten() for parameter in self.parameters])
        self.master.grad = torch.zeros_like(self.master)
        self.config = config
        self.adamw = torch.optim.AdamW(
            [self.master], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        config = self.config
        decay_steps = max(1, config.max_steps - config.warmup_steps)
        progress = min(1.0, max(0.0, (step - config.warmup_steps) / decay_steps))
        decayed = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))
        return config.learning_rate * min((step + 1) / (config.warmup_steps + 1), decayed)

    @torch.no_grad()
    def step(self, step: int) -> float:
        """Apply the gradients that the weights hold, and clear them; returns the gradient norm before clipping."""
        assert self.master.grad is not None
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self.parameters]
        torch._foreach_copy_(self._parts(self.master.grad), gradients)
        for weight in self.parameters:
            weight.grad = None
        norm = torch.nn.utils.clip_grad_norm_([self.master], self.config.max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = self.learning_rate(step)
        self.adamw.step()
        torch._foreach_copy_(self.parameters, self._parts(self.master))
        return float(norm)

    def _parts(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """Views of the master, or of its gradient, in the shapes of the weights."""
        parts = torch.split(whole, [weight.numel() for weight in self.parameters])
        return [part.view_as(weight) for part, weight in zip(parts, self.parameters, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs."""
        return {"adamw": self.adamw.state_dict(), "master": self.master}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved optimizer and the weights it keeps."""
        self.adamw.load_state_dict(state["adamw"])
        self.master.copy_(state["master"])
        torch._foreach_copy_(self.parameters, self._parts(self.master))


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_step: int = 0
    evaluations_without_gain: int = 0
    finished: bool = False
    identity: str = field(default="")
    """Fingerprint of what determines the run; a checkpoint of another run is not resumed."""


def save_checkpoint(
    folder: Path,
    model: PeftModel,
    base: BaseModel,
    optimizer: AdapterOptimizer,
    progress: Progress,
    role: TrainedRole = "finetuned",
) -> None:
    """Write the resumable checkpoint ``last``, atomically; all processes hold the same, so the main one writes."""
    if not processes.is_main():
        return
    with atomic_path(folder / LAST) as temporary:
        write_adapter(model, base, temporary, role)
        state = {**optimizer.state_dict(), "random": torch.get_rng_state()}
        torch.save(state, temporary / "optimizer.pt")
        write_json(temporary / "progress.json", asdict(progress))


def load_checkpoint(folder: Path, optimizer: AdapterOptimizer, identity: str) -> Progress | None:
    """Restore the checkpoint ``last`` if there is one of this very run and its best adapter is still there.

    Raises:
        LetterwiseError: the checkpoint is broken.
    """
    progress_file = folder / LAST / "progress.json"
    if not progress_file.is_file():
        return None
    saved = read_json(progress_file)
    if saved.get("identity") != identity or (saved.get("best_step") and not (folder / BEST).is_dir()):
        return None
    try:
        progress = Progress(**saved)
        state = torch.load(folder / LAST / "optimizer.pt", weights_only=True)
        optimizer.load_state_dict(state)
        torch.set_rng_state(state["random"])
    except Exception as error:  # a truncated or foreign file raises many kinds
        raise LetterwiseError(f"The checkpoint {folder / LAST} is broken; delete it to start anew.") from error
    return progress


class TrainingLog:
    """``training_log.jsonl``: one line a step, of one or more models, written by the main process."""

    def __init__(self, path: Path, model: str, after_step: int) -> None:
        """Open the log, dropping this model's lines after a step (they will be written again)."""
        self.path = path
        if not processes.is_main():
            return
        entries = read_training_log(path) if path.is_file() else []
        kept = [entry for entry in entries if entry.model != model or entry.step <= after_step]
        write_text(path, "".join(entry.model_dump_json() + "\n" for entry in kept))

    def add(self, entry: TrainingLogEntry) -> None:
        """Append one line."""
        if not processes.is_main():
            return
        with explained_write_errors(self.path), self.path.open("a", encoding="utf-8") as stream:
            stream.write(entry.model_dump_json() + "\n")
