import hashlib
import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import SecretStr

from letterwise.api.schemas import LetterCountRequest
from letterwise.api.utils.auth import KeyRing, require_key
from letterwise.api.utils.errors import install_error_handling
from letterwise.errors import LetterwiseError

NO_KEYS = SecretStr("")


def client_of(ring: KeyRing) -> TestClient:
    """A service with one route that says who asked."""
    app = FastAPI()
    install_error_handling(app)

    @app.get("/who", dependencies=[Depends(require_key(ring))])
    async def who(request: Request) -> str | None:
        caller: str | None = request.state.caller
        return caller

    return TestClient(app)


def key_id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


# Through HTTP


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer green-door"}, {"X-API-Key": "green-door"}])
def test_key_is_accepted_in_either_header(headers: dict[str, str]) -> None:
    response = client_of(KeyRing(SecretStr("green-door"))).get("/who", headers=headers)
    assert response.json() == key_id("green-door")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "red-door"},
        {"X-API-Key": "green"},
        {"X-API-Key": ""},
        {"X-API-Key": "gr\xfcn".encode()},
        {"Authorization": "Bearer red-door"},
        {"Authorization": "Basic green-door"},
        {"Authorization": "green-door"},
    ],
)
def test_no_key_or_a_wrong_one_is_refused(headers: dict[str, Any]) -> None:
    response = client_of(KeyRing(SecretStr("green-door"))).get("/who", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json()["details"] == "Send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."


def test_key_works_beside_another_kind_of_authorization() -> None:
    headers = {"Authorization": "Basic Zm9vOmJhcg==", "X-API-Key": "green-door"}
    assert client_of(KeyRing(SecretStr("green-door"))).get("/who", headers=headers).status_code == 200


def test_key_is_asked_for_before_the_input_is_judged() -> None:
    app = FastAPI()
    install_error_handling(app)

    @app.post("/count", dependencies=[Depends(require_key(KeyRing(SecretStr("green-door"))))])
    async def count(request: LetterCountRequest) -> None: ...

    assert TestClient(app).post("/count", json={"word": 5}).status_code == 401


def test_everybody_passes_where_no_key_is_set() -> None:
    ring = KeyRing(NO_KEYS)
    assert not ring.enabled
    response = client_of(ring).get("/who")
    assert (response.status_code, response.json()) == (200, None)


def test_openapi_declares_both_headers_where_a_key_is_asked_for() -> None:
    schema = client_of(KeyRing(SecretStr("green-door"))).get("/openapi.json").json()
    assert schema["paths"]["/who"]["get"]["security"] == [{"bearer": []}, {"api_key": []}]
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "api_key"}
    assert "security" not in client_of(KeyRing(NO_KEYS)).get("/openapi.json").json()["paths"]["/who"]["get"]


# Several keys, and their comparison


def test_each_of_several_keys_is_accepted_under_its_own_id(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# issued in May\nthird\n\n  fourth  \n")
    ring = KeyRing(SecretStr("first, second,"), file)
    keys = ["first", "second", "third", "fourth"]
    assert [ring.identify(key) for key in keys] == [key_id(key) for key in keys]
    assert ring.identify("# issued in May") is None
    assert ring.identify("") is None
    assert ring.identify(None) is None


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def spy(known: bytes, presented: bytes) -> bool:
        compared.append((len(known), len(presented)))
        return compare(known, presented)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    ring = KeyRing(SecretStr("first,second,third"))
    for presented in ("first", "third", "wrong", "much longer than any of the keys"):
        compared.clear()
        ring.identify(presented)
        assert compared == [(32, 32)] * 3


def test_keys_do_not_show(caplog: pytest.LogCaptureFixture) -> None:
    ring = KeyRing(SecretStr("green-door"))
    with caplog.at_level(logging.DEBUG):
        client_of(ring).get("/who", headers={"X-API-Key": "green-door"})
    shown = f"{ring!r} {vars(ring)} {caplog.text}"
    assert "green-door" not in shown


# Rotation


def test_keys_rotate_with_their_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    ring = KeyRing(NO_KEYS, file)
    assert ring.identify("old")
    file.write_text("old\nnew\n")
    assert ring.identify("old")
    assert ring.identify("new")
    (tmp_path / "next").write_text("newer\n")
    (tmp_path / "next").replace(file)
    assert ring.identify("newer")
    assert ring.identify("old") is None


def test_keys_rotate_with_a_kubernetes_secret(tmp_path: Path) -> None:
    """A mounted secret is a link into a folder; the kubelet makes a new folder and swaps a link to it."""
    for version, key in (("v1", "old"), ("v2", "new")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"{key}\n")
        os.utime(tmp_path / version / "keys", (0, 0))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "keys").symlink_to("data/keys")
    ring = KeyRing(NO_KEYS, tmp_path / "keys")
    assert ring.identify("old")
    (tmp_path / "data_new").symlink_to("v2")
    (tmp_path / "data_new").replace(tmp_path / "data")
    assert ring.identify("new")
    assert ring.identify("old") is None


def test_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    ring = KeyRing(NO_KEYS, file)
    monkeypatch.delattr(Path, "read_text")
    assert ring.identify("old")


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: file.write_bytes(b"\xff\xfe\x00"),
        lambda file: file.write_text("two words\n"),
    ],
    ids=["vanished", "folder", "binary", "bad key"],
)
def test_damaged_file_keeps_the_last_keys_and_warns_once(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    ring = KeyRing(NO_KEYS, file)
    damage(file)
    for _ in range(3):
        assert ring.identify("old")
    assert len(caplog.messages) == 1
    assert "stay in force" in caplog.text
    assert "two words" not in caplog.text


def test_file_that_comes_back_is_read_and_its_next_loss_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    ring = KeyRing(NO_KEYS, file)
    file.unlink()
    assert ring.identify("old")
    file.write_text("new\n")
    assert ring.identify("new")
    file.unlink()
    assert ring.identify("new")
    assert len(caplog.messages) == 2


def test_emptied_file_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old\n")
    ring = KeyRing(NO_KEYS, file)
    client = client_of(ring)
    file.write_text("")
    assert client.get("/who", headers={"X-API-Key": "old"}).status_code == 401
    assert client.get("/who").status_code == 401
    assert ring.enabled


# At the start


def test_file_must_be_readable_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"cannot be read \(No such file or directory\); see API_KEYS_FILE"):
        KeyRing(SecretStr("first"), tmp_path / "missing")


def test_file_without_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# none yet\n")
    with pytest.raises(LetterwiseError, match="holds no API key"):
        KeyRing(NO_KEYS, file)
    assert KeyRing(SecretStr("first"), file).identify("first")


def test_key_that_no_header_can_carry_is_refused_unshown() -> None:
    with pytest.raises(LetterwiseError, match="A key in API_KEY has a space") as caught:
        KeyRing(SecretStr("green door"))
    assert "green" not in str(caught.value)
