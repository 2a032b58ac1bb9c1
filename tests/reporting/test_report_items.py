"""What the report makes of an item analysis: nothing without one, and no number where there is a reason."""

from __future__ import annotations

import html
import re
from pathlib import Path

import finished_run
import pytest

from letterwise.analysis_results import ItemAnalysis, ItemResults, OddsRatio
from letterwise.reporting.report import write_report
from letterwise.reporting.report_items import items_section
from letterwise.results import Estimate, write_results


@pytest.fixture
def folder(run_folder: Path) -> Path:
    return finished_run.complete(run_folder)


def text_of(folder: Path) -> str:
    page = (folder / "final_report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    visible = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())


def results(model: str, question_type: str, spelled: OddsRatio, **more: OddsRatio) -> ItemResults:
    return ItemResults.model_validate(
        {
            **{"model": model, "question_type": question_type, "mode": "direct"},
            "accuracy": Estimate(value=0.4, interval=(0.37, 0.43), n=1000),
            "accuracy_by": {
                "word_length": {"5": Estimate(value=0.5, interval=(0.41, 0.59), n=120)},
                "zipf": {"2 to 3": Estimate(value=0.0, interval=(0.0, 0.02), n=250)},
            },
            "odds_ratios": {"spelled": spelled} | {name.replace("__", "."): ratio for name, ratio in more.items()},
        }
    )


DECIDED = "All 250 answers are wrong; they are left out of the regression."
ANALYSIS = ItemAnalysis(
    items=[
        results("base", "letter_count", OddsRatio(value=None, n=1000, reason="Only 2 of 1,000 answers are such.")),
        results(
            "finetuned",
            "letter_count",
            OddsRatio(value=1.52, interval=(1.1, 2.1), p_value=0.011, n=750),
            word_length=OddsRatio(value=0.87, interval=(0.8, 0.95), p_value=0.0004, n=750),
            true_count__2=OddsRatio(value=0.4, interval=(0.3, 0.5), p_value=0.0001, n=750, compared_with="0"),
            **{"true_count__3+": OddsRatio(value=None, n=250, reason=DECIDED)},
        ),
        results("finetuned", "letter_position", OddsRatio(value=1.05, interval=(0.8, 1.4), p_value=0.7, n=1000)),
    ]
)


def test_a_run_without_an_item_analysis_has_no_such_section(folder: Path) -> None:
    write_report(folder)
    assert "Item analysis" not in text_of(folder)


def test_the_section_says_what_goes_with_right_answers_and_why_there_is_no_number(folder: Path) -> None:
    write_results(folder / "item_analysis.json", ANALYSIS)
    write_report(folder)
    text = text_of(folder)
    assert (
        "Letter counts, mode direct: the tuned model is more often right about words that it spells right (odds ratio "
        "1.520 [1.100, 2.100], p = 0.011, n = 750)." in text
    )
    assert "Letter positions, mode direct: whether the tuned model spells a word makes no difference" in text
    assert "Letter counts direct base Only 2 of 1,000 answers are such. – 1,000" in text
    assert "letters in the word one less 0.870 [0.800, 0.950] <0.001 750" in text
    assert "true count: 2 0 0.400 [0.300, 0.500] <0.001 750" in text
    assert f"true count: 3+ – {DECIDED} – 250" in text
    assert "letters in the word: 5 50.0% [41.0, 59.0] 50.0% [41.0, 59.0] 120" in text
    assert "`item_analysis.json`" not in text
    assert re.search(r"item_analysis.json [0-9a-f]{64}", text)


def test_where_nobody_can_tell_the_sentence_says_so() -> None:
    unknown = results("finetuned", "letter_count", OddsRatio(value=None, n=9, reason="Only 1 of 9 answers is right."))
    section = items_section(ItemAnalysis(items=[unknown]))
    (said,) = [block.text for block in section.blocks if getattr(block, "text", "").startswith("Letter counts")]
    assert said.endswith("goes with answering about it cannot be said. Only 1 of 9 answers is right.")


def test_each_kind_of_error_has_its_surest_examples(folder: Path) -> None:
    errors = write_report(folder).error_analysis
    assert {kind: [each.word for each in found] for kind, found in errors.spelling.examples.items()} == {
        "as many letters, some of them wrong": ["pumpkin"],
        "the right letters in another order": ["thistle"],
        "too few letters": ["harvest"],
        "too many letters": ["cricket"],
        "no letters written": ["meadow"],
    }
    counts, positions = errors.questions
    assert {kind: [each.finetuned for each in found] for kind, found in counts.examples.items()} == {
        "one too few": ["1"],
        "two or more too many": ["4"],
    }
    assert list(positions.examples) == ["the word's first letter", "a neighbour of the letter asked for"]
    text = text_of(folder)
    assert "too many letters cricket 2 criccket 55.0%" in text
    assert "one too few How many p's are in the word 'pumpkin'? 2 1 80.0%" in text
