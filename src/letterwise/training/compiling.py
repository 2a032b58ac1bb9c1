"""Whether to compile a training's layers, by what that costs and saves in this very run; and starting it compiled.

Both are measured: every start notes how long compiling took, or loading what was compiled before, and every training
how long a pass takes. Knows a training step as something to compile and to time; knows nothing about the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import peft
import torch
import transformers

from letterwise import __version__, hardware, processes
from letterwise.config import LoraSection, TrainingConfig
from letterwise.errors import LetterwiseError
from letterwise.models import first_line
from letterwise.training.compiled_code import CompiledCode, Seconds

FIRST_SECONDS = 35.0
"""Compiling, where it was not measured yet: the embedded model's layers on two AMD cores without AMX."""
LOADED_SECONDS = 10.0
"""Loading what was compiled before, where that was not measured yet; the same model and machine."""
COMPILED_SHARE = 0.77
"""A compiled pass takes this share of an uncompiled one's time, where it was not measured yet; the same model and
machine, 351 against 455 tokens/s. With AMX it is less."""
FEW_PASSES = 10
"""So few passes can repay no compilation, so they are not timed either."""


class Compilable(Protocol):
    """A training step, as far as this module needs it."""

    sizes: list[int]
    """Rows of each batch of an optimizer step in this process."""
    compiled: bool
    """Whether the layers run compiled."""

    def compile(self) -> None:
        """Have the layers compiled when they next run."""
        ...

    def rehearse(self) -> None:
        """Forward and backward over one batch of each size, of which nothing remains."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to compile, and the line that says why."""

    compile: bool
    reason: str | None = None


def shape_of_training(
    model: Any, settings: TrainingConfig, lora: LoraSection, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """All that compiled code depends on: versions, machine, architecture, adapter, and the shape of a batch.

    Args:
        model: of transformers; only its configuration matters, not its weights.
        settings: batch size and row length.
        lora: rank, dropout and targets.
        device: where it runs.
        dtype: number type of the weights.
    """
    on_gpu = device.type == "cuda"
    unlike = ("_name_or_path", "transformers_version", "dtype")
    return {
        "versions": [__version__, torch.__version__, transformers.__version__, peft.__version__],
        "machine": [hardware.gpu_name()] if on_gpu else [hardware.cpu_name(), *hardware.cpu_features()],
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "architecture": {name: value for name, value in model.config.to_dict().items() if name not in unlike},
        "adapter": lora.model_dump(),
        "batch": [settings.batch_size, settings.gradient_accumulation, settings.row_length],
        "dtype": str(dtype),
    }


def begin(
    step: Compilable,
    code: CompiledCode,
    settings: TrainingConfig,
    device: torch.device,
    steps_left: int,
    say: Callable[[str], None],
) -> float:
    """Decide whether the steps run compiled, and have them compiled if so; all processes have to come here.

    Args:
        step: what to compile.
        code: of this shape of training.
        settings: `compile` among them.
        device: where it runs.
        steps_left: of this run; with none left, nothing is done.
        say: prints one line for the user.

    Returns:
        The seconds that this took.

    Raises:
        LetterwiseError: the configuration demands what this machine cannot do.
    """
    if steps_left <= 0:
        return 0.0
    started = time.perf_counter()
    able = device.type != "mps" and hardware.cpp_compiler() is not None
    if settings.compile is True and not able:
        raise LetterwiseError(
            "training.compile needs a C++ compiler and no MPS device; install g++ or set it to false."
        )
    if settings.compile is False or (settings.compile == "auto" and (_own_ways(settings) or not able)):
        return 0.0
    decision = processes.decided_by_main(lambda: _decision(step, code, settings, steps_left))
    if decision.reason:
        say(decision.reason)
    if decision.compile:
        problems = processes.gathered([processes.one_after_another(lambda: _compile(step, code))])
        if problem := next(filter(None, problems), None):
            step.compiled = False
            say(f"Compiling failed ({problem}); training goes on with layers that are not compiled.")
    return time.perf_counter() - started


def note_passes(step: Compilable, code: CompiledCode, settings: TrainingConfig, step_seconds: list[float]) -> None:
    """Keep how long a pass took, once that is well known: the next such training decides by it."""
    if settings.compile is False or _own_ways(settings) or len(step_seconds) < FEW_PASSES or not processes.is_main():
        return
    median = sorted(step_seconds)[len(step_seconds) // 2] / len(step.sizes)
    code.note(**{"compiled_pass" if step.compiled else "eager_pass": median})


def decide(there: bool, measured: Seconds, steps_left: int, passes: int) -> Decision:
    """Whether compiling repays itself in the steps left.

    Args:
        there: whether code of such a training is kept.
        measured: of such trainings; `eager_pass` has to be known.
        steps_left: optimizer steps of this run.
        passes: batches in each of them.
    """
    assert measured.eager_pass is not None
    cost = measured.loaded if there else measured.first
    known = cost is not None and measured.compiled_pass is not None
    if cost is None:
        cost = LOADED_SECONDS if there else FIRST_SECONDS
    compiled = measured.compiled_pass
    if compiled is None:
        compiled = COMPILED_SHARE * measured.eager_pass
    saved = steps_left * passes * (measured.eager_pass - compiled)
    source = "as measured here before" if known else "by an estimate from another machine"
    what = "loading compiled layers takes" if there else "compiling the layers takes"
    sums = f"{what} about {cost:,.0f} s and saves about {max(saved, 0):,.0f} s in {steps_left:,} steps, {source}"
    return Decision(saved > cost, f"{'Compiled' if saved > cost else 'Not compiled'}: {sums}.")


def _own_ways(settings: TrainingConfig) -> bool:
    """Whether layers run in a way that is compiled only where the configuration demands it, or never."""
    return settings.use_unsloth or settings.load_in_4bit or settings.sharding == "full"


def _decision(step: Compilable, code: CompiledCode, settings: TrainingConfig, steps_left: int) -> Decision:
    if settings.compile is True:
        return Decision(True, "Compiled: training.compile says so.")
    if steps_left * len(step.sizes) < FEW_PASSES:
        return Decision(False, f"Not compiled: {steps_left} steps are too few.")
    measured = code.seconds()
    if measured.eager_pass is None:
        eager_pass = _timed_pass(step)
        measured = replace(measured, eager_pass=eager_pass)
        code.note(eager_pass=eager_pass)
    return decide(code.is_there(), measured, steps_left, len(step.sizes))


def _timed_pass(step: Compilable) -> float:
    step.rehearse()  # the first is slower than those to come
    started = time.perf_counter()
    step.rehearse()
    return (time.perf_counter() - started) / len(set(step.sizes))


def _compile(step: Compilable, code: CompiledCode) -> str | None:
    """Compile in this process; returns what is wrong if that cannot be done.

    Kept code that does not load is dropped, and compiled anew once. The second attempt does without the header that
    PyTorch compiles in advance into a folder of the system's, for a process that was killed may have left half of it.
    """
    from torch._inductor import config as inductor  # it takes seconds, and no other command needs it

    there = code.is_there()
    problem = None
    step.compile()
    for attempt in range(2):
        code.take_out(fresh=attempt > 0)
        compiled_before, started = _graphs_compiled(), time.perf_counter()
        try:
            with inductor.patch(cpp_cache_precompile_headers=attempt == 0):
                step.rehearse()
        except Exception as error:  # the compiler, its code and the loader raise many kinds
            cause = getattr(error, "inner_exception", error)
            problem = f"{type(cause).__name__}: {first_line(cause)}"
            code.drop()
            continue
        loaded = there and attempt == 0 and _graphs_compiled() == compiled_before
        if processes.is_main():
            code.keep()
            code.note(**{"loaded" if loaded else "first": time.perf_counter() - started})
        return None
    return problem


def _graphs_compiled() -> int:
    from torch._dynamo.utils import counters

    return int(counters["inductor"]["fxgraph_cache_miss"])
