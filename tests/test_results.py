from __future__ import annotations

import json
from pathlib import Path

import pytest

from letterwise.errors import LetterwiseError
from letterwise.results import (
    EvaluationResults,
    ModelResults,
    TrainingLogEntry,
    read_results,
    read_training_log,
    write_results,
)


def results(accuracy: float = 0.5) -> EvaluationResults:
    model = ModelResults(
        id="tiny",
        revision="sha256-0",
        metrics={"spelling_accuracy": accuracy},
        intervals={"spelling_accuracy": (0.25, 0.75)},
        n={"spelling_accuracy": 20},
        breakdowns={"spelling_accuracy": {"word_length": {"5": 0.5}}},
    )
    return EvaluationResults(split="test", base_model=model, finetuned_model=model)


def test_results_are_read_back_unchanged(tmp_path: Path) -> None:
    write_results(tmp_path / "evaluation_results.json", results())
    assert read_results(tmp_path / "evaluation_results.json", EvaluationResults) == results()


def test_a_model_is_found_by_its_role() -> None:
    assert results().model("finetuned") == results().base_model
    assert results().model("control") is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path / "evaluation_results.json", results(value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"split": "train"}, "split: Input should be 'validation' or 'test'"),
        ({"splt": "test"}, "splt: Extra inputs are not permitted"),
        ({"base_model": {"id": "tiny"}}, "base_model.revision: Field required"),
        ({"base_model": {"id": "t", "revision": "r", "metrics": {"m": None}}}, "base_model.metrics.m: Input should"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    path = tmp_path / "evaluation_results.json"
    path.write_text(json.dumps({**results().model_dump(mode="json"), **change}))
    with pytest.raises(LetterwiseError) as refused:
        read_results(path, EvaluationResults)
    assert str(refused.value).startswith(f"{path} is not a valid EvaluationResults: {problem}")


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="run the step that writes it first"):
        read_results(tmp_path / "evaluation_results.json", EvaluationResults)
    with pytest.raises(LetterwiseError, match="run the step that writes it first"):
        read_training_log(tmp_path / "training_log.jsonl")


def test_a_training_log_is_read_without_its_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "training_log.jsonl"
    entry = TrainingLogEntry(model="finetuned", seed=0, step=1, tokens=90, seconds=0.5, loss=3.25)
    line = entry.model_dump_json()
    path.write_text(f"{line}\n{line}\n{line[:30]}")
    assert read_training_log(path) == [entry, entry]


def test_a_broken_line_of_a_training_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "training_log.jsonl"
    path.write_text('{"model": "finetuned"}\n')
    with pytest.raises(LetterwiseError, match=r"Line 1 of .*training_log.jsonl is not a training log entry"):
        read_training_log(path)
