"""Whether a training is compiled, what it says about that, and what becomes of compiling that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from letterwise import hardware
from letterwise.config import ExperimentConfig, LoraSection, TrainingConfig
from letterwise.errors import LetterwiseError
from letterwise.models import load_model, resolve_base
from letterwise.results import read_training_log
from letterwise.training.compiled_code import VARIABLE, CompiledCode, Seconds
from letterwise.training.compiling import (
    FEW_PASSES,
    FIRST_SECONDS,
    LOADED_SECONDS,
    begin,
    decide,
    note_passes,
    shape_of_training,
)
from letterwise.training.train import TrainingReport

Train = Callable[..., TrainingReport]
MakeConfig = Callable[..., ExperimentConfig]

CPU = torch.device("cpu")
AUTO = TrainingConfig(compile="auto")
MEASURED = Seconds(first=60.0, loaded=9.0, eager_pass=1.0, compiled_pass=0.6)


class Step:
    """What a training step looks like from here; each of `problems` is raised by one pass."""

    def __init__(self, *problems: Exception | None) -> None:
        self.sizes = [4]
        self.compiled = False
        self.passes = 0
        self.folders: list[Path | None] = []
        self.problems = list(problems)

    def compile(self) -> None:
        self.compiled = True

    def rehearse(self) -> None:
        self.passes += 1
        if not self.compiled:
            return
        folder = Path(torch._inductor.runtime.cache_dir_utils.cache_dir())
        self.folders.append(folder)
        (folder / "kernel.so").write_text(f"compiled in pass {self.passes}")
        if self.problems and (problem := self.problems.pop(0)):
            raise problem


@pytest.fixture(autouse=True)
def _a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpp_compiler", lambda: "g++")


def start(step: Step, steps: int, compile_: Any = "auto") -> list[str]:
    """What is said when a training of some steps begins."""
    said: list[str] = []
    with CompiledCode({"shape": 1}) as code:
        begin(step, code, TrainingConfig(compile=compile_), CPU, steps, said.append)
    return said


def note(**measured: float) -> None:
    CompiledCode({"shape": 1}).note(**measured)


@pytest.mark.parametrize(
    ("there", "steps", "compiled"),
    [(False, 150, False), (False, 151, True), (True, 22, False), (True, 23, True)],
)
def test_what_is_kept_repays_itself_much_earlier(there: bool, steps: int, compiled: bool) -> None:
    """0.4 s less a pass repay 60 s in 150 passes, and 9 s in 22.5."""
    decision = decide(there, MEASURED, steps, passes=1)
    assert decision.compile is compiled
    assert decide(there, MEASURED, -(-steps // 2), passes=2).compile == (compiled or steps % 2 == 1)
    what = "loading compiled layers takes about 9 s" if there else "compiling the layers takes about 60 s"
    saved = f"saves about {0.4 * steps:.0f} s in {steps} steps, as measured here before"
    assert decision.reason == f"{'Compiled' if compiled else 'Not compiled'}: {what} and {saved}."


def test_before_anything_is_measured_there_are_estimates() -> None:
    eager = Seconds(eager_pass=2.0)
    saved_by_a_pass = 0.46
    for there, cost in ((False, FIRST_SECONDS), (True, LOADED_SECONDS)):
        enough = int(cost / saved_by_a_pass) + 1
        assert decide(there, eager, enough, passes=1).compile
        assert not decide(there, eager, enough - 1, passes=1).compile
        assert "by an estimate from another machine" in str(decide(there, eager, enough, passes=1).reason)


def test_what_is_slower_compiled_is_never_compiled() -> None:
    slower = Seconds(first=1.0, loaded=0.1, eager_pass=1.0, compiled_pass=1.1)
    decision = decide(True, slower, 1_000_000, passes=1)
    assert not decision.compile
    assert "saves about 0 s" in str(decision.reason)


def test_a_first_training_times_a_pass_and_later_ones_know_it() -> None:
    step = Step()
    (said,) = start(step, FEW_PASSES)
    assert said.startswith("Not compiled: compiling the layers takes about 35 s and saves about 0 s in 10 steps, by an")
    assert step.passes == 2
    assert (CompiledCode({"shape": 1}).seconds().eager_pass or 0) >= 0
    again = Step()
    start(again, FEW_PASSES)
    assert again.passes == 0
    few = Step()
    assert start(few, FEW_PASSES - 1) == ["Not compiled: 9 steps are too few."]
    assert start(few, 0) == []
    assert few.passes == 0


def test_compiling_and_loading_are_timed_and_decide_the_next_time() -> None:
    note(eager_pass=10.0)
    assert start(first := Step(), 100)[0].startswith("Compiled: compiling the layers takes about 35 s and saves about")
    assert first.compiled
    measured = CompiledCode({"shape": 1}).seconds()
    assert measured.first is not None
    assert measured.loaded is None
    assert "loading compiled layers takes about 10 s" in start(Step(), 100)[0]
    assert CompiledCode({"shape": 1}).seconds().loaded is not None
    note(compiled_pass=9.0, loaded=120.0)
    assert start(slow := Step(), 100) == [
        "Not compiled: loading compiled layers takes about 120 s and saves about 100 s in 100 steps, as measured here "
        "before."
    ]
    assert not slow.compiled


def test_how_long_passes_take_is_known_after_some_of_them() -> None:
    code, step = CompiledCode({"shape": 1}), Step()
    step.sizes = [4, 4]
    seconds = [60.0, *[2.0] * FEW_PASSES]  # the first step is not what counts
    note_passes(step, code, AUTO, seconds[: FEW_PASSES - 1])
    note_passes(step, code, TrainingConfig(compile=False), seconds)
    assert code.seconds() == Seconds()
    note_passes(step, code, AUTO, seconds)
    assert code.seconds() == Seconds(eager_pass=1.0)
    step.compiled = True
    note_passes(step, code, AUTO, seconds)
    assert code.seconds() == Seconds(eager_pass=1.0, compiled_pass=1.0)


def test_kept_code_that_does_not_load_is_compiled_anew_once() -> None:
    start(Step(), 1, compile_=True)
    kept = next(CompiledCode({"shape": 1}).folder.rglob("kernel.so"))
    assert kept.read_text() == "compiled in pass 1"
    step = Step(OSError("kernel.so: file too short"))
    assert start(step, 1, compile_=True) == ["Compiled: training.compile says so."]
    assert step.compiled
    assert step.folders[0] != step.folders[1]
    assert kept.read_text() == "compiled in pass 2"


def test_where_compiling_fails_training_goes_on_without() -> None:
    step = Step(RuntimeError("no room\nfor this"), OSError("g++ is broken\nin many lines"))
    said = start(step, 1, compile_=True)
    assert said[1:] == [
        "Compiling failed (OSError: g++ is broken); training goes on with layers that are not compiled."
    ]
    assert not step.compiled
    assert not list(CompiledCode({"shape": 1}).folder.rglob("kernel.so"))


def test_an_interruption_is_none_of_these_failures() -> None:
    with pytest.raises(KeyboardInterrupt):
        start(Step(KeyboardInterrupt()), 1, compile_=True)  # type: ignore[arg-type]
    assert not list(CompiledCode({"shape": 1}).folder.rglob("kernel.so"))


@pytest.mark.parametrize(("device", "compiler"), [("cpu", None), ("mps", "g++")])
def test_what_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch, device: str, compiler: str | None) -> None:
    monkeypatch.setattr(hardware, "cpp_compiler", lambda: compiler)
    code, step = CompiledCode({"shape": 1}), Step()
    assert begin(step, code, AUTO, torch.device(device), 1000, pytest.fail) == 0.0
    with pytest.raises(LetterwiseError, match=r"install g\+\+ or set it to false"):
        begin(step, code, TrainingConfig(compile=True), torch.device(device), 1000, pytest.fail)
    assert not step.compiled


@pytest.mark.parametrize(
    ("settings", "lora", "threads"),
    [
        ({"batch_size": 5}, {}, 1),
        ({"row_length": 64}, {}, 1),
        ({"gradient_accumulation": 2}, {}, 1),
        ({}, {"rank": 8}, 1),
        ({}, {"target_modules": ["q_proj"]}, 1),
        ({}, {}, 2),
    ],
)
def test_another_shape_has_other_code(
    tiny_llama: Path, settings: dict[str, Any], lora: dict[str, Any], threads: int
) -> None:
    model = load_model(resolve_base(str(tiny_llama)), CPU, torch.float32)

    def folder(settings: dict[str, Any], lora: dict[str, Any], dtype: torch.dtype = torch.float32) -> Path:
        shape = shape_of_training(model, TrainingConfig(**settings), LoraSection(**lora), CPU, dtype)
        return CompiledCode(shape).folder

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        plain = folder({}, {})
        # What is computed does not depend on how long, or from where, it is trained.
        assert folder({"max_steps": 5, "learning_rate": 1.0, "evaluate_every": 1}, {}) == plain
        model.config._name_or_path = "elsewhere"
        assert folder({}, {}) == plain != folder({}, {}, torch.bfloat16)
        torch.set_num_threads(threads)
        assert folder(settings, lora) != plain
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def compiled_as_is() -> Iterator[None]:
    """Traced as for a compiler, and run as it was traced: the way there, without the minute that machine code takes."""
    torch.compiler.set_default_backend("aot_eager")
    yield
    torch.compiler.set_default_backend(None)
    torch.compiler.reset()


@pytest.mark.usefixtures("compiled_as_is")
def test_a_compiled_training_is_the_same_training(
    run_training: Train, make_config: MakeConfig, own_cache: Path
) -> None:
    plain, compiled = make_config("plain"), make_config("compiled", compile=True)
    said: list[str] = []
    without_dropout = LoraSection(rank=4, alpha=8)
    for config in (plain, compiled):
        run_training(config.model_copy(update={"lora": without_dropout}), say=said.append)
    assert said == ["Compiled: training.compile says so."]
    losses = [
        [entry.loss for entry in read_training_log(config.run_folder / "training_log.jsonl") if entry.loss is not None]
        for config in (plain, compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(list(own_cache.glob("compiled/*/code"))) == 1


@pytest.mark.slow
def test_machine_code_is_kept_and_a_broken_file_mended(
    run_one_training: Train, make_config: MakeConfig, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The header compiled in advance takes longer than these few kernels.
    monkeypatch.setattr("torch._inductor.config.cpp_cache_precompile_headers", False)
    monkeypatch.setattr("letterwise.training.step.repeated_blocks", lambda _: ())  # the loss alone, for time
    lora = LoraSection(rank=4, alpha=8, target_modules=["q_proj"])
    said: list[str] = []

    def train_once(name: str) -> tuple[float, ...]:
        """The three losses."""
        config = make_config(name, compile=True, max_steps=3).model_copy(update={"lora": lora})
        run_one_training(config, say=said.append)
        log = read_training_log(config.run_folder / "training_log.jsonl")
        return tuple(entry.loss for entry in log if entry.loss is not None)

    losses = train_once("first")
    (record,) = own_cache.glob("compiled/*/seconds.json")
    libraries = sorted(record.parent.rglob("*.main.so"))  # others only ask the compiler what the processor can do
    made = [path.stat().st_mtime_ns for path in libraries]
    assert libraries
    assert '"loaded": null' in record.read_text()

    assert train_once("again") == losses
    assert '"loaded": null' not in record.read_text()
    assert sorted(record.parent.rglob("*.main.so")) == libraries
    assert [path.stat().st_mtime_ns for path in libraries] == made

    libraries[0].write_bytes(libraries[0].read_bytes()[:100])
    assert train_once("mended") == losses
    mended = [path.stat().st_size for path in record.parent.rglob("*.main.so")]
    assert mended
    assert min(mended) > 100
    assert said == ["Compiled: training.compile says so."] * 3
    assert VARIABLE not in os.environ
