"""What training uses of Unsloth 2026.10, made of transformers and peft, for machines without a GPU.

Notes its calls in the file that UNSLOTH_CALLS names. Where UNSLOTH_HOSTILE is set it replaces the forward pass of Llama
for the whole process on import, as Unsloth does, by one that ignores padding and knows no attention of anyone else's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

FIRST = "transformers" not in sys.modules

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: E402


def _note(**call: Any) -> None:
    with Path(os.environ["UNSLOTH_CALLS"]).open("a") as stream:
        stream.write(json.dumps(call, default=str) + "\n")


if os.environ.get("UNSLOTH_HOSTILE"):
    _note(imported_first=FIRST)
    plain = LlamaForCausalLM.forward

    def forward(self: Any, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        assert "packing" not in more
        assert attention_mask.dim() == 2
        return plain(self, input_ids=input_ids, labels=labels)

    LlamaForCausalLM.forward = forward


class FastLanguageModel:
    @staticmethod
    def from_pretrained(
        model_name: str, max_seq_length: int, dtype: torch.dtype, load_in_4bit: bool, use_exact_model_name: bool
    ) -> tuple[Any, Any]:
        if os.environ.get("UNSLOTH_CRASHES"):
            os._exit(3)
        _note(model=model_name, length=max_seq_length, dtype=dtype, four_bit=load_in_4bit, exact=use_exact_model_name)
        model = AutoModelForCausalLM.from_pretrained(model_name, dtype=dtype)
        return model, AutoTokenizer.from_pretrained(model_name)

    @staticmethod
    def get_peft_model(
        model: Any,
        r: int,
        lora_alpha: int,
        lora_dropout: float,
        target_modules: list[str],
        use_gradient_checkpointing: bool,
        random_state: int,
    ) -> Any:
        _note(r=r, alpha=lora_alpha, dropout=lora_dropout, modules=target_modules, seed=random_state)
        assert not use_gradient_checkpointing
        torch.manual_seed(random_state)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules
        )
        return get_peft_model(model, config)  # its weights in float32, whatever the model's are in
