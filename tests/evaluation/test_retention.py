from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from letterwise.adapters import add_adapter
from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.evaluation.plain_text import Passages, prose_passages
from letterwise.evaluation.retention import compare_with_base, summarise_retention
from letterwise.evaluation.statistics import Bootstrap
from letterwise.models import BaseModel, load_model
from letterwise.results import TrainedRole

CPU = torch.device("cpu")
MakeAdapted = Callable[..., PeftModel]


@pytest.fixture
def make_adapted(tiny_base: BaseModel) -> MakeAdapted:
    """Makes a model with an adapter whose updates have the size given; none when fresh."""

    def make(size: float, **lora: object) -> PeftModel:
        section = LoraSection.model_validate({"rank": 4, "alpha": 8} | lora)
        model = add_adapter(load_model(tiny_base, CPU, torch.float32), section, tiny_base).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += size * torch.randn(parameter.shape, generator=generator)
        return model

    return make


@pytest.fixture(scope="session")
def passages(tiny_tokenizer: PreTrainedTokenizerBase) -> Passages:
    return prose_passages(tiny_tokenizer, passages=10, passage_tokens=24)


def by_hand(model: torch.nn.Module, passages: Passages) -> torch.Tensor:
    """Log probabilities of every next token, shape (passages, tokens - 1, vocabulary)."""
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor(passages.ids)).logits[:, :-1].double(), dim=-1)


def losses(log_probabilities: torch.Tensor, passages: Passages) -> torch.Tensor:
    targets = torch.tensor(passages.ids)[:, 1:]
    return functional.nll_loss(log_probabilities.transpose(1, 2), targets, reduction="none").mean(dim=1)


def test_the_text_is_whole_sentences_in_passages_of_equal_length(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    text = prose_passages(tiny_tokenizer)
    assert {len(ids) for ids in text.ids} == {128}
    assert len(text.ids) == 128
    assert len({tuple(ids) for ids in text.ids}) == 128
    written = " ".join(tiny_tokenizer.decode(ids) for ids in text.ids)
    assert " the " in written
    assert not any(sign in written for sign in (">>>", "::=", "{", "="))
    assert prose_passages(tiny_tokenizer) == text
    assert len(text.sha256) == 64
    assert "pydoc_data.topics of Python 3" in text.source


def test_fewer_passages_are_spread_over_the_same_text(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    whole = prose_passages(tiny_tokenizer, passages=10_000, passage_tokens=64)
    four = prose_passages(tiny_tokenizer, passages=4, passage_tokens=64)
    places = [whole.ids.index(ids) for ids in four.ids]
    assert places == [place * len(whole.ids) // 4 for place in range(4)]


def test_a_python_without_its_help_texts_is_told(
    tiny_tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(LetterwiseError, match="lacks its help texts"):
        prose_passages(tiny_tokenizer)


def test_a_fresh_adapter_changes_nothing(make_adapted: MakeAdapted, passages: Passages) -> None:
    told: list[int] = []
    found = compare_with_base(make_adapted(0.0), passages.ids, told.append)
    assert sum(told) == len(found) == 10
    assert (found["unchanged"] == 1).all()
    assert (found["divergence"] < 1e-6).all()
    assert found["loss"].tolist() == pytest.approx(found["base_loss"].tolist())


@pytest.mark.parametrize("embeddings", [False, True])
def test_what_is_measured_is_what_probabilities_by_hand_give(
    make_adapted: MakeAdapted, tiny_base: BaseModel, passages: Passages, embeddings: bool
) -> None:
    """Also where the adapter brings embeddings of its own, which the base model must not see."""
    base_model = load_model(tiny_base, CPU, torch.float32)
    name = "wte" if "gpt2" in str(tiny_base.folder) else "embed_tokens"
    adapted = make_adapted(0.05, **({"modules_to_save": [name]} if embeddings else {}))
    found = compare_with_base(adapted, passages.ids)
    base, tuned = by_hand(base_model, passages), by_hand(adapted, passages)
    assert found["base_loss"].tolist() == pytest.approx(losses(base, passages).tolist(), rel=1e-5)
    assert found["loss"].tolist() == pytest.approx(losses(tuned, passages).tolist(), rel=1e-5)
    divergence = functional.kl_div(tuned, base, reduction="none", log_target=True).sum(dim=-1).mean(dim=1)
    assert found["divergence"].tolist() == pytest.approx(divergence.tolist(), rel=1e-3)
    same = (base.argmax(dim=-1) == tuned.argmax(dim=-1)).double().mean(dim=1)
    assert found["unchanged"].tolist() == pytest.approx(same.tolist())
    assert 0 < found["unchanged"].mean() < 1


def test_perplexity_and_its_ratio_resample_the_same_passages(passages: Passages) -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(3, 1, 10)  # passages differ much, the models on each of them little
    table = pd.DataFrame({"base_loss": hard, "loss": hard + rng.normal(0.2, 0.01, 10)})
    table = table.assign(divergence=0.25, unchanged=[0.5, 1.0] * 5)
    compared: dict[TrainedRole, pd.DataFrame] = {"finetuned": table, "control": table.assign(loss=table["base_loss"])}
    revisions = {"base": "b" * 16, "finetuned": "f" * 16, "control": "c" * 16}
    found = summarise_retention(compared, passages, revisions, torch.float32, Bootstrap(500, 0))

    assert found.perplexity.keys() == {"base", "finetuned", "control"}
    assert found.perplexity["base"].value == pytest.approx(np.exp(hard.mean()))
    assert found.text.tokens == found.perplexity["base"].n == 10 * 23
    tuned = found.against_base["finetuned"]
    assert tuned.perplexity_ratio.value == pytest.approx(np.exp((table["loss"] - table["base_loss"]).mean()))
    assert tuned.perplexity_ratio.interval is not None
    low, high = tuned.perplexity_ratio.interval
    assert 1.19 < low < tuned.perplexity_ratio.value < high < 1.26
    wide = found.perplexity["finetuned"].interval
    assert wide is not None
    assert wide[1] / wide[0] > 1.5
    assert (tuned.unchanged_choices.value, tuned.kl_divergence.value) == (0.75, 0.25)
    assert found.against_base["control"].perplexity_ratio.value == 1
    assert found.dtype == "float32"
