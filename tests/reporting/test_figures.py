"""Figures hold what the results say, leave out what is missing, and are the same bytes every time."""

from pathlib import Path

import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from letterwise.errors import LetterwiseError
from letterwise.reporting.figures import (
    plot_accuracy_by,
    plot_answer_modes,
    plot_confusion,
    plot_item_table,
    plot_model_bars,
    write_all_figures,
)
from letterwise.reporting.style import DOTS_PER_INCH, ROLE_STYLES, WIDTH_INCHES
from letterwise.reporting.training_figures import plot_learning_curves, plot_training_loss
from letterwise.results import (
    Estimate,
    EvaluationResults,
    TrainingLogEntry,
    TransferResults,
    read_training_log,
)

NAMES = {
    "position_count": {
        "model_bars.png",
        "answer_modes.png",
        "confusion.png",
        "item_table.png",
        "accuracy_by_word_length.png",
        "accuracy_by_n_tokens.png",
        "accuracy_by_position.png",
    },
    "spelling": {"learning_curves.png", "training_loss.png"},
}


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def bar_heights(panel) -> list[float]:
    return [bar.get_height() for group in panel.containers if isinstance(group, BarContainer) for bar in group]


def tick_labels(panel) -> list[str]:
    return [label.get_text() for label in panel.get_xticklabels()]


def legend_labels(owner) -> list[str]:
    return [text.get_text() for text in owner.get_texts()]


def test_model_bars_stand_at_the_measured_values(results: EvaluationResults, tmp_path: Path) -> None:
    figure = drawn(plot_model_bars(results, tmp_path / "bars.png"))

    spelling, count, position = figure.axes
    assert bar_heights(spelling) == [0.012, 0.013, 0.583]
    assert bar_heights(count) == [0.247, 0.255, 0.352]
    assert bar_heights(position) == [0.181, 0.190, 0.335]
    assert tick_labels(count) == ["Base", "Control", "Fine-tuned"]
    assert [text.get_text() for text in count.texts] == ["24.7%", "25.5%", "35.2%"]
    assert count.get_title() == "Letter count (n = 1,000)"
    assert "95% Wilson" in figure.get_supxlabel()


def test_model_bars_show_intervals_and_name_the_baselines(results: EvaluationResults, tmp_path: Path) -> None:
    figure = drawn(plot_model_bars(results, tmp_path / "bars.png"))

    _, count, _ = figure.axes
    whiskers = [segment[:, 1] for collection in count.collections for segment in collection.get_segments()]
    assert [tuple(ends) for ends in whiskers] == [
        pytest.approx(model.intervals["letter_count_accuracy"])
        for model in (results.base_model, results.control_model, results.finetuned_model)
        if model
    ]
    assert legend_labels(count.get_legend()) == ["majority class 25.1%", "letter frequency 26.8%"]
    assert {0.251, 0.268} <= {line.get_ydata()[0] for line in count.lines}
    assert len({line.get_linestyle() for line in count.get_legend().get_lines()}) == 2


def test_models_differ_in_more_than_colour(results: EvaluationResults, tmp_path: Path) -> None:
    figure = drawn(plot_model_bars(results, tmp_path / "bars.png"))

    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len({bar.get_hatch() for bar in bars}) == len({bar.get_facecolor() for bar in bars}) == 3
    assert len({style.marker for style in ROLE_STYLES.values()}) == 3


def test_a_missing_control_is_left_out_everywhere(results: EvaluationResults, tmp_path: Path) -> None:
    results.control_model = None
    for roles in results.answer_modes.values():
        del roles["control"]

    bars = drawn(plot_model_bars(results, tmp_path / "bars.png"))
    assert bar_heights(bars.axes[1]) == [0.247, 0.352]
    assert tick_labels(bars.axes[1]) == ["Base", "Fine-tuned"]
    modes = drawn(plot_answer_modes(results, tmp_path / "modes.png"))
    assert legend_labels(modes.legends[0]) == ["Base", "Fine-tuned"]
    by_length = drawn(plot_accuracy_by(results, "word_length", tmp_path / "length.png"))
    assert legend_labels(by_length.legends[0]) == ["Base", "Fine-tuned"]
    assert len(drawn(plot_confusion(results, tmp_path / "confusion.png")).axes) == 2


def test_a_missing_metric_leaves_out_its_panel(results: EvaluationResults, tmp_path: Path) -> None:
    for model in (results.base_model, results.control_model, results.finetuned_model):
        assert model is not None
        del model.metrics["spelling_accuracy"]

    figure = drawn(plot_model_bars(results, tmp_path / "bars.png"))

    assert [panel.get_title() for panel in figure.axes] == ["Letter count (n = 1,000)", "Letter position (n = 1,000)"]


def test_answer_modes_group_the_models_by_mode(results: EvaluationResults, tmp_path: Path) -> None:
    figure = drawn(plot_answer_modes(results, tmp_path / "modes.png"))

    count, position = figure.axes
    assert tick_labels(count) == ["Direct", "Spell first", "Computed"]
    assert bar_heights(count) == [0.247, 0.255, 0.352, 0.262, 0.259, 0.471, 0.301, 0.310, 0.862]
    assert position.get_title() == "Letter position (n = 1,000)"


def test_accuracy_by_group_is_in_order_with_each_groups_n(results: EvaluationResults, tmp_path: Path) -> None:
    figure = drawn(plot_accuracy_by(results, "word_length", tmp_path / "length.png"))

    labels = tick_labels(figure.axes[0])
    assert labels[0] == "4\n(n = 61)"
    assert labels[-1] == "14\n(n = 19)"
    assert [panel.get_title() for panel in figure.axes] == ["Spelling", "Letter count", "Letter position"]
    position = drawn(plot_accuracy_by(results, "position", tmp_path / "position.png"))
    assert [label.split("\n")[0] for label in tick_labels(position.axes[0])] == ["first", "inner", "last"]
    assert [panel.get_title() for panel in position.axes] == ["Letter position"]


def test_accuracy_by_group_needs_no_n(results: EvaluationResults, tmp_path: Path) -> None:
    for model in (results.base_model, results.control_model, results.finetuned_model):
        assert model is not None
        del model.breakdowns["letter_position_accuracy"]["position_n"]

    figure = drawn(plot_accuracy_by(results, "position", tmp_path / "position.png"))

    assert tick_labels(figure.axes[0]) == ["first", "inner", "last"]
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([0.2715, 0.1267, 0.1448])


def test_confusion_holds_every_count_of_questions(results: EvaluationResults, tmp_path: Path) -> None:
    results.base_model.confusion["10"] = {"2": 7}

    figure = drawn(plot_confusion(results, tmp_path / "confusion.png"))

    base = figure.axes[0]
    assert base.get_title().startswith("Base (n = 1,007)")
    assert [label.get_text() for label in base.get_yticklabels()] == ["0", "1", "2", "3", "10"]
    assert [text.get_text() for text in base.texts][:4] == ["62", "94", "47", "47"]
    assert [text.get_text() for text in base.texts][-4:] == ["0", "0", "7", "0"]
    assert base.images[0].get_array()[4].tolist() == [0, 0, 1, 0]


def test_item_table_shows_counts_shares_and_phi(transfer: TransferResults, tmp_path: Path) -> None:
    figure = drawn(plot_item_table(transfer, tmp_path / "items.png"))

    count, position = figure.axes
    assert count.get_title() == "Letter count (n = 1,000)\nphi = 0.174 [0.112, 0.236]"
    assert position.get_title().endswith("phi = 0.021 [−0.041, 0.083]")
    assert [text.get_text().split("\n")[0] for text in count.texts] == ["310", "107", "338", "245"]
    assert "42.0% of row" in count.texts[3].get_text()


def test_item_table_says_why_there_is_no_phi(transfer: TransferResults, tmp_path: Path) -> None:
    transfer.item_phi["letter_count"] = Estimate(value=None, reason="every word was spelled correctly")

    figure = drawn(plot_item_table(transfer, tmp_path / "items.png"))

    assert "no phi: every word was spelled correctly" in figure.axes[0].get_title().replace("\n", " ")


def test_learning_curves_follow_the_evaluations(
    log: list[TrainingLogEntry], results: EvaluationResults, tmp_path: Path
) -> None:
    figure = drawn(plot_learning_curves(log, results, tmp_path / "curves.png"))

    spelling, count, _ = figure.axes
    curves = {line.get_label(): line for line in spelling.lines}
    assert curves["Fine-tuned"].get_ydata()[-1] == pytest.approx(0.58)
    assert curves["Fine-tuned"].get_xdata()[-1] == pytest.approx(230.4)  # thousands of tokens
    assert curves["Control"].get_ydata()[-1] == pytest.approx(0.02)
    assert spelling.get_title() == "Spelling (n = 100)"
    bands = [
        band.get_paths()[0].vertices[:, 1] for band in spelling.collections if band.get_paths()[0].codes is not None
    ]
    assert any(band.max() == pytest.approx(0.6722, abs=1e-3) for band in bands)  # Wilson, 58 of 100
    assert legend_labels(count.get_legend()) == ["majority class 25.1%", "letter frequency 26.8%"]
    assert "final evaluation (n = 1,000), test split" in figure.get_supxlabel()


def test_training_figures_are_left_out_when_nothing_was_logged(log: list[TrainingLogEntry], tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    bare = [entry.model_copy(update={"evaluation": None, "loss": None}) for entry in log]

    assert plot_learning_curves(bare, None, path) is None
    assert plot_training_loss(bare, path) is None
    assert not path.exists()


def test_training_loss_draws_both_models(log: list[TrainingLogEntry], tmp_path: Path) -> None:
    figure = drawn(plot_training_loss(log, tmp_path / "loss.png"))

    assert legend_labels(figure.legends[0]) == ["Control", "Fine-tuned"]
    assert figure.axes[0].get_ylim()[0] == 0
    assert "n = 60 logged values" in figure.get_supxlabel()


def test_write_all_figures_fills_both_task_folders(run_folder: Path) -> None:
    written = write_all_figures(run_folder)

    for task, names in NAMES.items():
        folder = run_folder / task / "figures"
        assert {path.name for path in written if path.parent == folder} == names
        assert {path.name for path in folder.iterdir()} == names
    for path in written:
        height, width, _ = imread(path).shape
        assert width == WIDTH_INCHES * DOTS_PER_INCH
        assert height < 1.2 * width


def test_write_all_figures_leaves_out_what_has_no_file(run_folder: Path) -> None:
    (run_folder / "evaluation_results.json").unlink()
    (run_folder / "training_log.jsonl").unlink()

    assert [path.name for path in write_all_figures(run_folder)] == ["item_table.png"]


def test_equal_results_give_equal_bytes(results: EvaluationResults, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"

    plot_model_bars(results, first)
    plot_model_bars(results, second)

    assert first.read_bytes() == second.read_bytes()


def test_a_broken_log_line_is_named(run_folder: Path) -> None:
    path = run_folder / "training_log.jsonl"
    path.write_text(path.read_text().splitlines()[0] + '\n{"model": "finetuned", "see\n')

    with pytest.raises(LetterwiseError, match=r"Line 2 of .*training_log\.jsonl"):
        read_training_log(path)


def test_the_torn_last_line_of_a_killed_run_is_left_out(run_folder: Path) -> None:
    path = run_folder / "training_log.jsonl"
    complete = read_training_log(path)
    path.write_text(path.read_text() + '{"model": "finetuned", "see')

    assert read_training_log(path) == complete


def test_a_missing_log_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="does not exist"):
        read_training_log(tmp_path / "training_log.jsonl")
