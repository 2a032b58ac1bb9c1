"""The engine for many prompts on an NVIDIA GPU: vLLM, which batches and caches prefixes by itself.

One base model in vLLM serves any number of adapters. Candidates are scored by the probabilities of their tokens, each
behind those before it: prefixes that prompts share are computed once. Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from letterwise.adapters import adapter_rank, saved_modules
from letterwise.engines.engine import Generation
from letterwise.engines.tokens import PromptTokens
from letterwise.engines.written_text import LETTERS, WrittenText
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, first_line
from letterwise.tasks.questions import Prompt

MOST_CHOSEN = 128
"""vLLM gives the probabilities of at most this many tokens that one names (its MAX_LOGPROB_TOKEN_IDS)."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM can set aside for adapters (its MaxLoRARanks)."""
_adapter_numbers = count(1)


class VllmModel:
    """A base model that vLLM runs; one call at a time."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._lock = Lock()

    def ask(self, prompts: Sequence[Sequence[int]], params: Any, adapter: Any) -> list[Any]:
        """vLLM's completion of each prompt, given as token ids.

        Args:
            prompts: token ids.
            params: vLLM's SamplingParams, one for all prompts or one for each.
            adapter: vLLM's LoRARequest, or None for the bare base model.
        """
        with self._lock:
            asked = [{"prompt_token_ids": list(ids)} for ids in prompts]
            answers = self._llm.generate(asked, params, use_tqdm=False, lora_request=adapter)
        return [answer.outputs[0] for answer in answers]


def load_vllm(base: BaseModel, dtype: torch.dtype, adapters: Sequence[Path]) -> VllmModel:
    """The base model in vLLM, with room for these adapters; the same as the last time where nothing differs.

    Raises:
        LetterwiseError: vLLM cannot run this model, or an adapter's rank is too high.
    """
    rank = max(map(adapter_rank, adapters), default=0)
    room = next((each for each in LORA_RANKS if each >= rank), None)
    if room is None:
        raise LetterwiseError(f"vLLM takes adapters up to rank {LORA_RANKS[-1]}, and this one has rank {rank}.")
    try:
        return _start(str(base.folder), str(dtype).removeprefix("torch."), room if rank else 0)
    except Exception as error:  # it raises many kinds, for want of memory or of the architecture
        raise LetterwiseError(
            f"vLLM cannot run {base.id}: {first_line(error)}; see above, or use the engine transformers."
        ) from error


# One model fills most of the GPU, so there is one at a time, and all that can share it do.
@lru_cache(maxsize=1)
def _start(folder: str, dtype: str, rank: int) -> VllmModel:
    from vllm import LLM

    torch.cuda.empty_cache()  # what training kept for itself in this process
    for_adapters = {"enable_lora": True, "max_lora_rank": rank} if rank else {}
    return VllmModel(
        LLM(
            model=folder,
            dtype=dtype,
            enable_prefix_caching=True,
            max_logprobs=-1,
            generation_config="vllm",  # what ends a text is said with each request
            **for_adapters,
        )
    )


class VllmEngine:
    """Greedy generation and scoring with a model that vLLM runs."""

    def __init__(self, model: VllmModel, tokenizer: PreTrainedTokenizerBase, adapter: Path | None) -> None:
        """Prepare; nothing runs before it is asked.

        Args:
            model: the base model.
            tokenizer: of that model.
            adapter: folder of a LoRA adapter; None for the bare base model.
        """
        self._model = model
        self._tokens = PromptTokens(tokenizer)
        self._written = WrittenText(tokenizer, len(tokenizer))
        self._adapter = _lora_request(adapter) if adapter else None

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        """Greedy continuation of each prompt up to a line break, in the order given; drafts are not needed."""
        if not prompts:
            return []
        probabilities = self._of_letters() if letter_probabilities else {}
        params = _greedy(max_new_tokens, stop_token_ids=sorted(self._written.end_ids), **probabilities)
        outputs = self._model.ask(self._tokens.encode_all([each.text for each in prompts]), params, self._adapter)
        return [
            self._written.generation(
                list(output.token_ids),
                [self._by_letter(step) for step in output.logprobs] if letter_probabilities else [],
            )
            for output in outputs
        ]

    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Probabilities of each prompt's candidates, in the order given, summing to one for each prompt."""
        encoded = self._tokens.encode_all([prompt.text for prompt in prompts])
        parts = [
            self._tokens.continuations(prompt.text, ids, answers)
            for prompt, ids, answers in zip(prompts, encoded, candidates, strict=True)
        ]
        wanted: dict[tuple[int, ...], dict[int, None]] = {}
        for stem, endings in parts:
            for ending in endings:
                for place, token in enumerate(ending):
                    wanted.setdefault((*stem, *ending[:place]), {})[token] = None
        logs = self._next_token_logs({behind: list(tokens) for behind, tokens in wanted.items()})
        return [
            _normalised([sum(logs[(*stem, *end[:place])][token] for place, token in enumerate(end)) for end in endings])
            for stem, endings in parts
        ]

    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        """Both; vLLM keeps what it computed of the prompts for the first when it does the second."""
        return self.score(prompts, candidates), self.generate(prompts, max_new_tokens)

    def _next_token_logs(self, wanted: dict[tuple[int, ...], list[int]]) -> dict[tuple[int, ...], dict[int, float]]:
        """Log probabilities of the wanted tokens behind each sequence of tokens."""
        asked = [
            (behind, tokens[start : start + MOST_CHOSEN])
            for behind, tokens in wanted.items()
            for start in range(0, len(tokens), MOST_CHOSEN)
        ]
        if not asked:
            return {}
        params = [_greedy(1, logprob_token_ids=tokens) for _, tokens in asked]
        outputs = self._model.ask([behind for behind, _ in asked], params, self._adapter)
        logs: dict[tuple[int, ...], dict[int, float]] = {behind: {} for behind in wanted}
        for (behind, tokens), output in zip(asked, outputs, strict=True):
            logs[behind].update((token, output.logprobs[0][token].logprob) for token in tokens)
        return logs

    def _of_letters(self) -> dict[str, Any]:
        """What to ask vLLM for to get the probability of every letter."""
        letters = self._written.letter_tokens
        return {"logprob_token_ids": letters} if len(letters) <= MOST_CHOSEN else {"logprobs": -1}

    def _by_letter(self, step: Any) -> list[float]:
        """Probability of each letter and, last, of any other token."""
        by_letter = [0.0] * len(LETTERS)
        for token, index in zip(self._written.letter_tokens, self._written.letter_indices, strict=True):
            by_letter[index] += math.exp(step[token].logprob)
        return [*by_letter, max(0.0, 1 - sum(by_letter))]


def _greedy(max_tokens: int, **more: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(temperature=0.0, max_tokens=max_tokens, detokenize=False, **more)


def _lora_request(adapter: Path) -> Any:
    if whole := saved_modules(adapter):
        raise LetterwiseError(
            f"The adapter {adapter} brings whole modules ({', '.join(whole)}), which vLLM does not load; merge it with "
            "`letterwise merge`, or choose the engine transformers."
        )
    from vllm.lora.request import LoRARequest

    number = next(_adapter_numbers)
    return LoRARequest(f"adapter-{number}", number, str(adapter))


def _normalised(logs: Sequence[float]) -> list[float]:
    probabilities: list[float] = torch.softmax(torch.tensor(logs), dim=0).tolist()
    return probabilities
