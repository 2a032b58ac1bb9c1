"""Two processes on one run, as `torchrun` starts them: the same training and the same evaluation as one alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from letterwise.files import sha256_file
from letterwise.results import read_training_log

Letterwise = Callable[..., int]
WriteConfig = Callable[..., Path]

pytestmark = pytest.mark.slow

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
WEIGHTS = "checkpoints/tiny/finetuned/best/adapter_model.safetensors"
SMALL_PIECES = """
from letterwise.cli import main
from letterwise.evaluation import pieces

pieces.PIECE = 3
main()
"""
STOPPED_AFTER_FOUR_STEPS = """
from letterwise.cli import main
from letterwise.training import train

say = train.StepFigures.__init__

def stop(self, step, *rest):
    if step == 4:
        raise SystemExit(7)
    say(self, step, *rest)

train.StepFigures.__init__ = stop
main()
"""
SHARDED = """
from letterwise import evaluation_steps
from letterwise.cli import main
from letterwise.evaluation import pieces
from letterwise.sharding import is_sharded
from letterwise.training import train

def checked(load):
    def loaded(*arguments):
        model = load(*arguments)
        assert is_sharded(model)
        return model
    return loaded

pieces.PIECE = 3
train._model_with_adapter = checked(train._model_with_adapter)
evaluation_steps.load_for_inference = checked(evaluation_steps.load_for_inference)
main()
"""
ONE_ASKS_MORE = """
import sys

from torch.distributed.tensor import DTensor

from letterwise import processes
from letterwise.engines.sharded_runner import ShardedRunner, keep_pace
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation_steps import load_for_inference
from letterwise.models import load_tokenizer, resolve_base
from letterwise.tasks.spelling import spelling_prompt


def main() -> None:
    base = resolve_base(sys.argv[1])
    whole = load_for_inference(base, None)
    parts = load_for_inference(base, None, sharded=True)
    assert all(isinstance(parameter, DTensor) for parameter in parts.parameters())
    held = sum(parameter.to_local().untyped_storage().nbytes() for parameter in parts.parameters())
    assert held < 0.52 * sum(parameter.nbytes for parameter in whole.parameters()), held

    tokenizer = load_tokenizer(base)
    engine, expected = (TransformersEngine(model, tokenizer, 2) for model in (parts, whole))
    assert isinstance(engine.runner, ShardedRunner)
    passes = []
    run = engine.runner._pass
    engine.runner._pass = lambda step: passes.append(step) or run(step)
    for words in ([], ["strawberry"], ["garden", "window", "butter", "mountain", "hospital"]):
        mine = words if processes.is_main() else words[:1]
        prompts = [spelling_prompt(word) for word in mine]
        assert engine.generate(prompts, 6) == expected.generate(prompts, 6)
        keep_pace(engine)
        counts = processes.gathered([len(passes)])
        assert counts[0] == counts[1]
        processes.wait_for_everyone()


main()  # leaves nothing behind that would hold the process group
"""


def launch(launcher: tuple[str, ...], *arguments: str, status: int = 0) -> str:
    """What two processes of `letterwise` said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", *launcher, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stdout + done.stderr


def log(folder: Path) -> list[dict[str, Any]]:
    entries = read_training_log(folder / "results/tiny/training_log.jsonl")
    return [entry.model_dump(exclude={"seconds", "tokens_per_second"}) for entry in entries]


def assert_same_training(first: Path, second: Path) -> None:
    """The same up to the order in which numbers are added."""
    assert len(log(first)) == len(log(second)) > 6
    for one, other in zip(log(first), log(second), strict=True):
        numbers = [[entry.pop(name) or 0 for name in ("loss", "grad_norm")] for entry in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)
        assert one == other
    assert_close(load_file(first / WEIGHTS), load_file(second / WEIGHTS), rtol=1e-2, atol=1e-4)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {"training__dtype": "float32", "training__batch_size": 2, "training__gradient_accumulation": 3}


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Path,
    write_config: WriteConfig,
    letterwise: Letterwise,
    settings: dict[str, Any],
) -> Path:
    """An adapter that one process has trained."""
    folder = tmp_path_factory.mktemp("alone")
    assert letterwise("train", "--config", str(write_config(folder, tiny_llama, **settings))) == 0
    return folder


def test_two_processes_train_as_one(
    alone: Path, tmp_path: Path, tiny_llama: Path, write_config: WriteConfig, settings: dict[str, Any]
) -> None:
    config = write_config(tmp_path, tiny_llama, **settings)

    said = launch(TORCHRUN, "-m", "letterwise", "train", "--config", str(config))

    assert said.count("train-finetuned: …") == 1, "only one process speaks"
    assert_same_training(tmp_path, alone)
    assert {path.name for path in tmp_path.rglob(".*")} == {".steps"}


def test_a_training_goes_on_with_another_number_of_processes(
    alone: Path,
    tmp_path: Path,
    tiny_llama: Path,
    write_config: WriteConfig,
    settings: dict[str, Any],
    letterwise: Letterwise,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(tmp_path, tiny_llama, **settings, training__checkpoint_every=3)
    (tmp_path / "stopped.py").write_text(STOPPED_AFTER_FOUR_STEPS, encoding="utf-8")
    launch(TORCHRUN, str(tmp_path / "stopped.py"), "train", "--config", str(config), status=1)

    assert letterwise("train", "--config", str(config)) == 0

    assert "Going on with finetuned at step 3 of 6" in capsys.readouterr().out
    assert_same_training(tmp_path, alone)


def test_two_processes_evaluate_to_the_same_bytes(
    alone: Path, tmp_path: Path, write_config: WriteConfig, tiny_llama: Path, settings: dict[str, Any]
) -> None:
    """The main process puts the pieces of both together, whichever of them answered."""
    (tmp_path / "small_pieces.py").write_text(SMALL_PIECES, encoding="utf-8")
    files = ("evaluation_results.json", "spelling/predictions.parquet", "position_count/predictions.parquet")
    found = []
    for name, launcher in (("one", ()), ("two", TORCHRUN)):
        shutil.copytree(alone, tmp_path / name)
        config = write_config(tmp_path / name, tiny_llama, **settings)
        script = [str(tmp_path / "small_pieces.py"), "evaluate", "--config", str(config)]
        if launcher:
            said = launch(launcher, *script)
            assert said.count("Written to") == 1
        else:
            subprocess.run([sys.executable, *script], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
        found.append([sha256_file(tmp_path / name / "results/tiny" / file) for file in files])
    assert found[0] == found[1]
    assert not list((tmp_path / "two").rglob(".pieces"))


def test_accelerate_launches_a_whole_run(tmp_path: Path, tiny_llama: Path, write_config: WriteConfig) -> None:
    config = write_config(tmp_path, tiny_llama, further_seeds=[7])

    said = launch(ACCELERATE, "-m", "letterwise", "run", "--config", str(config))

    assert said.count("Everything is in") == said.count("Once more with training seed 7") == 1
    assert said.count("Over seeds of the training") == 1
    for name in ("tiny", "tiny-seed-7"):
        assert (tmp_path / "results" / name / "final_report.pdf").is_file()


def test_rows_that_cannot_be_divided_are_refused(tmp_path: Path, tiny_llama: Path, write_config: WriteConfig) -> None:
    config = write_config(tmp_path, tiny_llama, training__batch_size=3)

    said = launch(TORCHRUN, "-m", "letterwise", "train", "--config", str(config), status=1)

    assert "3 rows in a step cannot be divided evenly among 2 processes; choose a training.batch_size" in said


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_gpt2"])
def test_sharded_each_process_holds_half_and_asks_what_it_likes(
    base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "one_asks_more.py").write_text(ONE_ASKS_MORE, encoding="utf-8")
    launch(TORCHRUN, str(tmp_path / "one_asks_more.py"), str(request.getfixturevalue(base)))


@pytest.mark.parametrize("base", ["tiny_llama", "tiny_gpt2"])
def test_a_sharded_model_is_trained_and_evaluated_as_a_whole_one(
    base: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    write_config: WriteConfig,
    letterwise: Letterwise,
    settings: dict[str, Any],
) -> None:
    """The same losses, adapter and validation figures; and of the same adapter, the same tables and metrics."""
    folder: Path = request.getfixturevalue(base)
    (tmp_path / "sharded.py").write_text(SHARDED, encoding="utf-8")
    (tmp_path / "small_pieces.py").write_text(SMALL_PIECES, encoding="utf-8")
    whole = write_config(tmp_path / "whole", folder, **settings)
    assert letterwise("train", "--config", str(whole)) == 0

    sharded = write_config(tmp_path / "sharded", folder, **settings, training__sharding="full")
    said = launch(TORCHRUN, str(tmp_path / "sharded.py"), "train", "--config", str(sharded))

    assert said.count("sharded among 2 processes") == 1
    assert_same_training(tmp_path / "sharded", tmp_path / "whole")

    said = launch(TORCHRUN, str(tmp_path / "sharded.py"), "evaluate", "--config", str(sharded))
    assert said.count("sharded among 2 processes") == 1
    shutil.rmtree(tmp_path / "whole")
    shutil.copytree(tmp_path / "sharded", tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole/results/tiny/.steps")
    whole = write_config(tmp_path / "whole", folder, **settings)
    script = [sys.executable, str(tmp_path / "small_pieces.py"), "evaluate", "--config", str(whole)]
    subprocess.run(script, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    for table in ("evaluation_results.json", "spelling/predictions.parquet", "position_count/predictions.parquet"):
        one, two = (tmp_path / name / "results/tiny" / table for name in ("whole", "sharded"))
        assert sha256_file(one) == sha256_file(two)


def test_a_sharded_training_is_resumed_by_one_process(
    alone: Path,
    tmp_path: Path,
    tiny_llama: Path,
    write_config: WriteConfig,
    settings: dict[str, Any],
    letterwise: Letterwise,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sharding = {"training__checkpoint_every": 3, "training__sharding": "full"}
    config = write_config(tmp_path, tiny_llama, **settings, **sharding)
    (tmp_path / "stopped.py").write_text(STOPPED_AFTER_FOUR_STEPS, encoding="utf-8")
    launch(TORCHRUN, str(tmp_path / "stopped.py"), "train", "--config", str(config), status=1)

    assert letterwise("train", "--config", str(config)) == 0

    assert "Going on with finetuned at step 3 of 6" in capsys.readouterr().out
    assert_same_training(tmp_path, alone)
