"""Publishing a bundle: upload, verification of what arrived, and a record of both in the run folder.

Knows the order of the work; the work itself is done beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from letterwise.publication import RepositoryKind, Upload, read_publication, record_upload
from letterwise.publishing.hub import upload
from letterwise.publishing.sources import FinishedRun
from letterwise.publishing.verify import downloaded, verify


def publish(
    run: FinishedRun,
    folder: Path,
    repo_id: str,
    kind: RepositoryKind,
    *,
    private: bool,
    message: str,
    say: Callable[[str], None],
) -> Upload:
    """Upload a bundle, download it into an empty cache and verify it there.

    Only then does the run's ``publication.json`` say that it was uploaded.

    Raises:
        LetterwiseError: the upload or the download failed.
    """
    say(f"uploading {kind} {repo_id}: …")
    done = upload(folder, repo_id, kind, private=private, message=message, say=say)
    record_upload(run.folder, done)
    say(f"verifying {kind} {repo_id}, downloaded into an empty cache: …")
    base_name = run.base_name if run.base_kind == "folder" else None
    with downloaded(repo_id, kind, done.commit) as files:
        checks = verify(files, base_name, on_hub=True, say=say)
    problems = [f"{check.name}: {problem}" for check in checks for problem in check.problems]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    done = done.model_copy(
        update={
            "problems": problems,
            "verified": None if problems else now,
            "uploaded_to_hugging_face": not problems,
        }
    )
    record_upload(run.folder, done)
    return done


def published_revision(run: FinishedRun, dataset_id: str | None) -> str | None:
    """The commit at which this run's data was published under that name, if it was."""
    known = read_publication(run.folder).dataset
    return known.commit if known and known.repo_id == dataset_id and known.uploaded_to_hugging_face else None
