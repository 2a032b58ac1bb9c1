from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from letterwise.errors import LetterwiseError
from letterwise.files import (
    CACHE_VARIABLE,
    atomic_path,
    cache_folder,
    fingerprint,
    make_folder,
    read_json,
    sha256_file,
    write_json,
    write_text,
)


def write_half_a_file(path: Path, failure: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise failure


def write_half_a_folder(path: Path, failure: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
        raise failure


def write_to_a_full_device(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("more than nothing")


def raise_os_error(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_a_file_appears_with_its_parents_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b.txt"]


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_failing_block_leaves_the_old_file_and_no_litter(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with pytest.raises((type(failure), LetterwiseError)):
        write_half_a_file(path, failure)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_in_place_while_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_writer_keeps_to_itself_can_be_read_as_any_new_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    with atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        for name in ("weights", "script"):
            (temporary / name).touch()
        (temporary / "weights").chmod(0o600)
        (temporary / "script").chmod(0o755)
    assert (tmp_path / "folder" / "weights").stat().st_mode == ordinary.stat().st_mode
    assert (tmp_path / "folder" / "script").stat().st_mode & 0o777 == 0o755 | ordinary.stat().st_mode & 0o777


def test_a_failing_block_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "old").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        write_half_a_folder(folder, KeyboardInterrupt())
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_disk_that_refuses_is_one_sentence_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: raise_os_error(number))
    with pytest.raises(LetterwiseError) as refused:
        write_json(tmp_path / "results.json", {})
    assert str(refused.value).startswith(f"Cannot write {tmp_path / 'results.json'}: {reason}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_really_full_disk(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="the disk is full"):
        write_to_a_full_device(tmp_path / "file")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LetterwiseError, match="a part of the path is a file, not a folder"):
        write_text(tmp_path / "file" / "folder" / "results.json", "")
    with pytest.raises(LetterwiseError, match="a file is in the way where a folder is wanted"):
        make_folder(tmp_path / "file")


def test_a_folder_is_made_and_tried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: raise_os_error(errno.EROFS))
    with pytest.raises(LetterwiseError, match="read-only; choose another folder"):
        make_folder(tmp_path / "a" / "b")


def test_json_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"word": "café", "share": 0.25, "none": None})
    assert read_json(tmp_path / "value.json") == {"word": "café", "share": 0.25, "none": None}
    assert "café" in (tmp_path / "value.json").read_text(encoding="utf-8")


def test_json_without_a_json_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", {"share": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"missing.json does not exist; run the step that writes it first"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text('{"a": ')
    with pytest.raises(LetterwiseError, match=r"broken.json cannot be read as JSON"):
        read_json(tmp_path / "broken.json")


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().name == "letterwise"


def test_checksums(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"strawberry")
    assert sha256_file(tmp_path / "file") == hashlib.sha256(b"strawberry").hexdigest()
    first = {"a": 1, "b": [Path("x")]}
    assert fingerprint(first) == fingerprint(dict(reversed(first.items())))
    assert fingerprint(first) != fingerprint({**first, "a": 2})
    assert fingerprint(json.loads('{"ä": 1}')) == fingerprint({"ä": 1})


def test_what_cannot_be_read_has_no_checksum(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"cannot be read: Is a directory\."):
        sha256_file(tmp_path)
