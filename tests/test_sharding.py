"""What sharding is made of, in one process; tests/integration/test_processes.py divides models among two."""

from __future__ import annotations

import pytest
import torch

from letterwise import processes
from letterwise.adapters import add_adapter
from letterwise.config import LoraSection, TrainingConfig
from letterwise.engines.runner import key_shape
from letterwise.engines.sharded_runner import ShardedRunner, keep_pace
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.sharding import inside, is_sharded, repeated_blocks, wanted
from letterwise.tasks.spelling import spelling_prompt

CPU = torch.device("cpu")


def test_one_process_alone_holds_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    full = TrainingConfig(sharding="full")
    assert not wanted(full)
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert wanted(full)
    assert not wanted(TrainingConfig())


def test_layers_are_found_around_or_without_an_adapter(tiny_base: BaseModel) -> None:
    model = load_model(tiny_base, CPU, torch.float32)
    blocks = repeated_blocks(model)
    assert len(blocks) == model.config.num_hidden_layers
    adapted = add_adapter(model, LoraSection(rank=2), tiny_base)
    assert repeated_blocks(adapted) == blocks
    assert not is_sharded(adapted)
    assert inside(adapted, lambda: "as it is") == "as it is"


def test_a_process_with_nothing_to_ask_runs_empty_passes_until_the_others_are_done(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is played: it has three passes more to run."""
    model, tokenizer = load_model(tiny_base, CPU, torch.float32), load_tokenizer(tiny_base)
    engine = TransformersEngine(model, tokenizer)
    expected = engine.generate([spelling_prompt("garden")], 5)
    keep_pace(engine)  # not sharded: nobody is waited for
    others, said, logits = [True, True, True, False], [], []
    engine.runner = ShardedRunner(model, key_shape(model))
    run = engine.runner._pass

    def in_any(something: bool) -> bool:
        said.append(something)
        return others.pop(0)

    monkeypatch.setattr(processes, "in_any", in_any)
    monkeypatch.setattr(engine.runner, "_pass", lambda step: logits.append(run(step).logits))
    keep_pace(engine)

    assert said == [False] * 4
    assert [each.shape for each in logits] == [(1, model.config.vocab_size)] * 3
    assert all(each.isfinite().all() and not each.is_inference() for each in logits)
    monkeypatch.undo()
    fresh = TransformersEngine(model, tokenizer)
    fresh._prefixes.runner = fresh.runner = ShardedRunner(model, key_shape(model))
    assert fresh.generate([spelling_prompt("garden")], 5) == expected
