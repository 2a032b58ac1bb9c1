"""Seeds of one training stand side by side only where nothing else differs, and a mean tells what it is a mean of."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordable_run import write_run

from letterwise.config import ExperimentConfig, LoraSection, TrainingConfig, dump_config
from letterwise.files import write_text
from letterwise.reporting.over_seeds import accuracy, gains, read_seeds, seed_columns, seed_rows

CONFIG = ExperimentConfig(run_name="quick", further_seeds=[1, 2], controls_of_further_seeds=["shuffled"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with its ceiling, and that of the first of its two further seeds."""
    write_run(tmp_path / "quick-seed-1", CONFIG.with_seed(1), spelling=0.5)
    return write_run(tmp_path / "quick", CONFIG, every_control=True)


def test_a_seed_that_is_not_there_yet_is_left_out(run: Path) -> None:
    assert list(read_seeds(run, CONFIG)) == [0, 1]


@pytest.mark.parametrize(
    "changed",
    [
        {"training": TrainingConfig(seed=1, max_steps=99)},
        {"lora": LoraSection(rank=4)},
        {"base_model": "another"},
        {"seed": 5},
    ],
)
def test_a_run_that_was_made_otherwise_is_no_further_seed(run: Path, changed: dict[str, object]) -> None:
    other = CONFIG.with_seed(1).model_copy(update=changed)
    write_text(run.with_name("quick-seed-1") / "config.yaml", dump_config(other))
    assert list(read_seeds(run, CONFIG)) == [0]


def test_a_mean_is_of_the_seeds_that_have_the_model(run: Path) -> None:
    found = read_seeds(run, CONFIG)
    spelling, ceiling = (accuracy(found, "spelling_accuracy", None, role) for role in ("finetuned", "ceiling"))
    assert spelling
    assert spelling.values == {0: 0.4, 1: 0.5}
    assert spelling.mean == pytest.approx(0.45)
    assert spelling.interval == pytest.approx((0.356, 0.548), abs=1e-3)
    assert ceiling
    assert ceiling.values.keys() == {0}
    assert {seed: gain.difference for seed, gain in gains(found, "spelling_accuracy", None).items()} == {0: 0.3, 1: 0.4}
    rows = [dict(zip(seed_columns(found), row, strict=True)) for row in seed_rows(found)]
    (of_ceiling,) = [row for row in rows if row["figure"] == "spelling_accuracy" and row["model"] == "ceiling"]
    assert (of_ceiling["seed 0"], of_ceiling["seed 1"], of_ceiling["n"]) == ("10.0%", "–", "100")
    (gain,) = [row for row in rows if row["figure"] == "spelling_accuracy" and row["model"] == "tuned − control"]
    assert (gain["mean"], gain["seed 1"]) == ("+35.0", "+40.0 [+38.0, +42.0]")
