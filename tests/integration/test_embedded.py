"""A small run on the real default model: it learns, nothing leaks, and merging changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from letterwise.adapters import load_adapter
from letterwise.data.build import load_data
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.errors import LetterwiseError
from letterwise.models import EMBEDDED, load_model, load_tokenizer, resolve_base
from letterwise.results import DataAudit, EvaluationResults, read_results, read_training_log
from letterwise.tasks.spelling import spelling_prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Letterwise = Callable[..., int]
WORDS = 40
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def experiment(
    tmp_path_factory: pytest.TempPathFactory, write_config: Callable[..., Path], letterwise: Letterwise
) -> Path:
    """Folder of a small run: 30 steps of training, then the base and the tuned model spell 40 words."""
    try:
        resolve_base(EMBEDDED)
    except LetterwiseError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("embedded")
    config = write_config(
        folder,
        Path(EMBEDDED),
        run_name="embedded",
        words__validation_words=WORDS,
        words__test_words=WORDS,
        words__min_zipf=3.5,
        data__train_examples=2000,
        lora__rank=16,
        lora__alpha=32,
        training__max_steps=30,
        training__batch_size=4,
        training__row_length=96,
        training__evaluate_every=30,
        training__checkpoint_every=30,
        training__compile="off",
        evaluation__limit=WORDS,
        evaluation__modes=["direct"],
    )
    assert letterwise("train", "--config", str(config)) == 0
    adapter = folder / "checkpoints/embedded/finetuned/best"
    output = folder / "evaluation"
    options = ["--task", "spelling", "--adapter", str(adapter), "--output", str(output)]
    assert letterwise("evaluate", "--config", str(config), *options) == 0
    return folder


def test_nothing_leaks_from_a_real_vocabulary(experiment: Path) -> None:
    audit = read_results(experiment / "results/embedded/data_audit.json", DataAudit)

    assert audit.passed
    assert set(audit.overlaps.values()) == {0}
    assert audit.single_token_held_out_words == 0
    assert audit.n["training_surface_forms"] > 1000


def test_the_loss_falls(experiment: Path) -> None:
    log = read_training_log(experiment / "results/embedded/training_log.jsonl")
    losses = [entry.loss for entry in log if entry.loss is not None]

    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_the_base_model_cannot_spell(experiment: Path) -> None:
    """With two examples in the prompt it spells about one held-out word in twenty-five."""
    results = read_results(experiment / "evaluation/evaluation_results.json", EvaluationResults)

    assert results.base_model.n["spelling_accuracy"] == WORDS
    assert results.base_model.metrics["spelling_accuracy"] < 0.15
    assert results.finetuned_model
    assert results.finetuned_model.metrics["character_level_accuracy"] > 0


def test_a_merged_model_writes_what_base_and_adapter_write(experiment: Path, letterwise: Letterwise) -> None:
    base = resolve_base(EMBEDDED)
    adapter, merged = experiment / "checkpoints/embedded/finetuned/best", experiment / "merged"
    spelling, _ = load_data(experiment / "results/embedded/data")
    prompts = [spelling_prompt(word) for word in spelling["test"]["word"][:20]]

    assert letterwise("merge", str(adapter), str(merged)) == 0

    tuned = load_adapter(load_model(base, CPU, torch.float32), adapter, base)
    alone = load_model(resolve_base(str(merged)), CPU, torch.float32)
    tokenizer = load_tokenizer(base)
    expected, written = (
        [generation.text for generation in TransformersEngine(model, tokenizer, 20).generate(prompts, 24)]
        for model in (tuned, alone)
    )
    assert written == expected
    assert len(set(written)) > 10
