"""In an overload the service refuses at the door what would wait, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scripted_model import ScriptedEngine, Serve, served
from starlette.testclient import TestClient
from transformers import PreTrainedTokenizerBase

from letterwise.api import lifecycle

COUNT = "/api/position_count/letter_count"
BODY = {"word": "tree", "letter": "e", "mode": "direct"}


def overload(client: TestClient) -> Any:
    """A batch that takes ten seconds has just begun, where one item takes 50 ms; and a lot has been asked for."""
    admission = client.app.state.service.batcher.admission  # type: ignore[attr-defined]
    for _ in range(9):
        admission.times.observe("score", 1, 0.05)
        admission.times.observe("score", 32, 10.0)
    admission.admits("score", 10**7, {}, 0)
    admission.begin("score", 32)
    assert admission.overloaded
    return admission


def test_a_refusal_at_the_door_is_a_full_answer(serve: Serve) -> None:
    client = serve(ScriptedEngine(answer="1"))
    admission = overload(client)
    response = client.post(COUNT, json=BODY, headers={"X-Request-ID": "mine"})
    assert response.status_code == 503
    assert response.json() == {
        "error": "Overloaded",
        "details": "More requests are waiting than can be answered soon; try again later.",
        "request_id": "mine",
    }
    assert response.headers["Retry-After"] == "1"
    assert response.headers["X-Request-ID"] == "mine"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    metrics = client.get("/metrics").text
    assert "letterwise_queue_rejected_total 1.0" in metrics
    labels = f'method="POST",route="{COUNT}",status="503",task_type="position_count"'
    assert f"letterwise_http_requests_total{{{labels}}} 1.0" in metrics
    admission.cancel()
    assert client.post(COUNT, json=BODY).status_code == 200


def test_not_even_the_body_is_looked_at(serve: Serve) -> None:
    client = serve(api_key="sesame")
    overload(client)
    for path in (COUNT, f"{COUNT}/batch", "/api/spelling/predict"):
        assert client.post(path, content=b"no JSON, and no key").status_code == 503


def test_what_needs_no_model_is_answered_as_ever(serve: Serve) -> None:
    client = serve()
    overload(client)
    assert client.post("/api/spelling/check", json={"word": "tree"}).status_code == 200
    for path in ("/health", "/ready", "/metrics", "/"):
        assert client.get(path).status_code == 200
    assert client.get(COUNT).status_code == 405
    assert client.post("/nothing").status_code == 404


def test_a_door_that_was_closed_opens_by_itself(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(ScriptedEngine(answer="1"))
    overload(client)
    assert client.post(COUNT, json=BODY).status_code == 503
    later = time.monotonic() + 10.01  # the batch should be over
    admission = client.app.state.service.batcher.admission  # type: ignore[attr-defined]
    monkeypatch.setattr(admission, "_clock", lambda: later)
    assert client.post(COUNT, json=BODY).status_code == 200


def test_the_model_is_replaced_in_an_overload_too(serve: Serve, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    client = serve()
    overload(client)
    state = client.app.state.service  # type: ignore[attr-defined]
    new = served(tiny_tokenizer, ScriptedEngine(), name="new")
    assert client.portal
    client.portal.call(lifecycle._reload, state, lambda _: new, lifecycle._Watch(state))
    assert client.get("/ready").json()["model"] == "new"
    assert not state.answering.patient
