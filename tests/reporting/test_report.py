"""The final report says what the results files say, what got worse first, and claims nothing that no file proves."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import finished_run
import pandas as pd
import pytest

from letterwise.config import dump_config, load_config, override
from letterwise.errors import LetterwiseError
from letterwise.files import write_json
from letterwise.reporting.report import REPORT_FILES, write_report
from letterwise.reporting.report_advice import limitations
from letterwise.reporting.report_document import Table
from letterwise.reporting.report_error_section import errors_section
from letterwise.reporting.report_errors import analyse_errors
from letterwise.reporting.report_model import FinalReport
from letterwise.reporting.report_record import RECORD_FILES, read_record
from letterwise.reporting.summary import value_text
from letterwise.results import (
    Estimate,
    EvaluationResults,
    TrainingLogEntry,
    TransferResults,
    read_results,
    write_results,
)

TrainingLog = list[TrainingLogEntry]
MakeResults = Callable[[str], EvaluationResults]
SECTIONS = [
    *("Executive summary", "Method", "Data", "Training", "Results", "Comparison with base, control and baselines"),
    *("Transfer analysis", "Error analysis", "Limitations seen", "Deployment notes", "Recommendations", "References"),
    *("Configuration", "Environment", "Full tables", "Files"),
]


@pytest.fixture
def folder(run_folder: Path) -> Path:
    return finished_run.complete(run_folder)


def put(folder: Path, results: EvaluationResults) -> None:
    """Another evaluation, and the transfer analysis of it."""
    write_results(folder / "evaluation_results.json", results)
    transfer = read_results(folder / "transfer.json", TransferResults)
    gains = {entry.metric: entry.difference for entry in results.significance.get("control_to_finetuned", [])}
    transfer.control_adjusted_gain["letter_count"].value = gains.get("letter_count_accuracy")
    write_results(folder / "transfer.json", transfer)


def text_of(page: str) -> str:
    """What a reader sees of a page, in one line."""
    visible = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())


def page_of(folder: Path) -> str:
    return (folder / "final_report.html").read_text(encoding="utf-8")


def test_three_files_are_written_and_the_json_has_the_structure_of_the_brief(folder: Path) -> None:
    write_report(folder)
    raw = json.loads((folder / "final_report.json").read_text(encoding="utf-8"))
    assert {
        "project_name",
        "model_repository",
        "dataset_repository",
        "configuration",
        "evaluation_results",
    } < raw.keys()
    assert raw["configuration"]["run_name"] == "storied"
    assert {"spelling_to_position_count_correlation", "transfer_efficiency", "generalization_capability"} < raw[
        "transfer_learning_analysis"
    ].keys()
    assert list(raw["conclusion"]["success_criteria_met"]) == [
        *("letter_count_improvement", "letter_position_improvement", "properly_documented"),
        *("uploaded_to_hugging_face", "tracked_in_wandb", "transfer_learning_demonstrated"),
    ]
    assert (folder / "final_report.pdf").read_bytes().startswith(b"%PDF")
    assert read_results(folder / "final_report.json", FinalReport).run_name == "storied"


def test_no_figure_differs_from_the_results_files(folder: Path, results: EvaluationResults) -> None:
    write_report(folder)
    raw = json.loads((folder / "final_report.json").read_text(encoding="utf-8"))
    assert raw["evaluation_results"] == json.loads((folder / "evaluation_results.json").read_text(encoding="utf-8"))
    text = text_of(page_of(folder))
    for model in (results.base_model, results.control_model, results.finetuned_model):
        assert model
        for metric, value in model.metrics.items():
            assert value_text(metric, value, model.intervals[metric]) in text

    results.base_model.metrics["spelling_accuracy"] = 0.0327
    write_results(folder / "evaluation_results.json", results)
    write_report(folder)
    assert text_of(page_of(folder)).count("3.3% [") >= 3  # key figures, results, full tables


def test_the_mix_of_templates_is_told(folder: Path) -> None:
    write_report(folder)
    text = text_of(page_of(folder))
    assert "Plain spellings fill 60 templates: tones plain 25.0%, narrative 18.3%" in text
    assert "13.3% give the spelling and ask for the word. All are used equally often." in text
    config = load_config(folder / "config.yaml")
    mix = {"tones": {"plain": 1, "structured": 3}, "separators": ["space", "hyphen"], "spelling_first_share": 0.5}
    varied = override(config, {"data": config.data.model_dump() | mix})
    (folder / "config.yaml").write_text(dump_config(varied), encoding="utf-8")
    write_report(folder)
    assert (
        "tones plain 25.0%, structured 75.0%; separators space, hyphen; letters in lower and upper case; 50.0% give "
        "the spelling and ask for the word. Within a tone and direction all are used equally often."
    ) in text_of(page_of(folder))


def test_further_controls_and_the_share_of_the_ceiling_are_shown(
    folder: Path, with_controls: EvaluationResults
) -> None:
    write_report(folder)
    assert "ceiling" not in text_of(page_of(folder))
    put(folder, with_controls)
    transfer = read_results(folder / "transfer.json", TransferResults)
    transfer.share_of_ceiling["letter_position"] = Estimate(value=0.42, interval=(0.31, 0.55), n=1000)
    write_results(folder / "transfer.json", transfer)
    report = write_report(folder)
    text = text_of(page_of(folder))
    assert "ceiling the very questions, about training words 10.1% [8.4, 12.1] 40.2% [37.2, 43.3] 71.3% [" in text
    assert "share_of_ceiling letter_position 0.420 [0.310, 0.550]" in text
    assert report.transfer_learning_analysis.share_of_ceiling["letter_position"].value == 0.42
    assert report.evaluation_results.other_controls.keys() == {"format_only", "ceiling"}


def test_a_run_that_made_things_worse_says_so_first(folder: Path, make_results: MakeResults) -> None:
    put(folder, make_results("negative"))
    report = write_report(folder)
    first = re.search(r"<main>.*?<p[^>]*>(.*?)</p>", page_of(folder), re.DOTALL)
    assert first
    assert text_of(first[1]) == report.conclusion.summary
    assert report.conclusion.summary.startswith(
        "Tuning made these worse: spelling, from 58.3% right to 48.1%; letter counts, from 35.2% right to 24.7%; and "
        "letter positions, from 33.5% right to 18.1%."
    )
    assert report.conclusion.made_worse[0] == "spelling (58.3% before, 48.1% after)"
    assert not any(
        report.conclusion.success_criteria_met[f"letter_{kind}_improvement"] for kind in ("count", "position")
    )
    assert any(
        "Do not use the adapter for letter counts" in entry.advice for entry in report.conclusion.recommendations
    )


def test_a_null_result_is_called_one(folder: Path, make_results: MakeResults) -> None:
    put(folder, make_results("null"))
    conclusion = write_report(folder).conclusion
    assert conclusion.summary.startswith("Spelling improved from 1.2% right to 58.3%.")
    assert "Letter counts did not change significantly: 24.7% right before, 24.6% after." in conclusion.summary
    assert "did not carry over" in conclusion.summary
    assert not conclusion.success_criteria_met["transfer_learning_demonstrated"]
    assert any("need a larger model" in entry.advice for entry in conclusion.recommendations)


def test_success_criteria_come_with_the_test_behind_them(folder: Path) -> None:
    criteria = {criterion.name: criterion for criterion in write_report(folder).conclusion.success_criteria}
    assert criteria["letter_count_improvement"].met
    assert "24.7% [22.1, 27.5] before, 35.2% [32.3, 38.2] after, n = 1,000" in criteria["letter_count_improvement"].test
    assert "p < 0.001" in criteria["letter_count_improvement"].test
    text = text_of(page_of(folder))
    assert all(criterion.criterion in text for criterion in criteria.values())


def test_nothing_is_published_before_it_was_verified(folder: Path) -> None:
    def uploaded() -> bool:
        return write_report(folder).conclusion.success_criteria_met["uploaded_to_hugging_face"]

    assert not uploaded()

    upload = {
        **{"repo_id": "me/model", "kind": "model", "url": "https://hub/me/model", "commit": "c0ffee", "private": False},
        **{"uploaded": "2026-11-24T12:00:00+00:00", "verified": None, "uploaded_to_hugging_face": False},
    }
    write_json(folder / "publication.json", {"model": upload, "dataset": None})
    assert not uploaded()
    assert "but not verified" in text_of(page_of(folder))
    assert "https://hub/me/model" not in page_of(folder)

    write_json(folder / "publication.json", {"model": upload | {"uploaded_to_hugging_face": True}, "dataset": None})
    assert uploaded()
    assert write_report(folder).model_repository == "https://hub/me/model"
    assert write_report(folder).dataset_repository is None

    write_json(folder / "publication.json", ["yes"])
    with pytest.raises(LetterwiseError, match="not a valid Publication"):
        uploaded()


def test_tracking_is_met_by_a_record_not_by_a_setting(run_folder: Path) -> None:
    folder = finished_run.complete(run_folder, wandb=True)
    assert not write_report(folder).conclusion.success_criteria_met["tracked_in_wandb"]
    (folder / "wandb" / "offline-run-1").mkdir(parents=True)
    assert write_report(folder).conclusion.success_criteria_met["tracked_in_wandb"]


def test_errors_are_counted_by_kind_and_shown_by_confidence(folder: Path) -> None:
    errors = write_report(folder).error_analysis
    spelling = errors.spelling
    assert (spelling.n, spelling.wrong, spelling.one_edit_away) == (6, 5, 3)
    assert spelling.kinds == {
        **{"as many letters, some of them wrong": 1, "the right letters in another order": 1},
        **{"too few letters": 1, "too many letters": 1, "no letters written": 1},
    }
    assert [example.word for example in spelling.mistaken] == ["pumpkin", "thistle", "harvest", "cricket", "meadow"]
    assert [example.word for example in spelling.learned] == ["lantern"]
    counts, positions = errors.questions
    assert (counts.both_right, counts.only_base_right, counts.only_finetuned_right, counts.both_wrong) == (0, 1, 1, 1)
    assert counts.kinds["finetuned"] == {"right": 1, "one too few": 1, "two or more too many": 1}
    assert [example.finetuned for example in counts.mistaken] == ["1", "4"]
    assert [example.question for example in counts.lost] == ["How many p's are in the word 'pumpkin'?"]
    assert positions.kinds["finetuned"] == {
        **{"right": 1, "the word's first letter": 1, "a neighbour of the letter asked for": 1},
    }
    text = text_of(page_of(folder))
    assert "How many p's are in the word 'pumpkin'? 2 2 1 80.0%" in text
    assert r"t w o\n'" in text  # what the model wrote, on one line


def test_a_model_without_a_mistake_is_reported_too(folder: Path) -> None:
    for task, right in (("spelling", "word"), ("position_count", "answer")):
        path = folder / task / "predictions.parquet"
        table = pd.read_parquet(path)
        tuned = table["model"] == "finetuned"
        given = "predicted_spelling" if task == "spelling" else "predicted"
        table.loc[tuned, [given, "correct"]] = table.loc[tuned, [right, "correct"]].assign(correct=True).to_numpy()
        table.to_parquet(path)

    errors = write_report(folder).error_analysis

    assert (errors.spelling.n, errors.spelling.wrong, errors.spelling.one_edit_away) == (6, 0, 0)
    assert (errors.spelling.kinds, errors.spelling.mistaken) == ({}, [])
    assert [found.kinds["finetuned"] for found in errors.questions] == [{"right": 3}, {"right": 3}]
    assert "0 of 6 held-out words are spelled wrong" in text_of(page_of(folder))


def test_every_section_is_there_and_none_is_empty(folder: Path) -> None:
    write_report(folder)
    sections = re.findall(r"<h2[^>]*>\S+ (.*?)</h2>(.*?)</section>", page_of(folder), re.DOTALL)
    assert [title for title, _ in sections] == SECTIONS
    assert all(len(text_of(content)) > 40 for _, content in sections)


def test_the_page_needs_no_other_file_and_runs_nothing(folder: Path) -> None:
    write_report(folder)
    page = page_of(folder)
    assert not re.search(r"<script|\son\w+=|url\(|@import|<link", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    assert re.findall(r"<img", page)
    assert all(re.findall(r'<img [^>]*alt="(.*?)"', page))


def test_text_from_a_model_is_not_taken_for_markup(folder: Path, results: EvaluationResults) -> None:
    results.base_model.id = "<b>base & 'model'</b>"
    write_results(folder / "evaluation_results.json", results)
    write_report(folder)
    assert "<b>base" not in page_of(folder)
    assert "<b>base & 'model'</b>" in html.unescape(page_of(folder))


def test_equal_runs_give_equal_bytes(folder: Path) -> None:
    write_report(folder)
    first = [(folder / name).read_bytes() for name in REPORT_FILES]
    write_report(folder)
    assert [(folder / name).read_bytes() for name in REPORT_FILES] == first


@pytest.mark.parametrize("missing", RECORD_FILES)
def test_an_unfinished_run_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(LetterwiseError, match=rf"{missing} does not exist; run `letterwise run` to its end"):
        write_report(folder)
    assert not list(folder.glob("final_report*"))


def test_a_transfer_analysis_of_an_earlier_evaluation_is_refused(folder: Path, make_results: MakeResults) -> None:
    write_results(folder / "evaluation_results.json", make_results("null"))
    with pytest.raises(LetterwiseError, match="not of the last evaluation; run `letterwise transfer`"):
        write_report(folder)


def test_without_a_control_no_transfer_is_claimed(folder: Path, results: EvaluationResults) -> None:
    results.control_model = None
    results.significance.pop("control_to_finetuned")
    put(folder, results)
    conclusion = write_report(folder).conclusion
    assert not conclusion.success_criteria_met["transfer_learning_demonstrated"]
    assert "No control was evaluated" in conclusion.summary
    assert any(entry.advice.startswith("Train the control") for entry in conclusion.recommendations)


def test_a_habit_is_not_taken_for_knowledge(folder: Path) -> None:
    record = read_record(folder)
    errors = analyse_errors(record.predictions["spelling"], record.predictions["position_count"])
    assert not any("does not index" in text for text in limitations(record, errors))

    positions = errors.questions[1]
    positions.kinds = {"base": {"right": 3}, "finetuned": {"the word's first letter": 2, "right": 1}}
    positions.favourite_answers = 3

    told = limitations(record, errors)
    assert any("names the word's first one in 66.7% of the 3 questions about letter positions (0.0%" in t for t in told)
    assert any("to 3 of 3 questions about letter positions: mostly a habit" in text for text in told)


def test_kinds_of_errors_that_are_as_frequent_stand_in_alphabetical_order(folder: Path) -> None:
    record = read_record(folder)
    errors = analyse_errors(record.predictions["spelling"], record.predictions["position_count"])
    kinds = [f"kind {letter}" for letter in "fabdec"]
    errors.questions[1].kinds = {"base": dict.fromkeys(kinds, 1), "finetuned": {**dict.fromkeys(kinds, 1), "right": 2}}

    tables = [block for block in errors_section(errors, None).blocks if isinstance(block, Table)]

    assert ["right", *sorted(kinds)] in [[row[0] for row in table.rows] for table in tables]


def test_limits_say_how_many_trainings_the_checkpoints_are_of(folder: Path) -> None:
    record = read_record(folder)
    errors = analyse_errors(record.predictions["spelling"], record.predictions["position_count"])
    assert any("12 checkpoints of one training" in text for text in limitations(record, errors))
    three = replace(record, seeds=dict.fromkeys((0, 1, 2), record.results))
    assert any("12 checkpoints of 3 trainings" in text for text in limitations(three, errors))


def test_recommendations_follow_from_the_figures(folder: Path, results: EvaluationResults, log: TrainingLog) -> None:
    def advice() -> str:
        return " ".join(entry.advice for entry in write_report(folder).conclusion.recommendations)

    assert "Train longer" in advice()
    assert "let a program work on the model's spelling" in advice()

    computed = results.answer_modes["computed"]["finetuned"]
    for metric in ("letter_count_accuracy", "letter_position_accuracy"):
        computed.metrics[metric], computed.intervals[metric] = 0.01, (0.0, 0.02)
    write_results(folder / "evaluation_results.json", results)
    for entry in log:
        if entry.evaluation and entry.step == log[-1].step:
            entry.evaluation["spelling_accuracy"] = 0.0
    lines = "".join(f"{entry.model_dump_json()}\n" for entry in log)
    (folder / "training_log.jsonl").write_text(lines, encoding="utf-8")
    assert "Do not train longer" in advice()
    assert "let a program work" not in advice()
