"""What the engine uses of vLLM 0.33, computed by transformers on the processor, for machines without a GPU.

Requests are checked as vLLM checks them, and answers have the shape of its documented classes: `RequestOutput`,
`CompletionOutput` and `Logprob`. Says nothing about vLLM's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

MAX_LOGPROB_TOKEN_IDS = 128


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int = 16
    stop_token_ids: list[int] = field(default_factory=list)
    logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    detokenize: bool = True


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    logprob: float


@dataclass
class CompletionOutput:
    text: str
    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]


class LLM:
    """Takes the arguments that the engine gives, and notes them in `made`."""

    made: list[LLM] = []  # noqa: RUF012

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        enable_prefix_caching: bool,
        max_logprobs: int,
        generation_config: str,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
    ) -> None:
        self.dtype, self.prefix_caching, self.generation_config = dtype, enable_prefix_caching, generation_config
        self.max_logprobs = max_logprobs
        self.max_lora_rank = max_lora_rank if enable_lora else 0
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.requests: list[tuple[list[int], SamplingParams]] = []
        self.adapters: list[LoRARequest | None] = []
        LLM.made.append(self)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: SamplingParams | Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        several = isinstance(sampling_params, SamplingParams)
        params = [sampling_params] * len(prompts) if several else list(sampling_params)  # type: ignore[arg-type,list-item]
        asked = [(prompt["prompt_token_ids"], each) for prompt, each in zip(prompts, params, strict=True)]
        self.requests += asked
        self.adapters.append(lora_request)
        model: Any = self.model
        if lora_request:
            model = PeftModel.from_pretrained(self.model, lora_request.lora_path).eval()
            assert model.peft_config["default"].r <= self.max_lora_rank
        try:
            return [RequestOutput(ids, [self._complete(model, ids, each)]) for ids, each in asked]
        finally:
            if lora_request:
                self.model = model.unload()

    def _complete(self, model: Any, prompt: list[int], params: SamplingParams) -> CompletionOutput:
        assert params.temperature == 0.0
        assert params.logprob_token_ids is None or len(params.logprob_token_ids) <= MAX_LOGPROB_TOKEN_IDS
        assert params.logprobs is None or (params.logprobs == self.max_logprobs == -1)
        ids, logprobs = list(prompt), []
        while len(ids) < len(prompt) + params.max_tokens:
            logs = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], dim=-1)
            ids.append(int(logs.argmax()))
            named = range(len(logs)) if params.logprobs == -1 else params.logprob_token_ids or []
            # As vLLM does, the sampled token comes along, named or not.
            logprobs.append({token: Logprob(float(logs[token])) for token in (ids[-1], *named)})
            if ids[-1] in params.stop_token_ids:
                break
        told = params.logprobs is not None or params.logprob_token_ids is not None
        return CompletionOutput("", tuple(ids[len(prompt) :]), logprobs if told else None)


def modules() -> dict[str, ModuleType]:
    """By the names that are imported."""
    found = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    vars(found["vllm"]).update(LLM=LLM, SamplingParams=SamplingParams)
    vars(found["vllm.lora.request"]).update(LoRARequest=LoRARequest)
    return found
