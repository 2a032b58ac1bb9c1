"""Is what lies on the Hub what was measured? Downloads a repository into an empty cache and checks everything.

Each check names what differs. Works on a bundle's folder too. Knows bundles; knows nothing about how they are made.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from letterwise.errors import LetterwiseError
from letterwise.models import BaseModel, resolve_base
from letterwise.publication import (
    BUNDLE_FILE,
    PREDICTIONS_FILE,
    Bundle,
    RepositoryKind,
    StoredPredictions,
    checksums_in,
    files_in,
)
from letterwise.publishing.bundle import MERGED
from letterwise.publishing.card_checks import card_text, card_text_problems, figure_problems, read_card
from letterwise.publishing.dataset_checks import row_problems
from letterwise.publishing.hub import quietly, told
from letterwise.publishing.predictions import answer, differences, load_engine
from letterwise.results import read_results

Say = Callable[[str], None]
SHOWN = 5
"""Problems of one check that are shown; the rest is counted."""


@dataclass(frozen=True)
class Check:
    """One thing looked at, and what was found wrong."""

    name: str
    problems: list[str]


@contextmanager
def downloaded(repo_id: str, kind: RepositoryKind, revision: str | None = None) -> Iterator[Path]:
    """The files of a repository, fetched into an empty cache that is removed afterwards.

    Raises:
        LetterwiseError: there is no such repository, or the Hub cannot be reached.
    """
    with tempfile.TemporaryDirectory() as cache:
        with told(repo_id), quietly():
            folder = Path(snapshot_download(repo_id, repo_type=kind, revision=revision, cache_dir=cache))
        yield folder


def kind_of(repo_id: str) -> RepositoryKind:
    """Whether a repository of that name is a model or a dataset.

    Raises:
        LetterwiseError: the Hub has neither, or the Hub cannot be reached.
    """
    with told(repo_id):
        api = HfApi()
        if api.repo_exists(repo_id, repo_type="model"):
            return "model"
        if api.repo_exists(repo_id, repo_type="dataset"):
            return "dataset"
    raise LetterwiseError(f"The Hub has no {repo_id}, or the token may not see it.")


def verify(folder: Path, base_name: str | None = None, *, on_hub: bool, say: Say = lambda line: None) -> list[Check]:
    """Check a bundle, as downloaded or as made.

    Args:
        folder: the files.
        base_name: as `--base-model` takes it, where the bundle's base model is a folder of somebody's machine.
        on_hub: whether the Hub can be asked too: about the card's metadata and about the repositories that it links to.
        say: told of each check when it is done.

    Raises:
        LetterwiseError: the folder is no bundle, or the base model is not at hand.
    """
    if not (folder / BUNDLE_FILE).is_file():
        raise LetterwiseError(f"It was not published by letterwise: {BUNDLE_FILE} is missing.")
    bundle = read_results(folder / BUNDLE_FILE, Bundle)
    checks = []
    for name, look in _checks(folder, bundle, base_name, on_hub):
        problems = look()
        checks.append(Check(name, problems))
        say(f"  {'✓' if not problems else '✗'} {name}")
        for problem in problems[:SHOWN]:
            say(f"      {problem}")
        if len(problems) > SHOWN:
            say(f"      and {len(problems) - SHOWN} more")
    return checks


def _checks(
    folder: Path, bundle: Bundle, base_name: str | None, on_hub: bool
) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    yield "every file is whole", lambda: _checksum_problems(folder, bundle)
    if on_hub:
        yield "the Hub accepts the card's metadata", lambda: _metadata_problems(folder, bundle)
    yield "every link and file named in the card exists", lambda: _link_problems(folder, bundle, on_hub)
    yield "the card's text and figures are those of its files", lambda: card_text_problems(folder, bundle)
    if bundle.kind == "dataset":
        yield "every row loads and holds the truth", lambda: row_problems(folder)
        return
    yield "the figures are the same everywhere", lambda: figure_problems(folder, bundle)
    try:
        stored = read_results(folder / PREDICTIONS_FILE, StoredPredictions)
    except LetterwiseError as error:
        there = (folder / PREDICTIONS_FILE).is_file()
        unusable = str(error).replace(f"{folder}/", "") if there else f"{PREDICTIONS_FILE} is missing"
        yield "the stored predictions can be repeated", lambda: [unusable]
        return
    count = len(stored.predictions)
    yield (
        f"the adapter repeats {count} stored predictions",
        lambda: _repeat(stored, lambda: _base(bundle, base_name), folder),
    )
    if bundle.merged:
        merged = folder / MERGED
        yield (
            f"the merged model repeats {count} stored predictions",
            lambda: _repeat(stored, lambda: BaseModel(MERGED, merged, ""), None),
        )


def _checksum_problems(folder: Path, bundle: Bundle) -> list[str]:
    found, wanted = checksums_in(folder), bundle.checksums
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"{name} is not part of what was published" for name in sorted(found.keys() - wanted.keys())]
    return problems + [
        f"{name} differs from what was published (SHA-256 {found[name][:12]}…, not {wanted[name][:12]}…)"
        for name in sorted(found.keys() & wanted.keys())
        if found[name] != wanted[name]
    ]


def _metadata_problems(folder: Path, bundle: Bundle) -> list[str]:
    try:
        card = read_card(folder, bundle.kind)
        with told(bundle.repo_id):
            HfApi()._validate_yaml(str(card), repo_type=bundle.kind)
    except LetterwiseError as error:
        return [" ".join(str(error).split())]
    return []


_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE_SPAN = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:safetensors|jsonl?|ya?ml|md|parquet|png|txt|py)|(?:[\w.-]+/)+)`")
_HUB_LINK = re.compile(r"https://huggingface\.co/(?:(datasets)/)?([\w.-]+/[\w.-]+)")


def _link_problems(folder: Path, bundle: Bundle, on_hub: bool) -> list[str]:
    """Links to files and to the Hub, for the cards link to nothing else; and the repositories in the metadata."""
    try:
        text = card_text(folder)
    except LetterwiseError as error:
        return [str(error)]
    body = re.sub(r"```.*?```", "", text.partition("\n---\n")[2], flags=re.DOTALL)
    problems = [
        f"README.md's metadata has the {kind} {repo_id} as {field}, which the Hub does not have"
        for field, kind, repo_id in (_named_in_metadata(folder, bundle.kind) if on_hub else [])
        if not _exists(repo_id, kind)
    ]
    for name in dict.fromkeys([*_LINK.findall(body), *_FILE_SPAN.findall(body)]):
        hub = _HUB_LINK.fullmatch(name)
        if hub:
            kind = "dataset" if hub[1] else "model"
            if on_hub and not _exists(hub[2], kind):
                problems.append(f"README.md links to the {kind} {hub[2]}, which the Hub does not have")
        elif name.startswith(("https://", "http://")):
            problems.append(f"README.md links to {name}, which cannot be checked")
        elif not (folder / name).exists():
            problems.append(f"README.md names {name}, which is not there")
    return problems


def _named_in_metadata(folder: Path, kind: RepositoryKind) -> Iterator[tuple[str, RepositoryKind, str]]:
    """Field, kind and name of each repository that a card's metadata refers to."""
    try:
        data = read_card(folder, kind).data.to_dict()
    except LetterwiseError:  # which the check of the metadata says
        return
    fields: tuple[tuple[str, RepositoryKind], ...] = (("base_model", "model"), ("datasets", "dataset"))
    for field, what in fields:
        names = data.get(field) or []
        for repo_id in [names] if isinstance(names, str) else names:
            yield field, what, str(repo_id)


def _exists(repo_id: str, kind: str) -> bool:
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    with told(repo_id):
        return bool(HfApi().repo_exists(repo_id, repo_type=kind))


def _base(bundle: Bundle, name: str | None) -> BaseModel:
    if name is None and bundle.base.kind == "folder":
        raise LetterwiseError(
            f"The base model {bundle.base.id} was a local folder; name it with --base-model to check the adapter."
        )
    revision = bundle.base.revision if name is None and bundle.base.kind == "hub" else None
    return resolve_base(name or bundle.base.name, revision)


def _repeat(stored: StoredPredictions, base: Callable[[], BaseModel], adapter: Path | None) -> list[str]:
    try:
        engine = load_engine(base(), adapter)
    except LetterwiseError as error:
        if "--base-model" in str(error):
            raise
        return [str(error)]
    return differences(stored, answer(engine, stored))


def sizes_in(folder: Path) -> dict[str, int]:
    """Path and size of each file that would be uploaded."""
    return {name: (folder / name).stat().st_size for name in files_in(folder)}
