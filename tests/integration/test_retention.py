"""`letterwise retention` on a finished run, and what the report makes of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from letterwise.analysis_results import Retention
from letterwise.files import read_json, write_json
from letterwise.results import EvaluationResults, read_results

Letterwise = Callable[..., int]


@pytest.fixture
def experiment(finished: Path, tmp_path: Path) -> Path:
    """The configuration of a finished run with a results folder of its own."""
    shutil.copytree(finished / "results", tmp_path / "results")
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings["results_folder"] = str(tmp_path / "results")
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def page(run: Path) -> str:
    return (run / "final_report.html").read_text(encoding="utf-8")


def test_retention_is_measured_once_and_shown_in_the_report(
    experiment: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiment.parent / "results" / "tiny"
    before = read_json(run / "environment.json")
    assert letterwise("retention", "--config", str(experiment)) == 0

    printed = capsys.readouterr().out
    found = read_results(run / "retention.json", Retention)
    assert found.perplexity.keys() == {"base", "finetuned", "control"}
    assert found.text.passages == 128
    assert found.text.tokens == 128 * 127
    evaluated = read_results(run / "evaluation_results.json", EvaluationResults)
    assert evaluated.finetuned_model
    assert found.revisions["finetuned"] == evaluated.finetuned_model.revision
    # A random model knows no English: about as good as guessing evenly among 1,200 tokens, or worse.
    assert math.log(found.perplexity["base"].value or 1) > math.log(1000)
    assert f"{found.perplexity['base'].value:.3f}" in printed
    assert "the tuned model's perplexity is" in " ".join(printed.split())
    assert read_json(run / "environment.json") == before

    assert letterwise("retention", "--config", str(experiment)) == 0
    assert "retention: up to date" in capsys.readouterr().out
    assert "Retention" not in page(run)
    assert letterwise("report", "--config", str(experiment)) == 0
    assert "Retention</h2>" in page(run)
    assert f"{found.perplexity['finetuned'].value:.3f}" in page(run)


@pytest.mark.parametrize("finished", ["tiny_gpt2"], indirect=True)
def test_a_measurement_of_other_adapters_is_not_shown(experiment: Path, letterwise: Letterwise) -> None:
    run = experiment.parent / "results" / "tiny"
    assert letterwise("retention", "--config", str(experiment)) == 0
    other = read_json(run / "retention.json")
    other["revisions"]["finetuned"] = "0" * 16
    write_json(run / "retention.json", other)
    assert letterwise("report", "--config", str(experiment)) == 0
    assert "Retention</h2>" not in page(run)


@pytest.mark.parametrize("finished", ["tiny_gpt2"], indirect=True)
def test_an_untrained_run_is_told_what_to_do(
    experiment: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(experiment.read_text(encoding="utf-8"))
    settings["checkpoints_folder"] = str(experiment.parent / "none")
    experiment.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert letterwise("retention", "--config", str(experiment)) == 2
    assert "train one first" in capsys.readouterr().err
