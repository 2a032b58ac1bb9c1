"""Compiled code kept from one training to the next, and what compiling and running it took: one folder for each shape.

PyTorch's own cache is a folder into which compilers write in place, so a process that is killed leaves half a file
there, which the next one loads. Therefore each training compiles into a folder of its own, and what has run once is
put in its place as a whole. (PyTorch's portable cache, `torch.compiler.save_cache_artifacts`, holds no machine code for
processors, and making that is what takes long.) A folder that the user names in ``TORCHINDUCTOR_CACHE_DIR`` is used as
it is. Knows nothing about what is compiled, or whether that pays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, cache_folder, fingerprint, make_folder, read_json, write_json

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Where PyTorch keeps compiled code; read whenever it looks for some."""
KEPT_SHAPES = 32
"""Of so many shapes the code is kept, some megabytes each; those not used for longest go first."""
_JUST_MADE_SECONDS = 60.0
_SECONDS_FILE, _CODE, _WORKPLACES = "seconds.json", "code", "under_way"


@dataclass(frozen=True, slots=True)
class Seconds:
    """What was last measured of one shape of training on this machine; None where it was not yet."""

    first: float | None = None
    """Compiling, and a first pass."""
    loaded: float | None = None
    """Loading what was compiled before, and a first pass."""
    eager_pass: float | None = None
    """Forward and backward of one batch, uncompiled."""
    compiled_pass: float | None = None


class CompiledCode:
    """The code of one shape of training, at hand for one training; a context that puts everything back as it was."""

    def __init__(self, shape: Mapping[str, Any]) -> None:
        """Find what there is.

        Args:
            shape: all that the code depends on; another value anywhere is another code.
        """
        self.shape = dict(shape)
        named = os.environ.get(VARIABLE)
        self._users = Path(named) if named else None
        self.folder = cache_folder() / "compiled" / fingerprint([self.shape, named])
        self._workplace: _Workplace | None = None

    def __enter__(self) -> CompiledCode:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def is_there(self) -> bool:
        """Whether such a training was compiled before and its code is still there."""
        code = self._users or self.folder / _CODE
        return self.seconds().first is not None and code.is_dir()

    def seconds(self) -> Seconds:
        """What was measured so far; nothing if that cannot be read."""
        try:
            return Seconds(**read_json(self.folder / _SECONDS_FILE)["seconds"])
        except (LetterwiseError, TypeError, KeyError):
            return Seconds()

    def note(self, **measured: float) -> None:
        """Keep what was measured, beside what was before; where nothing can be written, that is all the same."""
        seconds = replace(self.seconds(), **{name: round(value, 4) for name, value in measured.items()})
        with suppress(LetterwiseError):
            write_json(self.folder / _SECONDS_FILE, {"seconds": asdict(seconds), "shape": self.shape})

    def take_out(self, fresh: bool) -> None:
        """Let PyTorch look for code, and put new code, in a folder that only this training uses.

        Args:
            fresh: with nothing in it, instead of what is kept. Otherwise, the user's folder is used as it is.
        """
        self._leave()
        _forget()
        if self._users and not fresh:
            return
        self._workplace = _Workplace(self.folder.parent / _WORKPLACES)
        if not fresh:
            with suppress(OSError):  # there is none, or another training is just putting newer code there
                shutil.copytree(self.folder / _CODE, self._workplace.code, dirs_exist_ok=True)
        os.environ[VARIABLE] = str(self._workplace.code)

    def keep(self) -> None:
        """Put the code, which has proved to work, where the next training finds it."""
        if self._users or not self._workplace:
            return
        with suppress(LetterwiseError, OSError):
            with atomic_path(self.folder / _CODE) as temporary:
                shutil.copytree(self._workplace.code, temporary)
            _drop_oldest(self.folder.parent)

    def drop(self) -> None:
        """Forget the kept code, which is broken; what the user's folder holds is the user's."""
        shutil.rmtree(self.folder / _CODE, ignore_errors=True)

    def _leave(self) -> None:
        if not self._workplace:
            return
        _forget()
        self._workplace.remove()
        self._workplace = None
        os.environ.pop(VARIABLE, None)
        if self._users:
            os.environ[VARIABLE] = str(self._users)


class _Workplace:
    """A folder that is locked as long as its process lives; those of processes that died are removed."""

    def __init__(self, parent: Path) -> None:
        try:
            _remove_abandoned(make_folder(parent))
        except LetterwiseError:  # compiled code is of use even where none can be kept
            parent = Path(tempfile.gettempdir())
        self.code = Path(tempfile.mkdtemp(prefix="letterwise-", dir=parent))
        self._lock = FileLock(_lock_of(self.code))
        self._lock.acquire()

    def remove(self) -> None:
        shutil.rmtree(self.code, ignore_errors=True)
        self._lock.release()
        _lock_of(self.code).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove_abandoned(parent: Path) -> None:
    for folder in (path for path in parent.iterdir() if path.is_dir()):
        with suppress(OSError, Timeout):
            if time.time() - folder.stat().st_mtime < _JUST_MADE_SECONDS and not _lock_of(folder).is_file():
                continue  # its process is about to lock it
            with FileLock(_lock_of(folder), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)


def _drop_oldest(folder: Path) -> None:
    used = [(path.stat().st_mtime, path.parent) for path in folder.glob(f"*/{_SECONDS_FILE}")]
    with_code = sorted((when, shape) for when, shape in used if (shape / _CODE).is_dir())
    for _, shape in with_code[:-KEPT_SHAPES]:
        shutil.rmtree(shape, ignore_errors=True)


def _forget() -> None:
    """Let PyTorch forget what it compiled or loaded, so that it looks into the folder that it is told now."""
    from torch._inductor.utils import clear_caches  # it takes seconds, and no other command needs it

    torch.compiler.reset()
    clear_caches()
