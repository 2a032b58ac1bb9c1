"""Uploading a bundle in one atomic commit, with every failure told in one sentence.

A repository that was created for an upload that then failed is removed again. Knows the Hub; knows nothing about what
a bundle holds. The token comes from the environment or the login cache and is never shown.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, logging

from letterwise.errors import LetterwiseError
from letterwise.models import first_line
from letterwise.publication import RepositoryKind, Upload, files_in

PATIENCE = 3
"""Times a commit is sent again after 'too many requests'."""
LONGEST_WAIT = 120.0
"""Seconds; whoever is asked to wait longer is told so instead."""


def upload(
    folder: Path,
    repo_id: str,
    kind: RepositoryKind,
    *,
    private: bool = True,
    message: str = "Publish with letterwise",
    say: Callable[[str], None] = lambda line: None,
) -> Upload:
    """Make a repository hold exactly the files of a folder, by one commit.

    Args:
        folder: what to upload; files that the repository has and the folder lacks are deleted in the same commit.
        repo_id: namespace and name; created if it does not exist.
        kind: of the repository.
        private: whether a new repository is private; of an existing one nothing but the files changes.
        message: first line of the commit.
        say: told what goes on.

    Raises:
        LetterwiseError: the upload failed. Then a repository that was there is as it was, and none was left behind.
    """
    api = HfApi()
    if get_token() is None:
        raise LetterwiseError("No Hugging Face token was found: set HF_TOKEN, or log in once with `hf auth login`.")
    with told(repo_id):
        api.whoami()
    created = _create(api, repo_id, kind, private)
    try:
        with told(repo_id), quietly():
            commit = _commit(api, folder, repo_id, kind, message, say)
            info = api.repo_info(repo_id, repo_type=kind, revision=commit.oid)
    except BaseException as error:
        left = _remove(api, repo_id, kind) if created else None
        if left and isinstance(error, LetterwiseError):
            raise LetterwiseError(f"{str(error).removesuffix('.')}; {left}.") from error
        raise
    prefix = "datasets/" if kind == "dataset" else ""
    return Upload(
        repo_id=repo_id,
        kind=kind,
        url=f"{api.endpoint}/{prefix}{repo_id}",
        commit=commit.oid,
        private=bool(info.private),
        uploaded=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _create(api: HfApi, repo_id: str, kind: RepositoryKind, private: bool) -> bool:
    """Whether the repository is new; only a creation that the Hub confirmed counts."""
    with told(repo_id):
        try:
            api.create_repo(repo_id, repo_type=kind, private=private)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            return False
    return True


def _commit(
    api: HfApi, folder: Path, repo_id: str, kind: RepositoryKind, message: str, say: Callable[[str], None]
) -> CommitInfo:
    names = files_in(folder)
    patience = PATIENCE
    while True:
        head = api.repo_info(repo_id, repo_type=kind).sha
        there = api.list_repo_files(repo_id, repo_type=kind, revision=head)
        operations = [CommitOperationAdd(name, folder / name) for name in names]
        operations += [CommitOperationDelete(name) for name in there if name not in (*names, ".gitattributes")]
        try:
            with warnings.catch_warnings(action="ignore"):
                return api.create_commit(
                    repo_id, operations, commit_message=message, repo_type=kind, parent_commit=head
                )
        except HfHubHTTPError as error:
            wait = retry_after(error)
            if error.response.status_code != 429 or wait > LONGEST_WAIT or not patience:
                raise
            patience -= 1
            say(f"  the Hub asks for patience; going on in {wait:.0f} s")
            time.sleep(wait)


def retry_after(error: HfHubHTTPError) -> float:
    """Seconds that the Hub asks to wait."""
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 10.0


def _remove(api: HfApi, repo_id: str, kind: RepositoryKind) -> str | None:
    """Delete the repository that was just created, unless the commit arrived after all; says what is left there."""
    try:
        if set(api.list_repo_files(repo_id, repo_type=kind)) <= {".gitattributes"}:
            api.delete_repo(repo_id, repo_type=kind)
            return None
    except (HfHubHTTPError, HTTPError, OSError):
        return f"the empty repository {repo_id} could not be removed again, delete it on the Hub"
    return f"the files did arrive in {repo_id}, check them with `letterwise publish verify {repo_id}`"


@contextmanager
def told(repo_id: str) -> Iterator[None]:
    """Turn what the Hub and the network do into one sentence with the remedy."""
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise LetterwiseError("HF_HUB_OFFLINE is set, so the Hub cannot be reached; unset it to go on.") from error
    except HfHubHTTPError as error:
        raise LetterwiseError(_sentence(error, repo_id)) from error
    except ValueError as error:  # the Hub refused the metadata of the card
        raise LetterwiseError(f"The Hub refuses {repo_id}: {' '.join(str(error).split())}") from error
    except (HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, HfHubHTTPError):
            raise LetterwiseError(_sentence(cause, repo_id)) from error
        raise LetterwiseError(
            f"The connection to the Hub broke ({first_line(Exception(str(cause)))}); run the same command again."
        ) from error


def _sentence(error: HfHubHTTPError, repo_id: str) -> str:
    status = error.response.status_code
    if status == 429:
        return f"The Hub accepts no more requests for now; run the same command again in {retry_after(error):.0f} s."
    if status >= 500:
        return f"The Hub had an internal error ({status}); run the same command again later."
    reason = first_line(Exception(error.server_message or "no reason given"))
    return {
        401: "The Hub does not accept the token; set HF_TOKEN to a valid one, or log in with `hf auth login`.",
        403: f"The token may not write to {repo_id}; use one with write access to that namespace.",
        404: f"The Hub has no {repo_id}, or the token may not see it.",
        409: f"Something else is changing {repo_id}; run the same command again.",
        412: f"Somebody else changed {repo_id} in the meantime; run the same command again.",
    }.get(status, f"The Hub refused {repo_id} ({status}: {reason}).")


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the client's own bars and retry notices."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        logging.set_verbosity(level)
