"""One text a row learns what packed rows learn; Unsloth's interface, by a stand-in; Unsloth itself where it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file

from letterwise import hardware
from letterwise.adapters import add_adapter, load_adapter
from letterwise.config import ExperimentConfig, TrainingConfig
from letterwise.data.packing import pack_singly
from letterwise.errors import LetterwiseError
from letterwise.evaluation.evaluate import QuickEvaluation, quick_evaluation
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.pipeline import _trainer
from letterwise.reporting.console import Terminal
from letterwise.results import read_training_log
from letterwise.run_folder import Run
from letterwise.training.own_process import train_in_own_process
from letterwise.training.state import AdapterOptimizer
from letterwise.training.tracking import NoTracker
from letterwise.training.train import TrainingReport, TrainingStep, train, training_rows
from letterwise.training.unsloth_model import padding_notice

CPU = torch.device("cpu")
FAKE = Path(__file__).parents[1] / "support" / "fake_unsloth"
MakeConfig = Callable[..., ExperimentConfig]
MODULES = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Puts the stand-in where `import unsloth` finds it, in processes started from here too, and tells its calls."""
    monkeypatch.syspath_prepend(str(FAKE))
    noted = tmp_path / "calls.jsonl"
    monkeypatch.setenv("UNSLOTH_CALLS", str(noted))
    yield lambda: [json.loads(line) for line in noted.read_text().splitlines()]
    sys.modules.pop("unsloth", None)


@pytest.fixture
def llama(tiny_llama: Path) -> BaseModel:
    return resolve_base(str(tiny_llama))


def test_one_text_a_row_trains_as_packed_rows_do(tiny_base: BaseModel, training_texts: Dataset) -> None:
    """The losses of four steps on all texts, padding and other texts in the row aside."""
    tokenizer = load_tokenizer(tiny_base)
    found: list[list[tuple[float, int]]] = []
    for use_unsloth in (False, True):
        settings = TrainingConfig(row_length=128, learning_rate=5e-3, dtype="float32", use_unsloth=use_unsloth)
        rows = training_rows("finetuned", training_texts, tokenizer, settings, 0)
        assert (rows.segments.max() == 1) == use_unsloth
        settings = settings.model_copy(update={"batch_size": len(rows)})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = add_adapter(
                load_model(tiny_base, CPU, torch.float32), ExperimentConfig(run_name="x").lora, tiny_base
            )
        step, optimizer = TrainingStep(model, rows, settings, 0), AdapterOptimizer(model, settings)
        found.append([])
        for number in range(4):
            found[-1].append(step(number))
            optimizer.step(number)
    (packed, single) = found
    assert [tokens for _, tokens in single] == [tokens for _, tokens in packed]
    assert [loss for loss, _ in single] == pytest.approx([loss for loss, _ in packed], rel=1e-4)
    assert packed[-1][0] < 0.98 * packed[0][0]


def test_much_padding_is_told(llama: BaseModel, training_texts: Dataset) -> None:
    settings = TrainingConfig(row_length=512, use_unsloth=True)
    rows = training_rows("finetuned", training_texts, load_tokenizer(llama), settings, 0)
    longest = int((rows.segments > 0).sum(axis=1).max())
    sentence = padding_notice(rows, len(rows))
    assert sentence is not None
    assert f"about {1 - rows.tokens / (len(rows) * longest):.0%} of what is computed is padding" in sentence
    assert padding_notice(rows, 1) is None


def test_a_text_longer_than_its_row_is_refused(training_texts: Dataset, llama: BaseModel) -> None:
    with pytest.raises(LetterwiseError, match="raise row_length"):
        training_rows(
            "finetuned", training_texts, load_tokenizer(llama), TrainingConfig(row_length=16, use_unsloth=True), 0
        )
    assert len(pack_singly([], 16, 0)) == 0


def test_unsloth_gets_our_settings_and_its_adapter_loads_as_usual(
    make_config: MakeConfig, llama: BaseModel, training_texts: Dataset, calls: Callable[[], list[dict[str, Any]]]
) -> None:
    config = make_config(use_unsloth=True, load_in_4bit=True, row_length=96, max_steps=2)

    def evaluate(model: PeftModel) -> QuickEvaluation:
        return QuickEvaluation({"spelling_accuracy": 0.5}, {"spelling_accuracy": 10})

    report = train(
        config, llama, load_tokenizer(llama), training_texts, "finetuned", evaluate, NoTracker(), say=lambda line: None
    )
    loaded, adapted = calls()
    assert loaded == {
        "model": str(llama.folder),
        "length": 96,
        "dtype": "torch.float32",
        "four_bit": True,
        "exact": True,
    }
    assert adapted == {"r": 4, "alpha": 8, "dropout": 0.1, "modules": MODULES, "seed": 0}
    written = json.loads((report.adapter / "adapter_config.json").read_text())
    assert (written["base_model_name_or_path"], written["revision"]) == (llama.id, llama.revision)
    tuned = load_adapter(load_model(llama, CPU, torch.float32), report.adapter, llama)
    kept = load_file(report.adapter / "adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in kept.items() if "lora_B" in name)
    loaded_weights = dict(tuned.named_parameters())
    for name, tensor in kept.items():
        assert torch.equal(loaded_weights[name.replace(".weight", ".default.weight")], tensor)


def test_it_is_not_even_imported_unless_asked_for(
    run_one_training: Callable[..., TrainingReport], make_config: MakeConfig, calls: Callable[[], list[dict[str, Any]]]
) -> None:
    run_one_training(make_config(max_steps=1))
    assert "unsloth" not in sys.modules


@pytest.mark.parametrize(
    ("setting", "package", "extra"), [("use_unsloth", "unsloth", "unsloth"), ("load_in_4bit", "bitsandbytes", "gpu")]
)
def test_what_it_needs_is_one_sentence(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, setting: str, package: str, extra: str
) -> None:
    run = Run(make_config(**{setting: True}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LetterwiseError, match=rf"^training.{setting} needs an NVIDIA GPU, and PyTorch finds none here"):
        _trainer(run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(hardware, "is_installed", lambda name: name != package)
    with pytest.raises(LetterwiseError, match=rf"needs {package}: pip install 'letterwise\[{extra}\]'"):
        _trainer(run)


def test_where_training_runs_is_chosen_and_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "is_installed", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert _trainer(Run(make_config(dtype="auto", use_unsloth=True), Terminal())) is train_in_own_process
    assert _trainer(Run(make_config(dtype="auto", load_in_4bit=True), Terminal())) is train
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _trainer(Run(make_config(dtype="float32"), Terminal())) is train
    assert capsys.readouterr().out.splitlines() == [
        "  on cuda (NVIDIA H100) in bfloat16, Unsloth",
        "  on cuda (NVIDIA H100) in bfloat16, 4-bit base",
        f"  on cpu ({hardware.cpu_name()}) in float32",
    ]


@pytest.mark.slow
def test_it_trains_in_a_process_of_its_own_and_is_measured_in_this_one(
    make_config: MakeConfig,
    llama: BaseModel,
    training_texts: Dataset,
    calls: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in replaces Llama's forward pass, so that nothing could be measured beside it."""
    monkeypatch.setenv("UNSLOTH_HOSTILE", "1")
    config, tokenizer = make_config(use_unsloth=True, max_steps=4), load_tokenizer(llama)
    measured: list[QuickEvaluation] = []
    steps: list[int] = []

    def evaluate(model: PeftModel) -> QuickEvaluation:
        measured.append(quick_evaluation(model, tokenizer, ["straw", "plums"], [], 8))
        return measured[-1]

    report = train_in_own_process(
        config,
        llama,
        tokenizer,
        training_texts,
        "finetuned",
        evaluate,
        NoTracker(),
        on_step=lambda figures: steps.append(figures.step),
    )
    assert "unsloth" not in sys.modules
    assert calls()[0] == {"imported_first": True}
    assert (report.steps, steps) == (4, [1, 2, 3, 4])
    log = read_training_log(config.run_folder / "training_log.jsonl")
    assert [entry.evaluation for entry in log if entry.evaluation] == [each.metrics for each in measured]
    assert len(measured) == 3
    load_adapter(load_model(llama, CPU, torch.float32), report.adapter, llama)
    # Finished: nothing is trained again, and the report is the same.
    assert train_in_own_process(config, llama, tokenizer, training_texts, "finetuned", evaluate, NoTracker()) == report
    assert len(measured) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "variable", "sentence"),
    [({"row_length": 16}, None, "raise row_length"), ({}, "UNSLOTH_CRASHES", "ended with code 3")],
)
def test_what_goes_wrong_in_that_process_is_told_here(
    make_config: MakeConfig,
    llama: BaseModel,
    training_texts: Dataset,
    calls: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    variable: str | None,
    sentence: str,
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")

    def evaluate(model: PeftModel) -> QuickEvaluation:
        raise AssertionError

    with pytest.raises(LetterwiseError, match=sentence):
        train_in_own_process(
            make_config(use_unsloth=True, **change),
            llama,
            load_tokenizer(llama),
            training_texts,
            "finetuned",
            evaluate,
            NoTracker(),
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_unsloth_itself_trains(make_config: MakeConfig, training_texts: Dataset) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    if not hardware.is_installed("unsloth"):
        pytest.skip("unsloth is not installed")
    base = resolve_base("embedded")
    config, tokenizer = make_config(use_unsloth=True, max_steps=20, evaluate_every=20), load_tokenizer(base)
    rows = training_texts

    def evaluate(model: PeftModel) -> QuickEvaluation:
        return quick_evaluation(model, tokenizer, ["straw", "plums"], [], 8)

    report = train_in_own_process(config, base, tokenizer, rows, "finetuned", evaluate, NoTracker())
    log = read_training_log(config.run_folder / "training_log.jsonl")
    losses = [entry.loss for entry in log if entry.loss is not None]
    assert sum(losses[-5:]) < sum(losses[:5])
    load_adapter(load_model(base, hardware.choose_device(), torch.float32), report.adapter, base)
