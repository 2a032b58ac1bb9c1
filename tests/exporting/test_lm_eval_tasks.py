"""The exported tasks put the questions of the evaluation, and the harness answers them alike."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from english_words import get_english_words_set

from letterwise import cli
from letterwise.errors import LetterwiseError
from letterwise.exporting.lm_eval_tasks import export_lm_eval
from letterwise.models import resolve_base
from letterwise.tasks.questions import Question, direct_prompt, make_questions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    words = sorted(
        w for w in get_english_words_set(["gcide"], lower=True) if w.isascii() and w.isalpha() and 4 < len(w) < 12
    )
    return make_questions(words[::300], 250, 250, seed=0, prefix="test")


@pytest.fixture(scope="module")
def agreement() -> ModuleType:
    spec = importlib.util.spec_from_file_location("agreement", ROOT / "benchmarks" / "harness_agreement.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_task_file_holds_prompt_and_candidates_of_the_evaluation(questions: list[Question], tmp_path: Path) -> None:
    assert export_lm_eval(questions, tmp_path) == ["letterwise_letter_count", "letterwise_letter_position"]

    for kind in ("letter_count", "letter_position"):
        text = (tmp_path / f"letterwise_{kind}.yaml").read_text(encoding="utf-8")
        task = yaml.safe_load(text.replace("!function ", ""))
        asked = {q.id: q for q in questions if q.question_type == kind}
        rows = [json.loads(line) for line in (tmp_path / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [row["id"] for row in rows] == list(asked)
        for row in rows:
            question = asked[row["id"]]
            put = task["description"] + task["doc_to_text"].replace("{{question}}", row["question"])
            assert put == direct_prompt(question).text
            assert row["choices"] == question.candidates()
            assert row["choices"][row["target"]] == question.answer
        assert task["output_type"] == "multiple_choice"
        assert task["target_delimiter"] == " "


def test_without_questions_there_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="letterwise data"):
        export_lm_eval([], tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


def test_the_command_exports_a_runs_questions(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "data").symlink_to(data_folder)
    config = tmp_path / "experiment.yaml"
    config.write_text(f"run_name: tiny\nresults_folder: {tmp_path}\n", encoding="utf-8")
    arguments = ["export", "lm-eval", str(tmp_path / "tasks"), "--config", str(config), "--split", "validation"]
    monkeypatch.setattr(sys, "argv", ["letterwise", *arguments])

    with pytest.raises(SystemExit) as exit_:
        cli.main()

    assert not exit_.value.code
    assert "--tasks letterwise_letter_count,letterwise_letter_position" in capsys.readouterr().out
    rows = (tmp_path / "tasks" / "letter_count.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 40
    assert all(json.loads(row)["id"].startswith("validation-count") for row in rows)


@pytest.mark.slow
def test_the_harness_answers_the_same_500_questions_alike(
    agreement: ModuleType, questions: list[Question], tiny_llama: Path, tmp_path: Path
) -> None:
    """To the last question."""

    compared = agreement.compare(resolve_base(str(tiny_llama)), questions, tmp_path / "tasks")

    for kind in ("letter_count", "letter_position"):
        figures = compared["tasks"][kind]
        assert figures["n"] == 250
        assert figures["ours"] == figures["harness"]
        assert figures["differing"] == []
        assert 0 < figures["ours"] < 1, "the model answers differently from question to question"
