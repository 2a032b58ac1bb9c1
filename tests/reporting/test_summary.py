"""The summary says what the results say: the same numbers, and a null as plainly as a success."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from letterwise.errors import LetterwiseError
from letterwise.reporting.summary import (
    conclusion,
    headline_markdown,
    p_text,
    render_markdown,
    render_rich,
    summary_rows,
)
from letterwise.results import Difference, EvaluationResults, TransferResults

MakeResults = Callable[[str], EvaluationResults]


def test_rows_come_in_order_of_importance(results: EvaluationResults) -> None:
    rows = summary_rows(results)

    assert [(row.metric, row.mode) for row in rows] == [
        ("spelling_accuracy", None),
        ("character_level_accuracy", None),
        ("levenshtein_distance", None),
        ("generalization", None),
        ("letter_count_accuracy", "direct"),
        ("letter_position_accuracy", "direct"),
        ("letter_count_accuracy", "spell_first"),
        ("letter_position_accuracy", "spell_first"),
        ("letter_count_accuracy", "computed"),
        ("letter_position_accuracy", "computed"),
    ]


def test_a_row_holds_the_best_baseline_and_the_paired_difference(results: EvaluationResults) -> None:
    count = summary_rows(results)[4]

    assert count.baseline_name == "letter frequency"
    assert count.baseline is not None
    assert count.baseline.value == 0.268
    assert count.finetuned is not None
    assert count.finetuned.value == 0.352
    assert count.difference is not None
    assert (count.difference.difference, count.difference.interval) == (0.105, (0.070, 0.141))
    assert count.n == 1000


def test_every_mode_has_its_own_paired_difference(results: EvaluationResults) -> None:
    results.significance["base_to_finetuned"].append(
        Difference(
            metric="letter_position_accuracy_computed",
            first="base",
            second="finetuned",
            difference=0.629,
            interval=(0.598, 0.660),
            p_value=1e-9,
            n=1000,
        )
    )

    spell_first, computed = (summary_rows(results)[index] for index in (-3, -1))

    assert (spell_first.mode, computed.mode) == ("spell_first", "computed")
    assert spell_first.difference is None
    assert computed.difference is not None
    assert computed.difference.difference == 0.629


def test_missing_models_and_modes_leave_gaps_not_errors(results: EvaluationResults) -> None:
    results.control_model = None
    del results.answer_modes["computed"]

    rows = summary_rows(results)

    assert {row.mode for row in rows} == {None, "direct", "spell_first"}
    assert rows[0].control is None
    assert "| 1.2% [0.7, 2.1] | – | 58.3% [55.2, 61.3] |" in render_markdown(rows)


def test_a_metric_that_no_model_has_is_left_out(results: EvaluationResults) -> None:
    for model in (results.base_model, results.control_model, results.finetuned_model):
        assert model is not None
        model.metrics.pop("generalization", None)

    assert "generalization" not in {row.metric for row in summary_rows(results)}


def test_markdown_writes_percent_intervals_and_p(results: EvaluationResults) -> None:
    lines = render_markdown(summary_rows(results)).splitlines()

    assert lines[0] == "| metric | best baseline | base | control | tuned | tuned − base | p | n |"
    assert lines[6] == (
        "| letter_count_accuracy (direct) | 26.8% (letter frequency) | 24.7% [22.1, 27.5] | 25.5% [22.9, 28.3] "
        "| 35.2% [32.3, 38.2] | +10.5 [+7.0, +14.1] | <0.001 | 1,000 |"
    )
    assert lines[4].startswith("| levenshtein_distance | – | 0.590 [0.578, 0.602] |")
    assert len({line.count("|") for line in lines}) == 1


def test_a_loss_carries_a_minus_sign(make_results: MakeResults) -> None:
    assert "| −10.5 [−14.1, −7.0] | <0.001 |" in render_markdown(summary_rows(make_results("negative")))


def test_the_terminal_table_fits_into_80_columns(results: EvaluationResults) -> None:
    screen = io.StringIO()
    Console(file=screen, width=80).print(render_rich(summary_rows(results), "Run quick"))
    text = screen.getvalue()

    assert "letter_position_accuracy" in text
    assert "(spell_first) n = 1,000" in text
    assert "…" not in text


@pytest.mark.parametrize(("p_value", "text"), [(2e-8, "<0.001"), (0.0344, "0.034"), (0.27, "0.270"), (1.0, "1.000")])
def test_p_values_have_three_decimals(p_value: float, text: str) -> None:
    assert p_text(p_value) == text


def test_a_positive_result_names_every_comparison(make_results: MakeResults, transfer: TransferResults) -> None:
    text = conclusion(make_results("positive"), transfer)

    assert text.startswith(
        "Spelling accuracy on held-out words rose from 1.2% [0.7, 2.1] to 58.3% [55.2, 61.3]. "
        "Letter counts improved over both the base model and the control: the tuned model answers 35.2% [32.3, 38.2] "
        "correctly, above the letter frequency baseline (26.8%); +10.5 points [+7.0, +14.1], p < 0.001, against the "
        "base model; +9.7 points [+6.2, +13.3], p < 0.001, against the control; words that it spells correctly are "
        "answered about correctly more often (phi = 0.174 [0.112, 0.236])."
    )
    assert "not measurably associated (phi = 0.021 [−0.041, 0.083])" in text


def test_a_null_result_is_as_plain(make_results: MakeResults) -> None:
    text = conclusion(make_results("null"), None)

    assert (
        "Letter counts did not change significantly: the tuned model answers 24.6% [22.0, 27.4] correctly, at or below "
        "the letter frequency baseline (26.8%)"
    ) in text
    assert "Letter positions did not change significantly" in text
    assert "−0.1 points [−2.1, +1.9], p = 1.000, against the base model" in text
    assert "improved" not in text


def test_a_negative_result_is_as_plain(make_results: MakeResults) -> None:
    text = conclusion(make_results("negative"), None)

    assert text.startswith("Spelling accuracy on held-out words fell from 58.3%")
    assert "Letter counts got worse" in text
    assert "Letter positions got worse" in text


def test_a_change_without_a_test_is_not_judged(results: EvaluationResults) -> None:
    results.significance = {}

    text = conclusion(results, None)

    assert "held-out words went from 1.2%" in text
    assert "Letter counts were not compared with the base model" in text


def test_a_gain_that_the_control_shares_is_not_credited_to_spelling(make_results: MakeResults) -> None:
    results = make_results("positive")
    results.significance["control_to_finetuned"] = make_results("null").significance["control_to_finetuned"]

    assert "Letter counts improved over the base model but not over the control" in conclusion(results, None)


def test_a_value_whose_interval_reaches_the_baseline_is_not_above_it(make_results: MakeResults) -> None:
    results = make_results("positive")
    results.baselines["letter_count_letter_frequency"].value = 0.34

    assert "not measurably above the letter frequency baseline (34.0%)" in conclusion(results, None)


def test_an_interval_above_zero_needs_mcnemar_to_agree(make_results: MakeResults) -> None:
    results = make_results("positive")
    for difference in results.significance["base_to_finetuned"]:
        difference.p_value = 0.06

    assert "improved" not in conclusion(results, None)


def test_without_a_control_the_conclusion_says_what_cannot_be_known(results: EvaluationResults) -> None:
    results.control_model = None
    del results.significance["control_to_finetuned"]

    text = conclusion(results, None)

    assert "Letter counts improved over the base model:" in text
    assert text.endswith("No control was evaluated, so a gain may come from the format alone.")


def test_without_a_tuned_model_nothing_is_concluded(results: EvaluationResults) -> None:
    results.finetuned_model = results.control_model = None

    assert conclusion(results, None) == "No tuned model was evaluated, so nothing can be said about training."


def test_the_headline_says_on_what_when_and_where(run_folder: Path) -> None:
    text = headline_markdown(run_folder)

    assert text.startswith("| metric |")
    assert "| 0.883 [0.871, 0.895] | – | – | 1,000 |" in text
    assert "test split, n = 1,000 words, 1,000 count questions, 1,000 position questions" in text
    assert "2026-11-14 on Intel(R) Xeon(R) Platinum 8481C, 2 cores (8 GiB of memory, bfloat16)" in text
    assert "Base model: HuggingFaceTB/SmolLM2-135M-Instruct, revision 0123456789abcdef." in text


def test_the_headline_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"evaluation_results\.json does not exist"):
        headline_markdown(tmp_path)
