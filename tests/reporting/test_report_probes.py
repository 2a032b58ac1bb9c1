"""What the report says about probes: where letters were known, where training changed it, and what is no change."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from letterwise.probe_results import (
    PROBE_QUESTIONS,
    PlaceProbes,
    ProbeAccuracy,
    ProbeBaseline,
    ProbeDifference,
    ProbedModel,
    ProbeResults,
)
from letterwise.reporting.probe_figure import plot_probes
from letterwise.reporting.report_document import Items, Picture, Table
from letterwise.reporting.report_probes import probes_section, what_probes_found
from letterwise.reporting.style import ROLE_STYLES
from letterwise.results import ModelRole

PLACES = ("embedding", "layer_1", "layer_2")
FOUND: dict[ModelRole, tuple[float, ...]] = {
    "base": (0.70, 0.80, 0.75),
    "finetuned": (0.70, 0.81, 0.88),
    "control": (0.70, 0.80, 0.76),
}


def accuracy(value: float) -> ProbeAccuracy:
    return ProbeAccuracy(value=value, interval=(value - 0.02, value + 0.02), n=4000)


def difference(place: int, first: ModelRole, second: ModelRole) -> list[ProbeDifference]:
    value = FOUND[second][place] - FOUND[first][place]
    return [
        ProbeDifference(
            place=PLACES[place],
            question=question,
            first=first,
            second=second,
            difference=value,
            interval=(value - 0.02, value + 0.02),
            n=4000,
        )
        for question in PROBE_QUESTIONS
    ]


@pytest.fixture
def probes() -> ProbeResults:
    return ProbeResults(
        seed=0,
        prefix="<|endoftext|>",
        tokens={"fit": 19000, "validation": 4800, "test": 6000},
        families={"fit": 9000, "validation": 2200, "test": 2800},
        letters_left_out=["q"],
        computed_on="cpu in float32",
        models={
            role: ProbedModel(
                id=role,
                revision="0123",
                places=[
                    PlaceProbes(
                        place=place,
                        accuracy=dict.fromkeys(PROBE_QUESTIONS, accuracy(value)),
                        letters={"a": accuracy(value - 0.1), "b": accuracy(value + 0.1)},
                    )
                    for place, value in zip(PLACES, values, strict=True)
                ],
            )
            for role, values in FOUND.items()
        },
        baselines={
            name: ProbeBaseline(accuracy=dict.fromkeys(PROBE_QUESTIONS, accuracy(value)), description=f"what {name} is")
            for name, value in (("majority_class", 0.5), ("appearance", 0.62))
        },
        differences={
            f"{first}_to_{second}": [entry for place in range(3) for entry in difference(place, first, second)]
            for first, second in (("base", "finetuned"), ("control", "finetuned"))
        },
    )


def test_the_sentences_say_where_it_was_and_where_it_went(probes: ProbeResults) -> None:
    contains, *_ = what_probes_found(probes)
    assert contains == (
        "Which letters a token contains: before training the embedding tells 70.0% [68.0, 72.0], and most of all layer "
        "1, 80.0% [78.0, 82.0]; the best baseline, appearance, has 62.0% [60.0, 64.0]. After training layer 2 tells "
        "most, 88.0% [86.0, 90.0]. It tells significantly more than the base model at 1 of 3 places, most so at layer "
        "2 (+13.0 [+11.0, +15.0] points). It tells significantly more than the control at 1 of 3 places, most so at "
        "layer 2 (+12.0 [+10.0, +14.0] points)."
    )


def test_no_difference_and_a_loss_are_said_as_plainly(probes: ProbeResults) -> None:
    for entry in probes.differences["base_to_finetuned"]:
        entry.difference, entry.interval = 0.001, (-0.01, 0.012)
    lost = probes.differences["control_to_finetuned"][0]
    lost.difference, lost.interval = -0.05, (-0.07, -0.03)
    contains, first, _ = what_probes_found(probes)
    assert "Nowhere does it differ significantly from the base model." in contains
    assert (
        "and tells significantly less than the control at 1 of 3 places, most so at the embedding (−5.0 [" in contains
    )
    assert "less than" not in first


def test_the_section_shows_every_place_and_letter_with_its_interval(probes: ProbeResults, tmp_path: Path) -> None:
    section = probes_section(probes, tmp_path / "probes.png")
    assert "Too rare for a probe: q." in section.blocks[0].text  # type: ignore[union-attr]
    assert isinstance(section.blocks[1], Items)
    assert isinstance(section.blocks[2], Picture)
    baselines, contains, first, last, letters = (block for block in section.blocks if isinstance(block, Table))
    assert baselines.rows[1] == ["what appearance is", *["62.0% [60.0, 64.0]"] * 3]
    assert contains.header == ["place", "base", "control", "tuned", "tuned − base", "tuned − control"]
    assert contains.rows[2] == [
        *("layer 2", "75.0% [73.0, 77.0]", "76.0% [74.0, 78.0]", "88.0% [86.0, 90.0]"),
        *("+13.0 [+11.0, +15.0]", "+12.0 [+10.0, +14.0]"),
    ]
    assert len(first.rows) == len(last.rows) == 3
    assert letters.header == ["letter", "base, embedding", "base, layer 1", "tuned, layer 2", "n"]
    assert letters.rows[0] == ["`a`", "60.0% [58.0, 62.0]", "70.0% [68.0, 72.0]", "78.0% [76.0, 80.0]", "4,000"]


def test_without_a_control_there_is_no_column_for_it(probes: ProbeResults) -> None:
    del probes.models["control"], probes.differences["control_to_finetuned"]
    tables = [block for block in probes_section(probes, None).blocks if isinstance(block, Table)]
    assert tables[1].header == ["place", "base", "tuned", "tuned − base"]
    assert "control" not in " ".join(what_probes_found(probes))


def test_the_figure_draws_every_model_at_every_place_and_the_baselines(probes: ProbeResults, tmp_path: Path) -> None:
    figure = plot_probes(probes, tmp_path / "probes.png")
    for panel in figure.axes:
        lines = {to_hex(line.get_color()): line for line in panel.lines if len(line.get_xdata()) == 3}  # type: ignore[arg-type]
        for role, values in FOUND.items():
            assert list(lines[ROLE_STYLES[role].colour.lower()].get_ydata()) == pytest.approx(values)  # type: ignore[arg-type]
        assert [text.get_text() for text in panel.get_legend().get_texts()] == [  # type: ignore[union-attr]
            *("majority class 50.0%", "appearance 62.0%")
        ]
    assert "6,000 vocabulary tokens" in figure.get_supxlabel()
    assert imread(tmp_path / "probes.png").shape[1] > 1000
