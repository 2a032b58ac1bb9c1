"""Bodies and headers that no well-meaning client sends: each is answered as a problem, and never as a failure."""

from __future__ import annotations

import pytest
from scripted_model import ScriptedEngine, Serve
from starlette.testclient import TestClient

COUNT = "/api/position_count/letter_count"
POSITION = "/api/position_count/letter_position"
JSON = "application/json"


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        (COUNT, JSON, b""),
        (COUNT, JSON, b"null"),
        (COUNT, JSON, b"[]"),
        (COUNT, JSON, b'"text"'),
        (COUNT, JSON, b"{"),
        (COUNT, JSON, b"\x00"),
        (COUNT, JSON, b'\xff\xfe{"word"'),
        (COUNT, JSON, b'{"word": "tree\xff", "letter": "e"}'),
        (COUNT, JSON, b'{"word": "\\ud800", "letter": "e"}'),
        (COUNT, JSON, b'{"word": "tr\\u0000ee", "letter": "e"}'),
        (COUNT, JSON, b'{"word": "tree", "letter": "e", "\\ud800": 1}'),
        (COUNT, JSON, b'{"word": "tree", "letter": NaN}'),
        (COUNT, JSON, b"[" * 30_000 + b"]" * 30_000),
        (COUNT, JSON, b'{"word":' * 7_000 + b"1" + b"}" * 7_000),
        (COUNT, JSON, b'{"word": "tree", "letter": "e", "verify": 1}'),
        (POSITION, JSON, b'{"word": "tree", "position": NaN}'),
        (POSITION, JSON, b'{"word": "tree", "position": -Infinity}'),
        (POSITION, JSON, b'{"word": "tree", "position": 1e999}'),
        (POSITION, JSON, b'{"word": "tree", "position": ' + b"9" * 10_000 + b"}"),
        (POSITION, JSON, b'{"word": "tree", "position": true}'),
        (POSITION, JSON, b'{"word": "tree", "position": 1.5}'),
        (COUNT, "text/plain", b'{"word": "tree", "letter": "e"}'),
        (COUNT, "application/x-www-form-urlencoded", b"word=tree&letter=e"),
        (COUNT, "multipart/form-data; boundary=x", b"--x--"),
        (COUNT, "\xe9;;;=", b'{"word": "tree", "letter": "e"}'),
        (f"{COUNT}/batch", JSON, b'{"items": {"0": {"word": "tree", "letter": "e"}}}'),
        (f"{COUNT}/batch", JSON, b'{"items": [null]}'),
    ],
)
def test_odd_bodies_are_invalid_input(shared_client: TestClient, path: str, content_type: str, body: bytes) -> None:
    headers = {"Content-Type": content_type.encode("latin-1")}
    response = shared_client.post(path, content=body, headers=headers)  # type: ignore[arg-type]
    assert response.status_code == 400, response.text
    problem = response.json()
    assert problem.keys() == {"error", "details", "request_id"}
    assert problem["error"] == "Invalid input"
    assert len(problem["details"]) < 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"word": "tree", "letter": "e", "letter": "t", "mode": "direct"}',  # the last one counts, as in browsers
        b'{"word": "tree", "letter": "t", "mode": "direct"} \r\n\t',
        b'{"word": "\\u0074ree", "letter": "t", "mode": "direct"}',
        '{"word": "tree", "letter": "t", "mode": "direct"}'.encode("utf-16"),
    ],
)
def test_odd_but_valid_json_is_answered(shared_client: TestClient, body: bytes) -> None:
    answer = shared_client.post(COUNT, content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert (answer.status_code, answer.json()["word"], answer.json()["letter"]) == (200, "tree", "t")


def test_a_whole_number_may_be_written_as_a_float(shared_client: TestClient) -> None:
    answer = shared_client.post(POSITION, content=b'{"word": "tree", "position": 2.0}', headers={"Content-Type": JSON})
    assert answer.json()["position"] == 2


def test_other_headers_do_no_harm(serve: Serve) -> None:
    body = {"word": "tree", "letter": "e", "mode": "direct"}
    odd: list[dict[str, bytes]] = [
        {"Accept": b"\xff"},
        {"Accept": b"image/png"},
        {"Authorization": b"Bearer"},
        {"Authorization": b"Basic \xff"},
        {"X-API-Key": b"\xe9"},
        {"X-Forwarded-For": b"not an address, , \xff"},
        {"traceparent": b"00-zz"},
        {"Content-Length": b"not a number"},
        {"Origin": b"https://elsewhere.example"},
        {"Host": b"\xff"},
    ]
    for settings in ({}, {"trust_proxy_headers": True, "rate_limit": "1000/minute"}):
        client = serve(ScriptedEngine(answer="1"), **settings)
        for headers in odd:
            response = client.post(COUNT, json=body, headers=headers)  # type: ignore[arg-type]
            assert response.status_code == 200, (headers, response.text)
            assert "Access-Control-Allow-Origin" not in response.headers


def test_keys_that_no_header_should_carry_are_wrong_ones(serve: Serve) -> None:
    client = serve(api_key="sesame")
    for headers in ({"X-API-Key": b"\xff\x00"}, {"Authorization": b"Bearer \xe9"}, {"Authorization": b"sesame"}):
        assert client.post(COUNT, json={}, headers=headers).status_code == 401  # type: ignore[arg-type]


def test_browsers_may_ask_from_named_origins_only(serve: Serve) -> None:
    client = serve(ScriptedEngine(answer="1"), cors_origins="https://here.example", api_key="sesame")
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    for origin, allowed in (("https://here.example", "https://here.example"), ("https://elsewhere.example", None)):
        preflight = client.options(COUNT, headers={"Origin": origin, **asking})
        assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
        # A refusal can be read too, so that a page can say what is wrong.
        refused = client.post(COUNT, json={}, headers={"Origin": origin})
        assert (refused.status_code, refused.headers.get("Access-Control-Allow-Origin")) == (401, allowed)
        assert "Access-Control-Allow-Credentials" not in refused.headers
