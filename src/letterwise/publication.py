"""Typed models of what is published: the facts of a bundle, its stored predictions, and what became of an upload.

Knows names and shapes; knows nothing about the Hub or about how a model is asked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from pydantic import Field, model_validator

from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file, write_json
from letterwise.packaged_models import PACKAGED, PackagedModel
from letterwise.results import QuestionType, ResultsModel, read_results

BUNDLE_FILE = "bundle.json"
PREDICTIONS_FILE = "predictions.json"
PUBLICATION_FILE = "publication.json"
RepositoryKind = Literal["model", "dataset"]
BaseKind = Literal["embedded", "hub", "folder"]
"""'embedded': the weights are in packages of the package index."""


class PublishedBase(ResultsModel):
    """The base model of a published adapter, and where those who download the adapter get it."""

    kind: BaseKind
    name: str
    """As `--base-model` takes it; of a folder its name alone."""
    id: str
    revision: str
    """Commit of a Hub model, or the checksum of the weights."""
    hub_id: str | None
    """The model on the Hub that it is, or for 'embedded' that it was quantized from; null for a folder."""

    @property
    def packaged(self) -> PackagedModel | None:
        """Of 'embedded': the packages that the weights are in."""
        return PACKAGED[self.name] if self.kind == "embedded" else None


class Bundle(ResultsModel):
    """``bundle.json``: what is published, and the checksum of every other file of the folder."""

    schema_version: str = "1.0"
    kind: RepositoryKind
    letterwise: str
    """Version that made it."""
    repo_id: str
    run_name: str
    license: str
    """As the Hub spells it."""
    base: PublishedBase
    dataset_id: str | None = None
    """Of a model: the published dataset that it was trained and evaluated on."""
    dataset_revision: str | None = None
    merged: bool = False
    """Whether the stand-alone model is in `merged/`."""
    usage_output: str | None = None
    """What the card's usage example printed when the bundle was made."""
    tags: list[str] = Field(default_factory=list)
    source_url: str | None = None
    """Where pip gets letterwise, as in `letterwise @ URL`; null where that was not said."""
    checksums: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by path, in the folder."""


class StoredPrediction(ResultsModel):
    """What the published model answered when its bundle was made."""

    id: str
    task: Literal["spelling"] | QuestionType
    header: str
    """First part of the prompt, shared by all prompts of a kind."""
    body: str
    answer: str
    """The truth."""
    generated_text: str
    candidates: list[str] = Field(default_factory=list)
    """The valid answers that were scored; none for spelling."""
    probabilities: list[float] = Field(default_factory=list)
    """Of the candidates, over the candidates."""


class StoredPredictions(ResultsModel):
    """``predictions.json``: answers in mode `direct`, in float32 on a processor; whoever downloads repeats them."""

    schema_version: str = "1.0"
    max_new_tokens: dict[str, int]
    """By task."""
    predictions: list[StoredPrediction]

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        """Refuse what no model could be asked again: a task without a limit, a question without candidates."""
        for item in self.predictions:
            if item.task not in self.max_new_tokens:
                raise ValueError(f"{item.id}: max_new_tokens has no {item.task}")
            if item.task != "spelling" and not item.candidates:
                raise ValueError(f"{item.id}: there are no candidates")
        return self


class Upload(ResultsModel):
    """What is known of one repository on the Hub."""

    repo_id: str
    kind: RepositoryKind
    url: str
    commit: str
    private: bool
    uploaded: str
    """UTC time, ISO 8601."""
    verified: str | None = None
    """UTC time at which everything was found in order; null if it was not."""
    problems: list[str] = Field(default_factory=list)
    """What verification found."""
    uploaded_to_hugging_face: bool = False
    """True only after verification."""


class Publication(ResultsModel):
    """``publication.json``, in the run folder."""

    schema_version: str = "1.0"
    model: Upload | None = None
    dataset: Upload | None = None


def read_publication(run_folder: Path) -> Publication:
    """What became of a run's uploads; nothing where there were none.

    Raises:
        LetterwiseError: the file is broken.
    """
    path = run_folder / PUBLICATION_FILE
    return read_results(path, Publication) if path.is_file() else Publication()


def record_upload(run_folder: Path, upload: Upload) -> None:
    """Put what is known of one upload into the run's record, in place of what was known before."""
    known = read_publication(run_folder).model_copy(update={upload.kind: upload})
    write_json(run_folder / PUBLICATION_FILE, known.model_dump(mode="json"))


def checksums_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle except the one that lists them, by path."""
    return {
        name: sha256_file(folder / name) for name in files_in(folder) if name not in (BUNDLE_FILE, ".gitattributes")
    }


def files_in(folder: Path) -> list[str]:
    """Paths of all files in a folder, sorted; without what clients of the Hub keep in `.cache`."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != ".cache")


def check_repo_id(name: str | None, option: str) -> None:
    """Make sure that a repository's name has a namespace and is one that the Hub allows.

    Raises:
        LetterwiseError: it is not.
    """
    if name is None:
        return
    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if not re.fullmatch(r"[^/]+/[^/]+", name):
        raise LetterwiseError(f"{option} must be a name on the Hub such as your-name/letterwise-quick.")


def check_source_url(url: str | None) -> None:
    """Make sure that the address of letterwise's source is one that may be shown to everybody.

    Raises:
        LetterwiseError: pip could not fetch it by HTTPS, or it holds a password or token.
    """
    if url is None:
        return
    address = urlsplit(url)
    if address.scheme not in ("https", "git+https") or not address.hostname or re.search(r"[\s\"'`]", url):
        raise LetterwiseError("--source-url must be an address for pip, such as git+https://example.org/letterwise@v1.")
    if address.username or address.password:
        raise LetterwiseError("--source-url holds a name or token and would be published; leave that part out.")
