"""The processes that work on one run together, as `torchrun` or `accelerate launch` started them.

Who is the main process, how work is divided and how results come together: a thin layer on accelerate, which reads
what the launcher says. One process alone is the main process and waits for nobody. Knows nothing about the work.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce

from letterwise.errors import LetterwiseError

Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_WAIT = timedelta(days=1)
"""The others wait while the main process builds data or resamples; the libraries' ten minutes are too short for it."""


@cache
def state() -> PartialState:
    """The process group, joined when first wanted; over gloo without a GPU, else over what the device has."""
    on_cpu = not torch.accelerator.is_available()
    if on_cpu and "RANK" in os.environ:
        # accelerate warns and chooses by itself where nobody says how many threads a process has.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    joined = PartialState(cpu=on_cpu, **({"timeout": LONGEST_WAIT} if launched else {}))
    atexit.register(_leave, joined)
    return joined


def _leave(joined: PartialState) -> None:
    """Leave the process group while Python is whole: a thread of gloo's that frees a tensor later ends the process."""
    gc.collect()  # sharded models hold the group, and hang together in cycles
    joined.destroy_process_group()


def refuse_sharding_by_launcher() -> None:
    """Make sure that the configuration alone says how a model is divided.

    Raises:
        LetterwiseError: the launcher was told to shard it.
    """
    for name, variable in (("FSDP", "ACCELERATE_USE_FSDP"), ("DeepSpeed", "ACCELERATE_USE_DEEPSPEED")):
        if os.environ.get(variable, "").lower() == "true":
            raise LetterwiseError(
                f"{name} of the launcher is not supported; launch without it (accelerate launch --multi_gpu, or "
                "torchrun), and set training.sharding to full where the model is to be divided."
            )


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return bool(state().is_main_process)


def count() -> int:
    """How many processes there are."""
    return int(state().num_processes)


def wait_for_everyone() -> None:
    """Go on when all processes have come here."""
    state().wait_for_everyone()


def decided_by_main(decide: Callable[[], Result]) -> Result:
    """What the main process finds, known to all."""
    found = [decide() if is_main() else None]
    return broadcast_object_list(found)[0] if count() > 1 else found[0]  # type: ignore[return-value]


def one_after_another(work: Callable[[], Result]) -> Result:
    """Let the main process do something first, then one process of each machine, then all: they may share a cache."""
    done: list[Result] = []
    for turn in (state().is_main_process, state().is_local_main_process, True):
        if turn and not done:
            done.append(work())
        wait_for_everyone()
    return done[0]


def in_turn(work: Callable[[], Result]) -> Result:
    """Let the processes of each machine do something one after the other."""
    done: list[Result] = []
    for turn in range(count()):
        if turn == state().local_process_index:
            done.append(work())
        wait_for_everyone()
    return done[0]


def in_any(something: bool) -> bool:
    """Whether it is so in any process; all have to ask."""
    return bool(reduce(torch.tensor(float(something), device=state().device), "sum") > 0)


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This process's part of the items: as many as the others have, give or take one."""
    with state().split_between_processes(list(items)) as part:
        return part  # type: ignore[no-any-return]


def gathered(results: Sequence[Result]) -> list[Result]:
    """The results of all processes, in the order of `share`."""
    return list(gather_object(list(results)))


def seed_apart(seed: int, step: int) -> None:
    """Give each process but the main one random numbers of its own, so that dropout differs between them."""
    if not is_main():
        torch.manual_seed((seed << 40) + (step << 16) + state().process_index)
