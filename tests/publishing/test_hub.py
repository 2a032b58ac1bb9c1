"""Uploading with the real client to a Hub that answers as the real one does, also when something goes wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from local_hub import Fault, LocalHub

from letterwise.errors import LetterwiseError
from letterwise.publication import files_in
from letterwise.publishing.hub import upload

CARD = "---\nlicense: mit\n---\n# A model\n"
FOR_EVER = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small bundle with one file that goes to the large-file storage."""
    made = tmp_path / "bundle"
    (made / "figures").mkdir(parents=True)
    (made / "README.md").write_text(CARD, encoding="utf-8")
    (made / "adapter_model.safetensors").write_bytes(os.urandom(300_000))
    (made / "figures" / "notes.txt").write_text("a note\n", encoding="utf-8")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def commits(hub: LocalHub, repo_id: str) -> int:
    """Without the one that creates the repository."""
    return len(hub.repositories["model", repo_id].commits) - 1


def test_a_repository_holds_exactly_the_folder_after_one_commit(hub: LocalHub, folder: Path) -> None:
    done = upload(folder, "me/model", "model")

    assert hub.files("me/model") == contents(folder)
    assert commits(hub, "me/model") == 1
    assert hub.repositories["model", "me/model"].private
    assert done.private
    assert done.commit == hub.repositories["model", "me/model"].head[0]
    assert done.url == f"{hub.endpoint}/me/model"
    assert not done.uploaded_to_hugging_face, "only verification may say so"


def test_what_the_folder_no_longer_has_goes_in_the_same_commit(hub: LocalHub, folder: Path) -> None:
    upload(folder, "me/model", "model", private=False)
    (folder / "figures" / "notes.txt").unlink()
    (folder / "README.md").write_text(CARD + "\nNew.\n", encoding="utf-8")

    upload(folder, "me/model", "model")

    assert hub.files("me/model") == contents(folder)
    assert commits(hub, "me/model") == 2
    assert not hub.repositories["model", "me/model"].private, "a repository that exists keeps its visibility"


def test_uploading_the_same_again_changes_nothing(hub: LocalHub, folder: Path) -> None:
    first = upload(folder, "me/model", "model")

    assert upload(folder, "me/model", "model").commit == first.commit
    assert commits(hub, "me/model") == 1


# Who may not


def test_without_a_token(hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")

    with pytest.raises(LetterwiseError, match="set HF_TOKEN, or log in once with `hf auth login`"):
        upload(folder, "me/model", "model")

    assert not hub.requests, "nothing is asked without a token"


@pytest.mark.parametrize(
    ("token", "repo_id", "sentence"),
    [
        ("hf_topsecret", "me/model", "The Hub does not accept the token; set HF_TOKEN to a valid one"),
        ("hf_reader", "reader/model", "The token may not write to reader/model"),
        ("hf_writer", "somebody-else/model", "The token may not write to somebody-else/model"),
    ],
)
def test_a_token_that_may_not(
    hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, repo_id: str, sentence: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)

    with pytest.raises(LetterwiseError, match=sentence) as refused:
        upload(folder, repo_id, "model")

    assert token not in str(refused.value)
    assert ("model", repo_id) not in hub.repositories


def test_a_card_that_the_hub_refuses(hub: LocalHub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n", encoding="utf-8")

    with pytest.raises(LetterwiseError, match=r'The Hub refuses me/model: .*"license" must be one of'):
        upload(folder, "me/model", "model")

    assert ("model", "me/model") not in hub.repositories


def test_offline(hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(LetterwiseError, match="HF_HUB_OFFLINE is set"):
        upload(folder, "me/model", "model")


# What goes wrong on the way

FAULTS = {
    "token withdrawn": (Fault("POST", "/commit/", 401), "The Hub does not accept the token"),
    "rights withdrawn": (Fault("POST", "/commit/", 403), "The token may not write to me/model"),
    "a conflict": (Fault("POST", "/commit/", 409), "Something else is changing me/model; run the same command again"),
    "somebody was faster": (Fault("POST", "/commit/", 412), "Somebody else changed me/model in the meantime"),
    "too many requests": (
        Fault("POST", "/commit/", 429, {"Retry-After": "3600"}),
        "run the same command again in 3600 s",
    ),
    "an internal error": (Fault("POST", "/commit/", 500), r"internal error \(500\); run the same command again later"),
    "the storage is ill": (Fault("PUT", "/storage/", 500, times=FOR_EVER), r"internal error \(500\)"),
    "the list is ill": (Fault("POST", "/preupload/", 503, times=FOR_EVER), r"internal error \(503\)"),
    "cut in a large file": (
        Fault("PUT", "/storage/", cut_after=100_000, times=FOR_EVER),
        "The connection to the Hub broke",
    ),
    "cut in the commit": (Fault("POST", "/commit/", cut_after=100), "The connection to the Hub broke"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_upload_leaves_no_repository_and_a_second_one_completes(
    hub: LocalHub, folder: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fault, sentence = FAULTS[name]
    hub.faults = [Fault(**vars(fault))]

    with pytest.raises(LetterwiseError, match=sentence) as refused:
        upload(folder, "me/model", "model")

    assert "\n" not in str(refused.value)
    assert ("model", "me/model") not in hub.repositories
    hub.faults.clear()
    upload(folder, "me/model", "model")
    assert hub.files("me/model") == contents(folder)
    printed = capfd.readouterr()
    assert "hf_writer" not in printed.out + printed.err + str(refused.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_upload_leaves_a_repository_that_was_there_as_it_was(hub: LocalHub, folder: Path, name: str) -> None:
    upload(folder, "me/model", "model")
    before = hub.files("me/model")
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(300_000))
    fault, sentence = FAULTS[name]
    hub.faults = [Fault(**vars(fault))]

    with pytest.raises(LetterwiseError, match=sentence):
        upload(folder, "me/model", "model")

    assert hub.files("me/model") == before
    assert commits(hub, "me/model") == 1


def test_a_connection_cut_once_is_taken_up_again(hub: LocalHub, folder: Path) -> None:
    hub.faults = [Fault("PUT", "/storage/", cut_after=100_000), Fault("POST", "/preupload/", 500)]

    upload(folder, "me/model", "model")

    assert hub.files("me/model") == contents(folder)
    assert [fault.times for fault in hub.faults] == [0, 0]


def test_patience_where_the_hub_asks_for_it(hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    said: list[str] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    hub.faults = [Fault("POST", "/commit/", 429, {"Retry-After": "7"}, times=2)]

    upload(folder, "me/model", "model", say=said.append)

    assert hub.files("me/model") == contents(folder)
    assert waits == [7.0, 7.0]
    assert said == ["  the Hub asks for patience; going on in 7 s"] * 2
    assert commits(hub, "me/model") == 1


def test_a_commit_whose_answer_was_lost_is_not_deleted(hub: LocalHub, folder: Path) -> None:
    hub.faults = [Fault("POST", "/commit/", 500, late=True)]

    with pytest.raises(LetterwiseError, match="the files did arrive in me/model, check them with `letterwise publish"):
        upload(folder, "me/model", "model")

    assert hub.files("me/model") == contents(folder)


def test_a_repository_that_cannot_be_removed_again_is_named(hub: LocalHub, folder: Path) -> None:
    hub.faults = [Fault("POST", "/commit/", 500), Fault("DELETE", "/api/repos/delete", 500, times=FOR_EVER)]

    with pytest.raises(LetterwiseError, match="the empty repository me/model could not be removed again"):
        upload(folder, "me/model", "model")

    assert hub.files("me/model") == {}


def test_interrupting_leaves_no_repository(
    hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch, output: Callable[[], str]
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("letterwise.publishing.hub._commit", interrupted)

    with pytest.raises(KeyboardInterrupt):
        upload(folder, "me/model", "model")

    assert ("model", "me/model") not in hub.repositories
