"""Files that are never half written: atomic writes, checksums and the cache folder.

Knows nothing about what the files hold.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path
from pydantic import BaseModel, ValidationError

from letterwise.errors import LetterwiseError

CACHE_VARIABLE = "LETTERWISE_CACHE"
Entry = TypeVar("Entry", bound=BaseModel)

_FULL_BYTES = 64 * 1024
"""A disk with less free space than this, after a write has failed, is full."""


def cache_folder() -> Path:
    """The user's cache folder: ``$LETTERWISE_CACHE`` or the platform's usual place."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("letterwise")


@contextmanager
def explained_write_errors(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into a `LetterwiseError`."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space or choose another folder",
            errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.EACCES: "permission denied; choose a folder that you may write to",
            errno.EPERM: "permission denied; choose a folder that you may write to",
            errno.ENOTDIR: "a part of the path is a file, not a folder",
            errno.EEXIST: "a file is in the way where a folder is wanted",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise LetterwiseError(f"Cannot write {path}: {reason}.") from error


def make_folder(path: Path) -> Path:
    """Create `path` and its parents, and check that files can be written in it.

    Raises:
        LetterwiseError: the folder cannot be created or written to.
    """
    with explained_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` when the block succeeds.

    The block may write a file or create a folder there. After an error nothing is left behind and an
    older file at `path` is untouched.

    Raises:
        LetterwiseError: the disk is full, read-only or not ours.
    """
    with explained_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary = holder / path.name
        try:
            yield temporary
            _share(temporary, holder)
            if path.is_dir() and temporary.is_dir():
                path.replace(holder / "previous")
            temporary.replace(path)
        except (OSError, LetterwiseError):
            raise
        except Exception as error:
            # Writers in Rust and C++ (safetensors, torch.save) raise errors of their own, which need not say why.
            if shutil.disk_usage(holder).free < _FULL_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            shutil.rmtree(holder, ignore_errors=True)


def _share(written: Path, holder: Path) -> None:
    """Give new files the permissions that any new file has here: some writers keep theirs from everyone else."""
    probe = holder / ".mode"
    probe.touch()
    usual = probe.stat().st_mode
    for file in [written, *written.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            file.chmod(stat.S_IMODE(file.stat().st_mode | usual))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        LetterwiseError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LetterwiseError(f"{path} does not exist; run the step that writes it first.") from None
    except (OSError, ValueError) as error:
        raise LetterwiseError(f"{path} cannot be read as JSON ({error}).") from error


def read_json_lines(path: Path, kind: type[Entry], name: str) -> list[Entry]:
    """Read a log of one JSON object a line, without the torn last one that a killed process may leave.

    Args:
        path: of the log.
        kind: of its entries.
        name: of an entry in an error, such as 'a training log entry'.

    Raises:
        LetterwiseError: the file is missing or no text, or a line is not an entry.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LetterwiseError(f"{path} does not exist; run the step that writes it first.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LetterwiseError(f"{path} cannot be read: {error}.") from error
    entries = []
    complete, _, _ = text.rpartition("\n")
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            entries.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise LetterwiseError(f"Line {number} of {path} is not {name}: {problem}.") from error
    return entries


def sha256_file(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal.

    Raises:
        LetterwiseError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LetterwiseError(f"{path} cannot be read: {error.strerror or error}.") from error


def fingerprint(value: Any) -> str:
    """A short stable checksum of any JSON-serialisable value."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
