"""Are the figures in a card, its metadata, `.eval_results` and `evaluation_results.json` the same?

Knows where figures stand; knows nothing about the Hub or about models.
"""

from __future__ import annotations

from itertools import takewhile, zip_longest
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries

from letterwise import __version__
from letterwise.errors import LetterwiseError
from letterwise.publication import Bundle, RepositoryKind
from letterwise.reporting.dataset_card import dataset_card
from letterwise.reporting.hub_results import BENCHMARK_TASKS, PublishedMetric, published_metrics
from letterwise.reporting.model_card import model_card
from letterwise.reporting.summary import NOT_SHARES, number_text, share_text
from letterwise.results import EvaluationResults, read_results

CONTEXT = 30
"""Characters shown around the place where a line differs."""


def card_text_problems(folder: Path, bundle: Bundle) -> list[str]:
    """Write the card again from the bundle's files, and name the lines of the published one that differ.

    A card of another version of letterwise has another text; of it the figures alone are looked for.
    """
    try:
        text = card_text(folder)
        if bundle.letterwise != __version__:
            return _missing_figures(folder, bundle, text)
        wanted = (model_card if bundle.kind == "model" else dataset_card)(folder)
    except LetterwiseError as error:
        return [str(error)]
    pairs = zip_longest(wanted.rstrip("\n").split("\n"), text.rstrip("\n").split("\n"))
    return [
        f"line {number} of README.md says '{_around(found, line)}' where the files say '{_around(line, found)}'"
        for number, (line, found) in enumerate(pairs, start=1)
        if line != found
    ]


def card_text(folder: Path) -> str:
    """The card as it was published.

    Raises:
        LetterwiseError: there is none, or it is no text.
    """
    try:
        return (folder / "README.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LetterwiseError("README.md is missing.") from None
    except UnicodeDecodeError as error:
        raise LetterwiseError(f"README.md cannot be read ({error}).") from error


def read_card(folder: Path, kind: RepositoryKind) -> ModelCard | DatasetCard:
    """The card with its metadata.

    Raises:
        LetterwiseError: there is none, or its metadata cannot be read.
    """
    text = card_text(folder)
    try:
        return (ModelCard if kind == "model" else DatasetCard)(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise LetterwiseError(f"The metadata of README.md cannot be read ({_in_one_line(error)}).") from error


def figure_problems(folder: Path, bundle: Bundle) -> list[str]:
    """Compare `model-index` and `.eval_results` with `evaluation_results.json`."""
    try:
        results = read_results(folder / "evaluation_results.json", EvaluationResults)
        card = read_card(folder, "model")
    except LetterwiseError as error:
        return [str(error)]
    measured = {(entry.metric, str(entry.mode)): entry.value for entry in published_metrics(results)}
    indexed: dict[tuple[str, str], float] = {
        (result.metric_type, str((result.metric_args or {}).get("answer_mode"))): result.metric_value
        for result in card.data.eval_results or []
    }
    problems = _differences("model-index", measured, indexed)
    if bundle.dataset_id:
        tasks = {task: metric for metric, task in BENCHMARK_TASKS.items()}
        listed = {}
        for path in sorted((folder / ".eval_results").glob("*.yaml")):
            mode = path.stem.removeprefix("letterwise").removeprefix("_") or "direct"
            try:
                entries = parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
            # No YAML, no text, or not of the shape that the Hub reads.
            except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
                problems.append(f".eval_results/{path.name} cannot be read ({_in_one_line(error)})")
                continue
            for entry in entries:
                listed[tasks.get(entry.task_id, entry.task_id), mode] = entry.value
        wanted = {key: value for key, value in measured.items() if key[0] in BENCHMARK_TASKS}
        problems += _differences(".eval_results", wanted, listed)
    return problems


def _differences(where: str, measured: dict[tuple[str, str], float], found: dict[tuple[str, str], float]) -> list[str]:
    return [
        f"{where} has {found.get(key, 'nothing')} for {key[0]} ({key[1]}), "
        f"evaluation_results.json {measured.get(key, 'nothing')}"
        for key in sorted({*measured, *found}, key=str)
        if measured.get(key) != found.get(key)
    ]


def _missing_figures(folder: Path, bundle: Bundle, text: str) -> list[str]:
    if bundle.kind == "dataset":
        return []
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        f"README.md has no row of {entry.metric} ({entry.mode}) with {_written(entry)}"
        for entry in published_metrics(results)
        if not any(line.startswith(f"| {entry.metric}") and _written(entry) in line for line in rows)
    ]


def _written(entry: PublishedMetric) -> str:
    return (number_text if entry.metric in NOT_SHARES else share_text)(entry.value, entry.interval)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _around(line: str | None, other: str | None) -> str:
    """The part of a line where it begins to differ from the other."""
    if line is None:
        return "nothing"
    same = takewhile(lambda pair: pair[0] == pair[1], zip(line, other or "", strict=False))
    start = max(len(list(same)) - CONTEXT, 0)
    return f"{'…' if start else ''}{line[start : start + 3 * CONTEXT]}"
