"""The reference engine: a transformers model in PyTorch, on any device.

Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.engines.causal_engine import CausalEngine
from letterwise.engines.runner import TorchRunner, key_shape
from letterwise.engines.sharded_runner import ShardedRunner
from letterwise.sharding import is_sharded


class TransformersEngine(CausalEngine):
    """Greedy generation and scoring with a causal language model of transformers or peft."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64) -> None:
        """Wrap a loaded model.

        Args:
            model: in evaluation mode, on its device or sharded.
            tokenizer: of that model.
            batch_size: prompts in one forward pass.
        """
        shape = key_shape(model)
        runner = ShardedRunner(model, shape) if is_sharded(model) else TorchRunner(model)
        super().__init__(runner, shape, model.config.vocab_size, tokenizer, batch_size)
