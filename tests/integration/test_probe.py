"""`letterwise probe` on a finished run of either architecture: what it writes, what it skips, what the report shows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from letterwise import probe_steps
from letterwise.files import read_json, write_json
from letterwise.probe_results import ProbeResults
from letterwise.results import EvaluationResults, read_results

Letterwise = Callable[..., int]
SECTION = "Where the letters are known"


@pytest.fixture
def config(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, whose adapters stay where they are."""
    shutil.copytree(finished / "results", tmp_path / "results")
    settings = yaml.safe_load((finished / "experiment.yaml").read_text(encoding="utf-8"))
    settings["results_folder"] = str(tmp_path / "results")
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_probes_are_fitted_once_and_the_report_has_a_section_on_them(
    config: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config.parent / "results" / "tiny"
    environment = read_json(run / "environment.json")

    # Interrupted behind the first model: the second attempt reads and fits the others alone.
    fit, fitted = probe_steps._probe_model, []

    def interrupted(*arguments: object) -> object:
        if len(fitted) == 1:
            fitted.append("interruption")
            raise KeyboardInterrupt
        fitted.append(str(arguments[1]))
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(probe_steps, "_probe_model", interrupted)
    letterwise("probe", "--config", str(config))
    assert not (run / "probes.json").exists()
    assert letterwise("probe", "--config", str(config)) == 0
    assert fitted == ["base", "interruption", "finetuned", "control"]
    assert "Which letters a token contains: before training the embedding tells" in capsys.readouterr().out

    probes = read_results(run / "probes.json", ProbeResults)
    evaluation = read_results(run / "evaluation_results.json", EvaluationResults)
    assert list(probes.models) == ["base", "finetuned", "control"]
    for role, model in probes.models.items():
        assert [place.place for place in model.places] == ["embedding", "layer_1", "layer_2"]
        evaluated = evaluation.model(role)
        assert evaluated
        assert model.revision == evaluated.revision
        for accuracy in model.places[1].accuracy.values():
            assert accuracy.interval[0] <= accuracy.value <= accuracy.interval[1]
    assert probes.baselines.keys() == {"majority_class", "shuffled_tokens", "appearance"}
    assert probes.prefix == "<|endoftext|>"
    assert {"e", "s"} <= probes.models["base"].places[0].letters.keys()
    changed = {entry.place for entry in probes.differences["base_to_finetuned"] if entry.difference}
    assert "embedding" not in changed  # the adapter does not touch it
    assert (run / "figures" / "probes.png").read_bytes().startswith(b"\x89PNG")
    assert not (run / ".probes").exists()
    assert read_json(run / "environment.json") == environment

    assert letterwise("probe", "--config", str(config)) == 0
    assert "probe: up to date" in capsys.readouterr().out

    assert SECTION not in (run / "final_report.html").read_text(encoding="utf-8")
    assert letterwise("report", "--config", str(config)) == 0
    page = (run / "final_report.html").read_text(encoding="utf-8")
    assert SECTION in page
    assert f"{probes.models['base'].places[2].accuracy['last_letter'].value:.1%}" in page


def test_held_out_words_are_no_part_of_it(
    config: Path, letterwise: Letterwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config.parent / "results" / "tiny"
    asked: list[int] = []
    write = probe_steps.write_representations

    def listened(model: object, prefix: int, ids: list[int], *others: object) -> object:
        asked.extend(ids)
        return write(model, prefix, ids, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(probe_steps, "write_representations", listened)
    assert letterwise("probe", "--config", str(config)) == 0
    words = {
        token["token_id"]: token["token"].strip().lower()
        for token in read_json(run / "words" / "tokens.json")["tokens"]
    }
    held_out = read_json(run / "words" / "held_out_words.json")
    assert len(set(asked)) > 500
    assert not {words[token] for token in asked} & {*held_out["test"], *held_out["validation"]}


def test_probes_of_other_adapters_stay_out_of_the_report(config: Path, letterwise: Letterwise) -> None:
    run = config.parent / "results" / "tiny"
    assert letterwise("probe", "--config", str(config)) == 0
    probes = read_json(run / "probes.json")
    probes["models"]["finetuned"]["revision"] = "of another training"
    write_json(run / "probes.json", probes)
    assert letterwise("report", "--config", str(config)) == 0
    assert SECTION not in (run / "final_report.html").read_text(encoding="utf-8")


def test_a_run_that_is_not_trained_is_refused(
    config: Path, letterwise: Letterwise, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["checkpoints_folder"] = str(config.parent / "none")
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert letterwise("probe", "--config", str(config)) == 2
    assert re.search(r"finetuned/best holds no adapter .*train one first", capsys.readouterr().err)
