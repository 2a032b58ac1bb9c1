"""Where compiled code lies: kept when it has run once, gone when its process was killed, the user's left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from letterwise.training import compiled_code
from letterwise.training.compiled_code import VARIABLE, CompiledCode, Seconds

KILLED = """
import os, signal
from pathlib import Path
from letterwise.training.compiled_code import VARIABLE, CompiledCode

CompiledCode({"shape": 1}).take_out(fresh=True)
(Path(os.environ[VARIABLE]) / "half.so").write_text("ha")
os.kill(os.getpid(), signal.SIGKILL)
"""


def compile_something(text: str, *, fresh: bool = False, works: bool = True, shape: int = 1) -> str | None:
    """What a training finds in the folder where code belongs, before it writes something else there."""
    with CompiledCode({"shape": shape}) as code:
        code.take_out(fresh)
        file = Path(os.environ[VARIABLE]) / "kernel.so"
        found = file.read_text() if file.is_file() else None
        file.write_text(text)
        if works:
            code.keep()
            code.note(first=1.0)
    return found


def workplaces(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("under_way/*") if path.is_dir()]


def test_what_has_run_is_kept_and_what_has_not_is_not(own_cache: Path) -> None:
    assert compile_something("first", works=False) is None
    assert compile_something("second") is None
    assert compile_something("third", works=False) == "second"
    assert compile_something("fourth", fresh=True) is None
    assert compile_something("fifth") == "fourth"
    assert compile_something("other", shape=2) is None
    assert workplaces(own_cache) == []
    assert VARIABLE not in os.environ


def test_code_is_there_when_it_was_compiled_and_not_deleted(own_cache: Path) -> None:
    code = CompiledCode({"shape": 1})
    assert not code.is_there()
    compile_something("something")
    assert code.is_there()
    code.drop()
    assert not code.is_there()
    assert code.seconds() == Seconds(first=1.0)


def test_what_a_killed_process_left_is_neither_used_nor_kept(own_cache: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], check=False, env=dict(os.environ))
    assert done.returncode == -9
    (left,) = workplaces(own_cache)
    assert (left / "half.so").is_file()
    with CompiledCode({"shape": 2}) as under_way:
        under_way.take_out(fresh=True)
        assert compile_something("anew") is None
        assert not left.exists()
        assert len(workplaces(own_cache)) == 1, "that of a living process stays"
    assert list(own_cache.rglob("*.lock")) == []


def test_the_users_folder_is_used_as_it_is(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "users"
    users.mkdir()
    monkeypatch.setenv(VARIABLE, str(users))
    assert compile_something("first") is None
    assert compile_something("second") == "first"
    assert CompiledCode({"shape": 1}).is_there()
    with CompiledCode({"shape": 1}) as code:
        code.drop()
        code.take_out(fresh=True)
        assert os.environ[VARIABLE] != str(users)
        assert list(Path(os.environ[VARIABLE]).iterdir()) == []
    assert os.environ[VARIABLE] == str(users)
    assert (users / "kernel.so").read_text() == "second"
    assert list(own_cache.rglob("kernel.so")) == []


def test_measurements_add_up_and_a_broken_file_is_as_good_as_none(own_cache: Path) -> None:
    code = CompiledCode({"shape": 1})
    code.note(first=35.0)
    code.note(eager_pass=1.4)
    assert code.seconds() == Seconds(first=35.0, eager_pass=1.4)
    (code.folder / "seconds.json").write_text('{"seconds": {"first": 35.0')
    assert code.seconds() == Seconds()
    (code.folder / "seconds.json").write_text('{"seconds": {"of another version": 1}}')
    assert code.seconds() == Seconds()


def test_a_cache_that_cannot_be_written_keeps_nothing_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LETTERWISE_CACHE", str(tmp_path / "file"))
    assert compile_something("first") is None
    assert compile_something("second") is None


def test_code_not_used_for_longest_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_code, "KEPT_SHAPES", 2)
    for shape in (1, 2):
        compile_something("code", shape=shape)
        os.utime(CompiledCode({"shape": shape}).folder / "seconds.json", (shape, shape))
    compile_something("code", shape=3)
    compile_something("code", shape=3)
    assert [CompiledCode({"shape": shape}).is_there() for shape in (1, 2, 3)] == [False, True, True]
