"""How a finished run comes into docs/results/, and that what is recorded there can be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import finished_run as with_predictions
import pytest
from matplotlib.image import imread
from recordable_run import add_analyses, record_steps, write_log, write_run

from letterwise.analysis_results import ITEM_ANALYSIS_FILE, RETENTION_FILE, ItemAnalysis, Retention
from letterwise.config import ExperimentConfig, TrainingConfig, dump_config, load_config
from letterwise.errors import LetterwiseError
from letterwise.evaluation_log import EVALUATION_LOG, read_evaluation_log
from letterwise.files import read_json, sha256_file, write_json, write_text
from letterwise.probe_results import PROBES_FILE, ProbeResults
from letterwise.reporting.report import write_report
from letterwise.reporting.report_model import Conclusion, ErrorAnalysis
from letterwise.reporting.summary import headline_markdown
from letterwise.results import (
    DataAudit,
    Environment,
    EvaluationResults,
    ModelResults,
    ResultsModel,
    TransferResults,
    read_results,
    read_training_log,
    write_results,
)

ROOT = Path(__file__).parents[1]
generated, update_results = map(import_module, ("generated", "update_results"))


def names_of(files: Iterable[str]) -> set[str]:
    return {Path(name).name for name in files}


def recorded_runs() -> list[Path]:
    return sorted(path for path in (ROOT / "docs" / "results").glob("*") if path.is_dir() and path.name != "study")


SHOWN_WHOLE = generated.PREFERRED_RUNS[0]
"""The run of which the documents show every figure."""
SMALL = [name for name in update_results.FILES if name not in update_results.OTHER_FIGURES]
KINDS: dict[str, type[ResultsModel]] = {
    "evaluation_results.json": EvaluationResults,
    "transfer.json": TransferResults,
    "environment.json": Environment,
    "data_audit.json": DataAudit,
    ITEM_ANALYSIS_FILE: ItemAnalysis,
    RETENTION_FILE: Retention,
    PROBES_FILE: ProbeResults,
}


def test_recorded_runs_can_be_read() -> None:
    for folder in recorded_runs():
        names = {path.name for path in folder.iterdir()}
        assert names >= names_of(update_results.FILES if folder.name == SHOWN_WHOLE else SMALL)
        config = load_config(folder / "config.yaml")
        assert config.run_name == folder.name
        assert {name for name in names if name.startswith("seed-")} == {f"seed-{seed}" for seed in config.further_seeds}
        assert read_results(folder / "data_audit.json", DataAudit).passed
        for path in folder.rglob("*.json*"):
            if path.name in KINDS:
                read_results(path, KINDS[path.name])
            elif path.name == EVALUATION_LOG:
                assert read_evaluation_log(path.parent)
            elif path.name == update_results.SECONDS_FILE:
                assert all(seconds >= 0 for seconds in read_json(path).values())
            elif path.name == update_results.FINDINGS_FILE:
                findings = read_json(path)
                ErrorAnalysis.model_validate(findings["error_analysis"])
                Conclusion.model_validate(findings["conclusion"])
            else:
                assert read_training_log(path)


def test_what_is_recorded_is_small() -> None:
    results = ROOT / "docs" / "results"
    assert sum(path.stat().st_size for path in results.rglob("*") if path.is_file()) < 1_000_000


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "quick")


def test_a_finished_run_is_copied_and_shown(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "RESULTS", tmp_path / "results")
    assert generated.headline() == generated.transfer_table() == generated.NO_RUN
    copied = update_results.copy_results(finished_run, tmp_path / "results")
    named = {Path(name).name for name in (*update_results.FILES, update_results.SECONDS_FILE)}
    assert {path.name for path in copied.iterdir()} == named
    assert (copied / "training_log.jsonl").read_bytes() == (finished_run / "training_log.jsonl").read_bytes()
    assert generated.recorded_run() == copied
    headline = generated.headline()
    assert headline_markdown(copied) in headline
    assert "rose from 10.0% [5.0, 15.0] to 40.0% [35.0, 45.0]" in headline
    assert "All steps of the run, 2 trainings and their evaluations, add up to 6 minutes." in headline
    assert "![" in headline
    assert "(results/quick/model_bars.png)" in headline
    assert "(results/quick/answer_modes.png)" in generated.answer_modes()
    assert "commit 0123456789ab." in headline
    assert "tuned adapter 2.0 minutes (4 steps, 2,000 tokens)" in generated.quick_run_time()
    assert "5,000 training words, 9,000 tokens, gave 10,000 texts" in generated.audit_summary()
    audit = read_results(copied / "data_audit.json", DataAudit)
    audit.n["extra_training_words"] = 700
    write_results(copied / "data_audit.json", audit)
    assert "9,000 tokens, and 700 further words of several tokens gave 10,000" in generated.audit_summary()
    assert "| 4 | 2,000 | 10.0% |" in generated.training_progress()
    assert "| `correlation` | letter_count | There are too few checkpoints. | – |" in generated.transfer_table()
    assert "| `control_adjusted_gain` | spelling | 0.300 [0.280, 0.320] | 100 |" in generated.transfer_table()


def test_the_standard_run_is_preferred(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "RESULTS", tmp_path / "results")
    update_results.copy_results(finished_run, tmp_path / "results")
    standard = update_results.copy_results(
        finished_run.rename(finished_run.with_name("standard")), tmp_path / "results"
    )
    assert generated.recorded_run() == standard


def test_the_time_of_a_run_is_that_of_all_its_seeds_and_of_none_if_one_does_not_say_it(
    two_seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "RESULTS", tmp_path / "results")
    for afterwards in update_results.AFTERWARDS:
        write_json(two_seeds / ".steps" / f"{afterwards}.json", {"inputs": "any", "outputs": {}, "seconds": 600.0})
    update_results.copy_results(two_seeds, tmp_path / "results")
    assert "All steps of the run, 4 trainings and their evaluations, add up to 12 minutes." in generated.headline()
    write_json(two_seeds.with_name("quick-seed-1") / ".steps" / "words.json", {"inputs": "any", "outputs": {}})
    update_results.copy_results(two_seeds, tmp_path / "results")
    assert "All steps" not in generated.headline()


def test_another_family_is_shown_as_a_page_in_docs_links_to_it(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "DOCS", tmp_path)
    monkeypatch.setattr(generated, "RESULTS", tmp_path / "results")
    assert generated.second_family() == generated.NO_RUN
    shutil.copytree(
        update_results.copy_results(finished_run, tmp_path / "results"), tmp_path / "results" / generated.SECOND_FAMILY
    )
    shown = generated.second_family()
    assert headline_markdown(tmp_path / "results" / "quick") in shown
    assert f"](results/{generated.SECOND_FAMILY}/model_bars.png)" in shown


def test_a_long_training_log_is_thinned_to_its_evaluations(finished_run: Path, tmp_path: Path) -> None:
    write_log(finished_run, steps=400)
    copied = update_results.copy_results(finished_run, tmp_path / "results")
    steps = [entry.step for entry in read_training_log(copied / "training_log.jsonl")]
    assert steps == 2 * list(range(0, 401, 4))


def test_an_unfinished_run_is_refused(finished_run: Path, tmp_path: Path) -> None:
    (finished_run / ".steps" / "transfer.json").unlink()
    with pytest.raises(LetterwiseError, match="step transfer is missing"):
        update_results.copy_results(finished_run, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_changed_file_is_refused(finished_run: Path, tmp_path: Path) -> None:
    with (finished_run / "evaluation_results.json").open("a") as stream:
        stream.write("\n")
    with pytest.raises(LetterwiseError, match="changed after step evaluate"):
        update_results.copy_results(finished_run, tmp_path / "results")


def test_a_run_trained_again_after_its_evaluation_is_refused(finished_run: Path, tmp_path: Path) -> None:
    record = finished_run / ".steps" / "train-control.json"
    write_json(record, {"inputs": "any", "outputs": {update_results.ADAPTER: "c" * 64}})
    with pytest.raises(LetterwiseError, match="without the adapter of step train-control"):
        update_results.copy_results(finished_run, tmp_path / "results")


def test_a_further_control_has_to_be_the_one_that_was_evaluated(finished_run: Path, tmp_path: Path) -> None:
    path = finished_run / "evaluation_results.json"
    results = read_results(path, EvaluationResults)
    results.other_controls["ceiling"] = ModelResults(id="tiny", revision="d" * 16, metrics={})
    write_results(path, results)
    write_json(finished_run / ".steps" / "evaluate.json", {"inputs": "any", "outputs": {path.name: sha256_file(path)}})
    with pytest.raises(LetterwiseError, match="without the adapter of step train-ceiling"):
        update_results.copy_results(finished_run, tmp_path / "results")
    record = finished_run / ".steps" / "train-ceiling.json"
    write_json(record, {"inputs": "any", "outputs": {update_results.ADAPTER: "d" * 64}})
    update_results.copy_results(finished_run, tmp_path / "results")


def test_a_transfer_analysis_of_an_earlier_evaluation_is_refused(finished_run: Path, tmp_path: Path) -> None:
    path = finished_run / "transfer.json"
    transfer = read_results(path, TransferResults)
    transfer.control_adjusted_gain["letter_count"].value = 0.5
    write_results(path, transfer)
    write_json(finished_run / ".steps" / "transfer.json", {"inputs": "any", "outputs": {path.name: sha256_file(path)}})
    with pytest.raises(LetterwiseError, match="not of the last evaluation"):
        update_results.copy_results(finished_run, tmp_path / "results")


def test_figures_are_recorded_small_and_json_in_one_line(finished_run: Path, tmp_path: Path) -> None:
    copied = update_results.copy_results(finished_run, tmp_path / "results")
    drawn, kept = finished_run / "position_count" / "figures" / "model_bars.png", copied / "model_bars.png"
    assert kept.stat().st_size < drawn.stat().st_size
    assert imread(kept).shape[:2] == imread(drawn).shape[:2]
    assert (copied / "transfer.json").read_text().count("\n") == 1
    assert read_json(copied / "transfer.json") == read_json(finished_run / "transfer.json")


@pytest.fixture
def analysed_run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "quick"
    folder.mkdir(parents=True)
    with_predictions.complete(folder)
    write_run(folder)
    add_analyses(folder)
    write_report(folder)
    return folder


def test_the_analyses_of_a_run_are_recorded_with_it(analysed_run: Path, tmp_path: Path) -> None:
    copied = update_results.copy_results(analysed_run, tmp_path / "results")
    for name in (ITEM_ANALYSIS_FILE, RETENTION_FILE):
        assert read_json(copied / name) == read_json(analysed_run / name)
    probes, whole = (read_results(each / PROBES_FILE, ProbeResults) for each in (copied, analysed_run))
    assert probes.differences == whole.differences
    assert not any(place.letters for model in probes.models.values() for place in model.places)
    assert (copied / "probes.png").is_file()
    findings = read_json(copied / update_results.FINDINGS_FILE)
    assert findings.keys() == {"error_analysis", "conclusion"}
    assert findings["error_analysis"]["spelling"]["n"] == 6


def test_analyses_and_figures_but_the_one_of_the_table_are_left_out_of_what_is_to_be_small(
    analysed_run: Path, tmp_path: Path
) -> None:
    copied = update_results.copy_results(analysed_run, tmp_path / "results", small=True)
    assert {path.name for path in copied.iterdir()} == {*names_of(SMALL), update_results.SECONDS_FILE}
    assert (copied / "model_bars.png").is_file()


@pytest.mark.parametrize("analysis", ["retention", "probe", "report"])
def test_an_analysis_of_earlier_adapters_is_refused(analysed_run: Path, tmp_path: Path, analysis: str) -> None:
    name = {"retention": RETENTION_FILE, "probe": PROBES_FILE, "report": update_results.REPORT}[analysis]
    text = (analysed_run / name).read_text(encoding="utf-8")
    write_text(analysed_run / name, text.replace("a" * 16, "0" * 16))
    with pytest.raises(LetterwiseError, match=rf"{name} is not of the models .* run `letterwise {analysis}` again"):
        update_results.copy_results(analysed_run, tmp_path / "results")


@pytest.fixture
def two_seeds(tmp_path: Path) -> Path:
    """A run and that of its further seed, which spells better."""
    config = ExperimentConfig(run_name="quick", further_seeds=[1])
    write_run(tmp_path / "runs" / "quick-seed-1", config.with_seed(1), spelling=0.5)
    return write_run(tmp_path / "runs" / "quick", config)


def test_further_seeds_are_recorded_with_their_run(two_seeds: Path, tmp_path: Path) -> None:
    copied = update_results.copy_results(two_seeds, tmp_path / "results")
    named = {*update_results.SEED_FILES, update_results.SECONDS_FILE}
    assert {path.name for path in (copied / "seed-1").iterdir()} == named
    again = read_results(copied / "seed-1" / "evaluation_results.json", EvaluationResults)
    assert again.finetuned_model
    assert again.finetuned_model.metrics["spelling_accuracy"] == 0.5
    assert again.finetuned_model.breakdowns == {}
    assert read_results(copied / "evaluation_results.json", EvaluationResults).base_model.breakdowns


@pytest.mark.parametrize("other", ["unfinished", "other words", "other training"])
def test_a_further_seed_that_differs_in_more_than_that_is_refused(two_seeds: Path, tmp_path: Path, other: str) -> None:
    folder = two_seeds.with_name("quick-seed-1")
    if other == "unfinished":
        (folder / ".steps" / "transfer.json").unlink()
    elif other == "other words":
        audit = read_results(folder / "data_audit.json", DataAudit)
        write_results(
            folder / "data_audit.json", audit.model_copy(update={"checksums": {"spelling/train.parquet": "0"}})
        )
        record_steps(folder)
    else:
        config = load_config(folder / "config.yaml")
        longer = config.model_copy(update={"training": TrainingConfig(seed=1, max_steps=99)})
        write_text(folder / "config.yaml", dump_config(longer))
    with pytest.raises(LetterwiseError, match=r"step transfer is missing|in more than the seed of its training"):
        update_results.copy_results(two_seeds, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_transfer_analysis_from_before_the_further_seed_is_refused(two_seeds: Path, tmp_path: Path) -> None:
    transfer = read_results(two_seeds / "transfer.json", TransferResults)
    transfer.checkpoints.pop()
    write_results(two_seeds / "transfer.json", transfer)
    record_steps(two_seeds)
    with pytest.raises(LetterwiseError, match="is not of all seeds"):
        update_results.copy_results(two_seeds, tmp_path / "results")


def test_a_further_seed_may_have_fewer_controls(two_seeds: Path, tmp_path: Path) -> None:
    write_run(two_seeds, load_config(two_seeds / "config.yaml"), every_control=True)
    copied = update_results.copy_results(two_seeds, tmp_path / "results")
    assert read_results(copied / "evaluation_results.json", EvaluationResults).other_controls
    assert not read_results(copied / "seed-1" / "evaluation_results.json", EvaluationResults).other_controls
