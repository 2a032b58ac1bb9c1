"""A model divided among processes: each holds a part of every frozen weight (PyTorch's FSDP2; Zhao et al., 2023).

While a layer runs, its weights are gathered from all processes, and dropped again. So all of them have to run the same
number of passes, each with whatever it has to run. What is trainable stays whole in each process: an adapter is small,
and is then optimized, saved and resumed as without sharding. Knows nothing about what the model is for.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, TypeVar

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from letterwise import processes
from letterwise.config import TrainingConfig
from letterwise.models import quiet

Model = TypeVar("Model", bound=torch.nn.Module)
Result = TypeVar("Result")

_RUN_INSIDE = "run_inside"


def wanted(settings: TrainingConfig) -> bool:
    """Whether models are to be divided; one process alone holds the whole."""
    return settings.sharding == "full" and processes.count() > 1


def load_sharded(load: Callable[[torch.device], Model], device: torch.device) -> Model:
    """Load a model and keep this process's part of it; all processes have to do so.

    The processes of a machine take turns, so that one of them at a time holds the whole model in the machine's memory.
    On the device there is never more than one layer, or what is in none, beside the parts.

    Args:
        load: loads the whole model, adapter included, onto a device.
        device: where the parts are to lie.
    """
    gc.collect()  # a sharded model that is no longer used hangs together in cycles, and keeps its memory until then
    mesh = init_device_mesh(device.type, (processes.count(),))

    def work() -> Model:
        model = load(torch.device("cpu"))
        _shard(model, device, mesh)
        return model

    return processes.in_turn(work)


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether each process holds a part of the model."""
    return isinstance(model, FSDPModule)


def inside(model: torch.nn.Module, work: Callable[[], Result]) -> Result:
    """Run modules of a model as its own forward would, which gathers the weights that are in no layer."""
    if not isinstance(model, FSDPModule):
        return work()
    run_inside: Callable[[Callable[[], Result]], Result] = getattr(model, _RUN_INSIDE)
    return run_inside(work)


def repeated_blocks(model: torch.nn.Module) -> Sequence[torch.nn.Module]:
    """The transformer blocks: like one another, and most of the weights."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])


def _shard(model: torch.nn.Module, device: torch.device, mesh: Any) -> None:
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in trainable:
        parameter.data = parameter.data.to(device)
    # After every forward pass all weights are parts again, embeddings included: saving, which one process does, would
    # otherwise find them gathered and drop them there alone.
    with quiet():
        for module in (*repeated_blocks(model), model):
            fully_shard(module, mesh=mesh, ignored_params=trainable, reshard_after_forward=True)
    setattr(model, _RUN_INSIDE, MethodType(lambda _, work: work(), model))
    register_fsdp_forward_method(model, _RUN_INSIDE)
