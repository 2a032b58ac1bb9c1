"""Held against the reference engine, with a stand-in for vLLM that has its interface; and with vLLM where it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import fake_vllm
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.adapters import add_adapter, load_adapter, save_adapter
from letterwise.config import LoraSection
from letterwise.engines import vllm_engine
from letterwise.engines.engine import Engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.vllm_engine import VllmEngine, load_vllm
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.tasks.questions import Prompt, count_question, direct_prompt, position_question
from letterwise.tasks.spelling import spelling_prompt

CPU = torch.device("cpu")
WORDS = ["strawberry", "fig", "unbelievable", "kiwi"]
PROMPTS = [
    *(spelling_prompt(word) for word in WORDS),
    *(direct_prompt(count_question(word, "r")) for word in WORDS),
    *(direct_prompt(position_question(word, 2)) for word in WORDS),
    Prompt("Header", "\nAnswer: "),  # where a candidate merges with the prompt's last token
]
CANDIDATES = (list("0123456789"), list(ascii_lowercase), ["strawberry", "straw", "st", "fig", "a"])
NEW_TOKENS = 8


@pytest.fixture(autouse=True)
def _vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, module in fake_vllm.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    fake_vllm.LLM.made.clear()
    vllm_engine._start.cache_clear()
    yield
    vllm_engine._start.cache_clear()


@pytest.fixture(scope="module")
def tiny_base(tiny_llama: Path) -> BaseModel:
    """One architecture will do: all that differs between them is vLLM's part."""
    return resolve_base(str(tiny_llama))


@pytest.fixture(scope="module")
def tokenizer(tiny_base: BaseModel) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="module")
def model(tiny_base: BaseModel) -> PreTrainedModel:
    return load_model(tiny_base, CPU, torch.float32)


@pytest.fixture
def engine(tiny_base: BaseModel, tokenizer: PreTrainedTokenizerBase) -> VllmEngine:
    return VllmEngine(load_vllm(tiny_base, torch.float32, []), tokenizer, None)


@pytest.fixture
def adapter(tiny_base: BaseModel, tmp_path: Path) -> Path:
    """One that changes the answers: its weights are random, also those that begin as zeros."""
    adapted = add_adapter(load_model(tiny_base, CPU, torch.float32), LoraSection(rank=4, alpha=8), tiny_base)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in (parameter for parameter in adapted.parameters() if parameter.requires_grad):
            torch.nn.init.normal_(parameter, std=0.3)
    save_adapter(adapted, tiny_base, tmp_path / "adapter")
    return tmp_path / "adapter"


def answers_agree(engine: Engine, reference: Engine) -> None:
    written = engine.generate(PROMPTS, NEW_TOKENS, letter_probabilities=True, drafts=["s t r a w"] * len(PROMPTS))
    expected = reference.generate(PROMPTS, NEW_TOKENS, letter_probabilities=True)
    for one, other in zip(written, expected, strict=True):
        assert (one.text, one.token_texts) == (other.text, other.token_texts)
        assert len(one.letter_probabilities) == len(other.letter_probabilities)
        for step, wanted in zip(one.letter_probabilities, other.letter_probabilities, strict=True):
            assert step == pytest.approx(wanted, abs=1e-4)
    candidates = [CANDIDATES[number % 3] for number in range(len(PROMPTS))]
    scores, generations = engine.score_and_generate(PROMPTS, candidates, NEW_TOKENS)
    assert [(each.text, each.letter_probabilities) for each in generations] == [(each.text, ()) for each in expected]
    for found, right in zip(scores, reference.score(PROMPTS, candidates), strict=True):
        assert found == pytest.approx(right, abs=1e-4)


def test_it_answers_as_the_reference_engine(
    engine: VllmEngine, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Single- and multi-token candidates, lines that end early and late."""
    answers_agree(engine, TransformersEngine(model, tokenizer))


def test_an_adapter_answers_beside_its_base_from_one_vllm(
    tiny_base: BaseModel, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, adapter: Path
) -> None:
    tuned, base = (
        VllmEngine(load_vllm(tiny_base, torch.float32, [adapter]), tokenizer, each) for each in (adapter, None)
    )
    fresh = load_model(tiny_base, CPU, torch.float32)
    answers_agree(tuned, TransformersEngine(load_adapter(fresh, adapter, tiny_base), tokenizer))
    answers_agree(base, TransformersEngine(model, tokenizer))
    (llm,) = fake_vllm.LLM.made
    assert llm.max_lora_rank == 8
    assert {request and request.lora_path for request in llm.adapters} == {str(adapter), None}


def test_an_adapter_with_whole_modules_is_refused(tiny_base: BaseModel, adapter: Path, engine: VllmEngine) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "modules_to_save": ["lm_head"]}))
    with pytest.raises(LetterwiseError, match=r"brings whole modules \(lm_head\), which vLLM does not load"):
        VllmEngine(load_vllm(tiny_base, torch.float32, [adapter]), load_tokenizer(tiny_base), adapter)


def test_more_tokens_than_vllm_names_at_once(
    engine: VllmEngine, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """104 letter tokens, and 26 candidates: vLLM's limit is 128, and another vocabulary may have more."""
    monkeypatch.setattr(vllm_engine, "MOST_CHOSEN", 20)
    monkeypatch.setattr(fake_vllm, "MAX_LOGPROB_TOKEN_IDS", 20)
    answers_agree(engine, TransformersEngine(model, tokenizer))


def test_vllm_is_told_to_keep_prefixes_and_to_end_where_a_line_ends(
    engine: VllmEngine, tokenizer: PreTrainedTokenizerBase
) -> None:
    engine.generate(PROMPTS[:1], NEW_TOKENS)
    (llm,) = fake_vllm.LLM.made
    assert (llm.dtype, llm.prefix_caching, llm.generation_config) == ("float32", True, "vllm")
    ((prompt, params),) = llm.requests
    assert prompt == tokenizer.encode(PROMPTS[0].text)
    assert {*tokenizer.encode("\n"), tokenizer.eos_token_id} <= set(params.stop_token_ids)
    assert not params.detokenize
    assert (params.logprobs, params.logprob_token_ids) == (None, None)


def test_a_score_asks_once_for_what_candidates_share(engine: VllmEngine, tokenizer: PreTrainedTokenizerBase) -> None:
    engine.score(PROMPTS[4:6], [CANDIDATES[0]] * 2)
    (llm,) = fake_vllm.LLM.made
    assert [params.logprob_token_ids for _, params in llm.requests] == [
        [tokenizer.encode(f" {digit}")[0] for digit in CANDIDATES[0]]
    ] * 2
    assert all(params.max_tokens == 1 for _, params in llm.requests)


def test_nothing_asked_gives_nothing(engine: VllmEngine) -> None:
    assert engine.generate([], NEW_TOKENS) == []
    assert engine.score([], []) == []
    assert fake_vllm.LLM.made[0].requests == []


def test_what_vllm_cannot_run_is_one_sentence(
    tiny_base: BaseModel, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_engine, "LORA_RANKS", (2,))
    with pytest.raises(LetterwiseError, match="up to rank 2, and this one has rank 4"):
        load_vllm(tiny_base, torch.float32, [adapter])

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("No available memory for the cache blocks.\nTry increasing it.")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", refuse)
    with pytest.raises(LetterwiseError, match=r"cannot run .*: No available memory.*; see above, or use the engine"):
        load_vllm(tiny_base, torch.float32, [])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_itself_agrees_with_the_reference_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    for name in fake_vllm.modules():
        monkeypatch.delitem(sys.modules, name)
    if not hardware.is_installed("vllm"):
        pytest.skip("vllm is not installed")
    base = resolve_base("embedded")
    tokenizer, device = load_tokenizer(base), hardware.choose_device()
    reference = TransformersEngine(load_model(base, device, torch.float32), tokenizer)
    prompts = [direct_prompt(count_question(word, "r")) for word in WORDS * 10]
    scores = VllmEngine(load_vllm(base, torch.float32, []), tokenizer, None).score(prompts, [CANDIDATES[0]] * 40)
    for found, right in zip(scores, reference.score(prompts, [CANDIDATES[0]] * 40), strict=True):
        assert found == pytest.approx(right, abs=0.02)
