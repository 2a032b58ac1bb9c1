from pathlib import Path
from unittest.mock import patch

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from letterwise.errors import LetterwiseError
from letterwise.reporting.word_figures import plot_token_distribution
from letterwise.words.vocabulary import LetterToken

TOKENS = [
    LetterToken(token=text, token_id=number, char_length=len(text.strip()))
    for number, text in enumerate([" red", "red", " sky", " Red", "USA", "berry", "iPhone"])
]


def drawn_axes(path: Path) -> Axes:
    """Plot `TOKENS` and give the axes that were saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def remember(figure: Figure, *arguments: object, **options: object) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    with patch.object(Figure, "savefig", remember):
        plot_token_distribution(TOKENS, path)
    return saved[0].axes[0]


def test_the_bars_stack_to_the_number_of_tokens_of_each_length(tmp_path: Path) -> None:
    axes = drawn_axes(tmp_path / "tokens.png")
    heights = [sum(bar.get_height() for bar in bars) for bars in zip(*axes.containers, strict=True)]
    assert heights == [5, 1, 1]
    assert [label.get_text() for label in axes.texts] == ["5", "1", "1"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["3", "5", "6"]


def test_forms_differ_in_colour_and_leading_space_in_hatching_with_n_named(tmp_path: Path) -> None:
    axes = drawn_axes(tmp_path / "tokens.png")
    bars = {container.get_label(): container[0] for container in axes.containers}
    with_space = bars["lower, leading space (n = 2)"]
    without = bars["lower, no leading space (n = 2)"]
    assert with_space.get_facecolor() == without.get_facecolor()
    assert with_space.get_hatch() != without.get_hatch()
    assert len({bar.get_facecolor() for bar in bars.values()}) == 4
    assert "n = 7" in axes.get_title()


def test_the_png_is_written_whole_and_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "tokens.png"
    plot_token_distribution(TOKENS, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(path.parent.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LetterwiseError, match="Cannot write"):
        plot_token_distribution(TOKENS, tmp_path / "file" / "tokens.png")
