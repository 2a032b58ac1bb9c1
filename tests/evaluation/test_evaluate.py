from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.config import EvaluationConfig
from letterwise.data.build import load_data, load_questions
from letterwise.engines.engine import Engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation import pieces
from letterwise.evaluation.evaluate import EvaluationItems, evaluate_model, number_of_items, quick_evaluation
from letterwise.evaluation.pieces import read_table
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.results import (
    POSITION_COUNT_PREDICTION_COLUMNS,
    SPELLING_PREDICTION_COLUMNS,
    TASKS,
    ModelRole,
    Task,
)

SETTINGS = EvaluationConfig(batch_size=8)
Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def base(tiny_gpt2: Path) -> BaseModel:
    """One architecture will do: that the engine answers alike for all is tested with the engine."""
    return resolve_base(str(tiny_gpt2))


@pytest.fixture(scope="module")
def tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    return load_tokenizer(base)


@pytest.fixture(scope="module")
def model(base: BaseModel) -> PreTrainedModel:
    return load_model(base, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def items(data_folder: Path) -> EvaluationItems:
    """12 words, 3 training tokens and 16 questions, some of them about other words."""
    spelling, questions = load_data(data_folder)
    asked = load_questions(questions["test"])
    chosen = [*asked[:8], *asked[40:48]]
    by_length = sorted({question.word for question in chosen}, key=len, reverse=True)
    words = dict.fromkeys([*by_length[:8], *spelling["test"]["word"][:4]])
    return EvaluationItems(list(words), ["Straw", "berry", "ing"], chosen)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 5)


@pytest.fixture
def run(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: EvaluationItems, tmp_path: Path
) -> Callable[..., Tables]:
    def run_evaluation(
        load: Callable[[], Engine] | None = None,
        tasks: tuple[Task, ...] = TASKS,
        identity: str = "first",
        settings: EvaluationConfig = SETTINGS,
        role: ModelRole = "base",
        on_items: Callable[[int], None] = lambda finished: None,
    ) -> Tables:
        load = load or (lambda: TransformersEngine(model, tokenizer, settings.batch_size))
        found = evaluate_model(role, load, tokenizer, items, settings, tasks, identity, tmp_path / "pieces", on_items)
        return (
            read_table(found.spelling, SPELLING_PREDICTION_COLUMNS),
            read_table(found.position_count, POSITION_COUNT_PREDICTION_COLUMNS),
        )

    return run_evaluation


def must_not_load() -> Engine:
    raise AssertionError("the model is loaded although there is nothing left to ask")


def same(first: Tables, second: Tables) -> None:
    for one, other in zip(first, second, strict=True):
        assert_frame_equal(one, other)


def test_the_tables_have_the_agreed_columns(run: Callable[..., Tables], items: EvaluationItems) -> None:
    spelling, answers = run()
    for table, columns in ((spelling, SPELLING_PREDICTION_COLUMNS), (answers, POSITION_COUNT_PREDICTION_COLUMNS)):
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == columns | {
            name: str(pd.Series(dtype=dtype).dtype) for name, dtype in columns.items()
        }
    assert len(answers) == 3 * len(items.questions)
    assert set(answers["mode"]) == {"direct", "spell_first", "computed"}
    assert answers.groupby("mode")["id"].nunique().eq(len(items.questions)).all()
    assert list(spelling.query("subset == 'held_out'")["word"]) == items.words
    assert list(spelling.query("subset == 'training_tokens'")["word"]) == items.training_tokens
    others = {question.word for question in items.questions} - set(items.words)
    assert others
    assert set(spelling.query("subset == 'questioned'")["word"]) == others
    assert spelling["id"].is_unique


def test_what_a_question_row_says(run: Callable[..., Tables], items: EvaluationItems) -> None:
    spelling, answers = run(role="finetuned")
    assert set(spelling["model"]) == set(answers["model"]) == {"finetuned"}
    by_word = spelling.set_index("word")
    by_id = {question.id: question for question in items.questions}
    for row in answers.to_dict("records"):
        question = by_id[row["id"]]
        assert (row["question"], row["answer"], row["word"]) == (question.question, question.answer, question.word)
        assert row["correct"] == (row["predicted"] == question.answer)
        assert row["generated_correct"] == (row["generated_answer"] == question.answer)
        assert pd.isna(row["position"]) == (question.question_type == "letter_count")
        assert pd.isna(row["letter"]) == (question.question_type == "letter_position")
        assert row["n_tokens"] == by_word.loc[question.word, "n_tokens"] >= 2
        assert 0 <= row["confidence"] <= 1 + 1e-6
        if row["mode"] == "direct":
            assert pd.isna(row["spelled"])
        else:
            assert row["spelled"] == by_word.loc[question.word, "predicted_spelling"]
        assert pd.isna(row["generated_text"]) == (row["mode"] == "computed")


def test_finished_pieces_are_not_asked_again(run: Callable[..., Tables], tmp_path: Path) -> None:
    first = run()
    pieces = len(list((tmp_path / "pieces").glob("base-*.parquet")))
    assert pieces > 10
    same(run(load=must_not_load), first)
    assert len(list((tmp_path / "pieces").glob("*.parquet"))) == pieces


def test_pieces_of_another_model_are_not_used(run: Callable[..., Tables]) -> None:
    run()
    with pytest.raises(AssertionError, match="loaded although"):
        run(load=must_not_load, identity="second")
    with pytest.raises(AssertionError, match="loaded although"):
        run(load=must_not_load, role="control")


def test_an_interrupted_evaluation_goes_on_to_the_same_tables(
    run: Callable[..., Tables], model: PreTrainedModel, tmp_path: Path
) -> None:
    whole = run(identity="uninterrupted")
    for stop_after in (7, 25):  # while spelling, while answering
        counts: list[int] = []

        def interrupt(count: int, counts: list[int] = counts, stop_after: int = stop_after) -> None:
            counts.append(count)
            if sum(counts) > stop_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(on_items=interrupt)
    same(run(), whole)


def test_pieces_are_whole_when_the_model_fails(
    run: Callable[..., Tables], model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", out_of_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            run()
    assert not list((tmp_path / "pieces").glob("*"))
    run()


@pytest.mark.parametrize("tasks", [("spelling",), ("position_count",), TASKS], ids=str)
@pytest.mark.parametrize("modes", [["direct"], ["direct", "computed"]], ids=str)
def test_only_what_is_wanted_is_asked(
    run: Callable[..., Tables], items: EvaluationItems, tasks: tuple[Task, ...], modes: list[str]
) -> None:
    settings = SETTINGS.model_copy(update={"modes": modes})
    counted: list[int] = []
    spelling, answers = run(tasks=tasks, settings=settings, on_items=counted.append)
    assert sum(counted) == number_of_items(items, settings, tasks)
    assert (len(spelling) > 0) == ("spelling" in tasks)
    assert len(answers) == ("position_count" in tasks) * len(modes) * len(items.questions)
    assert ("questioned" in set(spelling["subset"])) == (tasks == TASKS and "computed" in modes)


def test_computed_and_spell_first_need_no_spelling_task(run: Callable[..., Tables]) -> None:
    """Spelled in a batch of their own, words are spelled alike."""
    _, with_spelling = run()
    _, alone = run(tasks=("position_count",), identity="alone")
    exact = ["id", "mode", "predicted", "spelled"]
    assert_frame_equal(with_spelling[exact], alone[exact])


def test_the_quick_evaluation_agrees_with_the_full_one(
    run: Callable[..., Tables], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: EvaluationItems
) -> None:
    spelling, answers = run()
    quick = quick_evaluation(model, tokenizer, items.words, items.questions, batch_size=8)
    held_out = spelling.query("subset == 'held_out'")
    direct = answers.query("mode == 'direct'").groupby("question_type")["correct"].mean()
    assert quick.metrics == pytest.approx(
        {
            "spelling_accuracy": held_out["correct"].mean(),
            "character_level_accuracy": held_out["character_level_accuracy"].mean(),
            "letter_count_accuracy": direct["letter_count"],
            "letter_position_accuracy": direct["letter_position"],
        }
    )
    assert quick.n == {
        "spelling_accuracy": len(items.words),
        "character_level_accuracy": len(items.words),
        "letter_count_accuracy": 8,
        "letter_position_accuracy": 8,
    }
    positions = answers.query("mode == 'direct' and question_type == 'letter_position'").groupby("position_class")
    assert quick.positions == {
        name: (int(asked["correct"].sum()), len(asked)) for name, asked in positions if len(asked)
    }
