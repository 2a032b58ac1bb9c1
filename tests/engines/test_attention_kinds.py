"""Attention that is more than causal: layers that see the last tokens only, and scores that are bounded."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from letterwise.data.packing import attention_masks, pack, tokenize_examples
from letterwise.engines import packed_model
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.tasks.questions import direct_prompt, position_question
from letterwise.tasks.spelling import SpellingExample, spelling_prompt

SIZES: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512, "initializer_range": 0.2},
}
WORDS = ["strawberry", "fig", "unbelievable", "plum"]
PROMPTS = [
    *(direct_prompt(position_question(word, 2)) for word in WORDS),
    *(spelling_prompt(word) for word in WORDS),
]


@pytest.fixture(scope="module", params=["every layer with a window", "every other one, and bounded scores"])
def model(request: pytest.FixtureRequest, tiny_tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    sizes = {**SIZES, "vocab_size": len(tiny_tokenizer), "sliding_window": 8}
    torch.manual_seed(0)
    if "bounded" not in request.param:
        return MistralForCausalLM._from_config(MistralConfig(**sizes), attn_implementation="eager").eval()
    config = Gemma2Config(**sizes, query_pre_attn_scalar=16, attn_logit_softcapping=0.5, final_logit_softcapping=2.0)
    return Gemma2ForCausalLM._from_config(config, attn_implementation="eager").eval()


@torch.inference_mode()
def test_an_engine_scores_as_the_model_does(
    model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [tiny_tokenizer.encode(f" {letter}")[0] for letter in ascii_lowercase]
    expected = []
    for prompt in PROMPTS:
        logits = model(torch.tensor([tiny_tokenizer.encode(prompt.text)]), use_cache=False).logits[0, -1]
        expected.append(torch.softmax(logits[answers], dim=0))

    def scored() -> torch.Tensor:
        engine = TransformersEngine(model, tiny_tokenizer, 4)
        return torch.tensor(engine.score(PROMPTS, [list(ascii_lowercase)] * len(PROMPTS)))

    torch.testing.assert_close(scored(), torch.stack(expected), rtol=1e-3, atol=1e-6)
    if model.config.model_type == "gemma2":
        monkeypatch.setattr(packed_model, "_capped", lambda scores, softcap: scores)
    else:
        monkeypatch.setattr(model.model.layers[0].self_attn.config, "sliding_window", None)
    assert not torch.allclose(scored(), torch.stack(expected), rtol=1e-2), "the prompts would not tell"


@torch.inference_mode()
def test_packed_texts_are_read_as_they_are_alone(
    model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    texts = [SpellingExample(f"Question about {word}: how is {word} spelled by you?", ((0, 8),)) for word in WORDS]
    examples = tokenize_examples(tiny_tokenizer, texts)
    rows = pack(examples, 96, 0)
    segments = torch.from_numpy(rows.segments)
    packed = model(
        input_ids=torch.from_numpy(rows.input_ids),
        attention_mask=attention_masks(model.config, segments, torch.float32),
        position_ids=torch.from_numpy(rows.position_ids),
    ).logits
    assert segments.max() > 2
    assert max(len(example.input_ids) for example in examples) > 2 * model.config.sliding_window
    alone = {tuple(each.input_ids): model(torch.tensor([each.input_ids])).logits[0] for each in examples}
    for row in range(len(rows)):
        for segment in range(1, int(segments[row].max()) + 1):
            places = segments[row] == segment
            ids = tuple(rows.input_ids[row][places.numpy()])
            torch.testing.assert_close(packed[row, places], alone[ids], rtol=1e-3, atol=1e-4)
