"""The bundle of a data set: what is in it, that it loads, and that a changed row is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard
from local_hub import metadata_errors
from transformers import PreTrainedTokenizerBase

from letterwise.config import ExperimentConfig, dump_config
from letterwise.data.build import EXERCISE_FEATURES, POSITION_COUNT_FEATURES, build_data, load_data
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel
from letterwise.publication import Bundle
from letterwise.publishing.card_checks import card_text_problems
from letterwise.publishing.dataset_bundle import bundle_dataset
from letterwise.publishing.dataset_checks import row_problems
from letterwise.publishing.sources import FinishedRun
from letterwise.publishing.verify import verify
from letterwise.results import DataAudit, read_results, write_results
from letterwise.tasks.spelling_exercises import EXERCISES

RECORDED = Path(__file__).parents[2] / "docs" / "results" / "standard"


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    words_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerBase,
    tiny_llama: Path,
) -> FinishedRun:
    """A run whose data is built and which has not been trained."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    shutil.copytree(words_folder, folder / "words")
    shutil.copyfile(RECORDED / "model_bars.png", folder / "words" / "token_distribution.png")
    mix = {"spelling": 10.0, **dict.fromkeys(EXERCISES, 1.0)}
    tones = {"plain": 1, "structured": 1}
    settings = DataConfig.model_validate(
        {"train_examples": 200, "count_questions": 20, "position_questions": 20, "exercises": mix, "tones": tones}
    )
    write_results(
        folder / "data_audit.json", build_data(settings, tiny_tokenizer, 0, folder / "words", folder / "data")
    )
    shutil.copyfile(RECORDED / "environment.json", folder / "environment.json")
    (folder / "config.yaml").write_text(dump_config(ExperimentConfig(run_name="tiny", data=settings)), encoding="utf-8")
    return FinishedRun(
        "tiny", folder, folder / "none", str(tiny_llama), BaseModel("tiny-llama", tiny_llama, "sha256-0")
    )


@pytest.fixture(scope="module")
def made(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist") / "words"
    bundle_dataset(run, folder, "me/words")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "words")


def test_load_dataset_gives_back_the_built_rows_with_their_features(
    run: FinishedRun, made: Path, tmp_path: Path
) -> None:
    built = dict(zip(("spelling", "position_count"), load_data(run.folder / "data"), strict=True))
    for config, features in (("spelling", EXERCISE_FEATURES), ("position_count", POSITION_COUNT_FEATURES)):
        loaded = load_dataset(str(made), config, cache_dir=str(tmp_path))
        assert set(loaded) == set(built[config])
        for split, rows in built[config].items():
            assert loaded[split].features == features
            assert loaded[split].to_list() == rows.to_list()


def test_a_bundle_is_in_order(made: Path) -> None:
    checks = verify(made, on_hub=False)
    assert [check.problems for check in checks] == [[]] * len(checks)
    assert any("every row" in check.name for check in checks)


def test_the_card_has_sources_audit_and_statistics_and_the_hub_would_take_it(made: Path) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    assert metadata_errors(text, "dataset") == []
    data = DatasetCard(text).data.to_dict()
    assert [config["config_name"] for config in data["configs"]][:2] == ["spelling", "position_count"]
    assert data["license"] == "other"
    assert data["size_categories"] == ["n<1K"]
    for part in (
        "GPL-3.0-or-later",
        "CC-BY-SA-4.0",
        "Construction",
        "Audit",
        "Intended use",
        "`overlaps.train∩test` | 0",
        "Plain spellings fill 30 templates: tones plain 50.0%, structured 50.0%",
        "Of the texts, 37.0% are plain spelling",
        "Debatable",
    ):
        assert part in text
    assert "(figures/word_lengths.png)" in text
    assert (made / "figures/answers.png").read_bytes().startswith(b"\x89PNG")


def test_eval_yaml_is_a_benchmark_that_inspect_can_read(made: Path) -> None:
    """The rules of the Hub's specification and of Inspect AI's loader (`HFTask`)."""
    benchmark = yaml.safe_load((made / "eval.yaml").read_text(encoding="utf-8"))
    assert {"name", "description", "evaluation_framework", "tasks"} == benchmark.keys()
    assert benchmark["evaluation_framework"] == "inspect-ai"
    known = {"id", "config", "split", "field_spec", "shuffle_choices", "epochs", "epoch_reducer", "solvers", "scorers"}
    for task in benchmark["tasks"]:
        assert task.keys() <= known
        rows = pd.read_parquet(made / task["config"] / f"{task['split']}.parquet")
        fields = [task["field_spec"]["input"], task["field_spec"]["target"], *task["field_spec"]["metadata"]]
        assert set(fields) <= set(rows)
        assert rows[fields].notna().all(axis=None)
        assert [solver["name"] for solver in task["solvers"]] == ["prompt_template", "generate"]
        assert "{prompt}" in task["solvers"][0]["args"]["template"]
        assert [scorer["name"] for scorer in task["scorers"]] == ["match"]
    counts = pd.read_parquet(made / "letter_count/test.parquet")
    assert set(counts["question_type"]) == {"letter_count"}


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> list[dict[str, Any]]:
    """Write a file again with changed rows; returns the rows as they were."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return table.to_pylist()  # type: ignore[no-any-return]


def test_a_wrong_answer_is_found_and_its_row_named(folder: Path) -> None:
    path = folder / "position_count/test.parquet"
    row = rewrite(path, lambda rows: rows[3].update(answer="9"))[3]

    problems = row_problems(folder)

    assert (
        f"position_count/test.parquet, row 3 ({row['id']}): the answer is '9', the truth '{row['answer']}'" in problems
    )
    assert "position_count/test.parquet is not the file that data_audit.json tells of" in problems


def number_of(folder: Path, exercise: str) -> int:
    """The place of a training row of that exercise."""
    exercises: list[str] = pq.read_table(folder / "spelling/train.parquet")["exercise"].to_pylist()
    return exercises.index(exercise)


def test_a_wrong_spelling_is_found_and_its_row_named(folder: Path) -> None:
    path, place = folder / "spelling/train.parquet", number_of(folder, "spelling")
    row = rewrite(path, lambda rows: rows[place].update(completion=" x y z"))[place]

    problems = row_problems(folder)

    where = f"spelling/train.parquet, row {place} ({row['id']})"
    assert f"{where}: the completion spells 'xyz', the word is '{row['word']}'" in problems


def test_a_wrong_exercise_is_found_and_its_row_named(folder: Path) -> None:
    path, place = folder / "spelling/train.parquet", number_of(folder, "sorted")
    text = "Word: cat\nSorted: t c a\n"
    row = rewrite(path, lambda rows: rows[place].update(text=text))[place]
    assert any(
        f"row {place} ({row['id']}): the text is 'Word: cat\nSorted: t c a', and should be '{row['text'].strip()}'"
        in problem
        for problem in row_problems(folder)
    )
    rewrite(path, lambda rows: rows[place].update(exercise="counting"))
    assert any("there is no exercise or wording 'counting'" in problem for problem in row_problems(folder))


def test_another_true_row_is_found_too(folder: Path) -> None:
    """Nothing is wrong with it, but it is not what was audited."""
    path = folder / "position_count/test.parquet"
    rewrite(path, lambda rows: rows.reverse())

    assert "position_count/test.parquet is not the file that data_audit.json tells of" in row_problems(folder)


def test_benchmark_tasks_that_are_not_the_questions_are_found(folder: Path) -> None:
    rewrite(folder / "letter_count/test.parquet", lambda rows: rows[0].update(id="another"))
    (problem,) = row_problems(folder)
    assert problem == "letter_count/test.parquet is not the letter_count questions of position_count/test.parquet"


def test_a_digit_in_the_card_and_a_missing_figure_are_named(folder: Path) -> None:
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("`n.training_texts` | 200", "`n.training_texts` | 300"), encoding="utf-8")
    (folder / "figures/answers.png").unlink()

    problems = [problem for check in verify(folder, on_hub=False) for problem in check.problems]

    assert any("README.md says" in problem and "300" in problem for problem in problems)
    assert "README.md names figures/answers.png, which is not there" in problems
    assert "figures/answers.png is missing" in problems


def test_another_licence_and_tags_can_be_chosen(run: FinishedRun, tmp_path: Path) -> None:
    bundle = bundle_dataset(run, tmp_path / "words", license_id="gpl-3.0", tags=["mine"])

    data = DatasetCard.load(tmp_path / "words/README.md").data.to_dict()
    assert (data["license"], "license_name" in data) == ("gpl-3.0", False)
    assert "mine" in data["tags"]
    assert bundle.repo_id == "words"
    assert "The publisher offers the whole under: gpl-3.0." in (tmp_path / "words/LICENSE").read_text(encoding="utf-8")
    assert card_text_problems(tmp_path / "words", read_results(tmp_path / "words/bundle.json", Bundle)) == []


def test_data_that_is_not_there(run: FinishedRun, tmp_path: Path) -> None:
    read_results(run.folder / "data_audit.json", DataAudit)
    empty = FinishedRun("empty", tmp_path / "empty", run.adapter, run.base_name, run.base)
    with pytest.raises(LetterwiseError, match=r"data_audit.json does not exist"):
        bundle_dataset(empty, tmp_path / "words")
    assert not (tmp_path / "words").exists()


def test_a_folder_of_something_else_is_not_replaced(run: FinishedRun, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/holiday.png").write_bytes(b"")
    with pytest.raises(LetterwiseError, match="photos exists and is no bundle"):
        bundle_dataset(run, tmp_path / "photos")
