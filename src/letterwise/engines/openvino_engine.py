"""The engine for processors: the model compiled by OpenVINO, which fuses what PyTorch runs one by one.

Computes in bfloat16 where the processor can, as the reference engine does, else in float32. Knows nothing about tasks,
files or metrics.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.engines.causal_engine import CausalEngine
from letterwise.engines.openvino_quietly import openvino
from letterwise.engines.packed_model import PackedModel, Step, additive
from letterwise.engines.runner import KeyShape, Output, key_shape
from letterwise.engines.shapes import padded, unpadded

_ANY = -1


class OpenVinoEngine(CausalEngine):
    """Greedy generation and scoring with a causal language model of transformers, on the CPU."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64) -> None:
        """Compile a loaded model, which takes some seconds; the model itself is not needed afterwards.

        Args:
            model: in float32, on the CPU, in evaluation mode, without an adapter beside its weights.
            tokenizer: of that model.
            batch_size: prompts in one forward pass.
        """
        shape = key_shape(model)
        super().__init__(OpenVinoRunner(model, shape), shape, model.config.vocab_size, tokenizer, batch_size)


class OpenVinoRunner:
    """Runs a compiled model; one call at a time."""

    device = torch.device("cpu")
    dtype = torch.float32
    """Of what goes in and comes out; the inside may be narrower."""

    def __init__(self, model: PreTrainedModel, shape: KeyShape) -> None:
        self._shape = shape
        core = openvino.Core()
        narrow = hardware.choose_dtype(self.device) == torch.bfloat16
        compiled = core.compile_model(
            convert(model, shape),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "PERFORMANCE_HINT": "LATENCY",
                # What it prepares for each shape would be kept for thousands of them; these are the last batches'.
                "CPU_RUNTIME_CACHE_CAPACITY": 60,
            },
        )
        self._request = compiled.create_infer_request()

    def run(self, step: Step) -> Output:
        """One forward pass."""
        run = padded(step)
        arguments = arguments_of(run, run.past or no_past(self._shape, len(run.sees_own)))
        results = self._request.infer([tensor.numpy() for tensor in arguments], share_inputs=True)
        # The request keeps its output tensors for the next call, so they are copied out.
        logits, *present = (torch.from_numpy(np.array(results[place])) for place in range(len(results)))
        return unpadded(Output(logits, tuple(present)), step)


def convert(model: PreTrainedModel, shape: KeyShape) -> openvino.Model:
    """The model as OpenVINO's graph, with every length free but those that the model fixes."""
    example = example_step(shape)
    lengths: list[list[int]] = [[_ANY], [_ANY], [_ANY], [_ANY], [2 * shape.layers, shape.heads, _ANY, shape.size]]
    lengths += [[_ANY, _ANY], [_ANY, _ANY, _ANY], [_ANY]]
    lengths += [[_ANY, shape.heads, _ANY, shape.size]] * len(example.past)
    try:
        return openvino.convert_model(
            PackedModel(model),
            example_input=arguments_of(example, example.past),
            input=[openvino.PartialShape(dimensions) for dimensions in lengths],
        )
    finally:
        _forget_traces()


def _forget_traces() -> None:
    """Free what PyTorch keeps of every trace for the life of the process: 200 MiB of a model of 30 layers.

    As OpenVINO's own examples do it ("cleanup_torchscript_cache").
    """
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


def example_step(shape: KeyShape) -> Step:
    """A step with all that there can be, to trace the model with: two rows, one and two tokens, a prefix and a past."""
    kept = torch.arange(3)
    return Step(
        ids=kept,
        positions=kept,
        unpack=torch.tensor([0, 0, 1, 2]),
        pack=torch.tensor([0, 2, 3]),
        prefix=torch.zeros(2 * shape.layers, shape.heads, 5, shape.size),
        sees_prefix=torch.ones(2, 5, dtype=torch.bool),
        sees_own=torch.ones(2, 2, 4, dtype=torch.bool),
        past=tuple(torch.zeros(2, shape.heads, 2, shape.size) for _ in range(2 * shape.layers)),
        keep=kept,
    )


def arguments_of(step: Step, past: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What `PackedModel.forward` takes."""
    masks = additive(step.sees_prefix, torch.float32), additive(step.sees_own, torch.float32)
    return step.ids, step.positions, step.unpack, step.pack, step.prefix, *masks, step.keep, *past


def no_past(shape: KeyShape, rows: int) -> tuple[Tensor, ...]:
    """What `Step.past` is for so many rows without one, in a graph that always takes it."""
    return (torch.zeros(rows, shape.heads, 0, shape.size, dtype=torch.float32),) * (2 * shape.layers)
