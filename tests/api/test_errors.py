import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from letterwise.api.schemas import LetterCountBatch, LetterCountRequest, LetterPositionRequest, SpellingRequest
from letterwise.api.utils.errors import (
    PROBLEM_RESPONSES,
    BodyLimitMiddleware,
    ServiceProblem,
    TimeoutMiddleware,
    install_error_handling,
)
from letterwise.api.utils.request_id import REQUEST_ID, RequestIdMiddleware
from letterwise.api.utils.security_headers import SecurityHeadersMiddleware

MIDDLEWARES: list[Callable[[ASGIApp], ASGIApp]] = [
    RequestIdMiddleware,
    SecurityHeadersMiddleware,
    lambda app: BodyLimitMiddleware(app, 100),
    lambda app: TimeoutMiddleware(app, 1),
]


def make_app(seconds: float) -> FastAPI:
    app = FastAPI()
    install_error_handling(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=1000)
    app.add_middleware(TimeoutMiddleware, seconds=seconds)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)

    @app.post("/api/count", responses=PROBLEM_RESPONSES)
    async def count(request: LetterCountRequest) -> dict[str, str]:
        return {"request_id": REQUEST_ID.get()}

    @app.post("/api/counts")
    async def counts(request: LetterCountBatch) -> None: ...

    @app.post("/api/position")
    async def position(request: LetterPositionRequest) -> None: ...

    @app.post("/api/spelling")
    async def spelling(request: SpellingRequest) -> None: ...

    @app.get("/api/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/api/busy")
    async def busy() -> None:
        raise ServiceProblem(503, "Overloaded", "Too many requests wait.", {"Retry-After": "2"})

    @app.get("/api/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    @app.get("/api/endless")
    async def endless() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            while True:
                yield "more\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(lines())

    return app


@pytest.fixture
def app() -> FastAPI:
    return make_app(seconds=60)


@pytest.fixture
def hasty() -> FastAPI:
    return make_app(seconds=0.2)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


def post(app: FastAPI, path: str, chunks: AsyncIterator[bytes], **headers: str) -> httpx2.Response:
    """Send a body as it is made, so that the test sees how much of it was asked for."""

    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=chunks, headers={"Content-Type": "application/json", **headers})

    return asyncio.run(send())


def problem(response: httpx2.Response, status: int) -> dict[str, str]:
    """The body of a response that must be a problem with this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    body: dict[str, str] = response.json()
    assert set(body) == {"error", "details", "request_id"}
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


# Request ids


def test_request_id_of_the_client_is_used_and_returned(client: TestClient) -> None:
    response = client.post("/api/count", json={"word": "tree", "letter": "e"}, headers={"X-Request-ID": "trace-1.a_B"})
    assert response.json() == {"request_id": "trace-1.a_B"}
    assert response.headers["X-Request-ID"] == "trace-1.a_B"


@pytest.mark.parametrize("given", ["", "with space", 'a"b', "é", "x" * 65])
def test_request_id_that_could_garble_a_log_is_replaced(client: TestClient, given: str) -> None:
    made = client.get("/nothing", headers={"X-Request-ID": given.encode()}).headers["X-Request-ID"]
    assert len(made) == 32
    assert int(made, 16)


def test_request_ids_differ_and_end_with_their_request(client: TestClient) -> None:
    first, second = (client.get("/nothing").json()["request_id"] for _ in range(2))
    assert first != second
    assert REQUEST_ID.get() == ""


# Invalid input


@pytest.mark.parametrize(
    ("path", "body", "details"),
    [
        ("count", {"letter": "e"}, "'word' is missing."),
        ("count", {"word": 5, "letter": "e"}, "'word' must be a valid string."),
        ("count", {"word": "", "letter": "e"}, "'word' must have at least 1 character."),
        ("count", {"word": "ice cream", "letter": "e"}, "'word' must be one word of 1 to 32 letters a to z."),
        ("count", {"word": "tree", "letter": "ee"}, "'letter' must have at most 1 character."),
        ("count", {"word": "tree", "letter": "e", "color": 1}, "'color' is not a known field."),
        (
            "count",
            {"word": "tree", "letter": "e", "mode": "guess"},
            "'mode' must be 'direct', 'spell_first' or 'computed'.",
        ),
        ("count", ["tree", "e"], "The body must be a JSON object."),
        ("count", "tree", "The body must be a JSON object."),
        ("counts", {"items": []}, "'items' must have at least 1 item."),
        ("counts", {"items": [{"word": "tree"}]}, "'items.0.letter' is missing."),
        ("counts", {"items": ["tree"]}, "'items.0' must be a JSON object."),
        ("position", {"word": "tree", "position": 0}, "'position' must be greater than or equal to 1."),
        ("position", {"word": "tree", "position": "1"}, "'position' must be a valid integer."),
        ("position", {"word": "tree", "position": 5}, "Position must not be larger than the word's 4 letters."),
        ("spelling", {"text": "'a' or 'b'?"}, "'text' must ask about one word; put only that one in quotation marks."),
    ],
)
def test_invalid_input_is_one_sentence_that_names_the_field(
    client: TestClient, path: str, body: Any, details: str
) -> None:
    answer = problem(client.post(f"/api/{path}", json=body), 400)
    assert answer["error"] == "Invalid input"
    assert answer["details"] == details


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (
            b"{'word': 1}",
            "The body is not valid JSON: expecting property name enclosed in double quotes at character 1.",
        ),
        (b'{"word": "tree"', "The body is not valid JSON: expecting ',' delimiter at character 15."),
        (b'{"word": "\xff"}', "The body cannot be read as JSON."),
        (b"[" * 50_000, "The body cannot be read as JSON."),
        (b'{"word": ' + b"9" * 5000 + b"}", "The body cannot be read as JSON."),
        (b"", "The body must be a JSON object."),
    ],
)
def test_body_that_is_not_json_is_refused(body: bytes, details: str) -> None:
    app = FastAPI()
    install_error_handling(app)

    @app.post("/count")
    async def count(request: LetterCountRequest) -> None: ...

    response = TestClient(app).post("/count", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["details"]) == (400, details)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_wrong_content_type_is_named(client: TestClient, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = problem(client.post("/api/count", content=b'{"word": "tree", "letter": "e"}', headers=headers), 400)
    assert answer["details"] == "The body must be JSON, sent with the header Content-Type: application/json."


def test_long_input_is_not_echoed(client: TestClient) -> None:
    long = "secret" * 100
    for body in ({"word": long, "letter": "e"}, {"word": "tree", "letter": "e", long: 1}):
        response = client.post("/api/count", json=body)
        assert long[:70] not in problem(response, 400)["details"]


@pytest.mark.parametrize(
    "body", [rb'{"word": "tree", "letter": "e", "\ud83d": 1}', rb'{"word": "tree", "letter": "e", "mode": "\ud83d"}']
)
def test_half_of_a_surrogate_pair_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/api/count", content=body, headers={"Content-Type": "application/json"})
    assert problem(response, 400)["details"] == "The body has half of a Unicode surrogate pair."


# Other problems


def test_unknown_path(client: TestClient) -> None:
    assert problem(client.get("/api/nothing"), 404)["error"] == "Not found"


def test_wrong_method_says_which_are_allowed(client: TestClient) -> None:
    response = client.get("/api/count")
    assert problem(response, 405)["error"] == "Method not allowed"
    assert response.headers["Allow"] == "POST"


def test_problem_of_a_service_keeps_its_headers(client: TestClient) -> None:
    response = client.get("/api/busy")
    assert problem(response, 503) == {
        "error": "Overloaded",
        "details": "Too many requests wait.",
        "request_id": response.headers["X-Request-ID"],
    }
    assert response.headers["Retry-After"] == "2"


def test_unknown_exception_is_logged_and_tells_the_client_nothing(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="letterwise"):
        response = client.get("/api/broken")
    assert problem(response, 500)["error"] == "Internal error"
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text
    assert "hunter2" in caplog.text
    assert "Traceback" in caplog.text
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_openapi_declares_problems_and_never_422(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    responses = schema["paths"]["/api/count"]["post"]["responses"]
    assert set(responses) == {"200", *map(str, PROBLEM_RESPONSES)}
    assert {408, 431} < PROBLEM_RESPONSES.keys()
    assert responses["400"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "Retry-After" in responses["429"]["headers"]
    assert "422" not in json.dumps(schema["paths"])
    assert "HTTPValidationError" not in schema["components"]["schemas"]


# Limits of body and time


def test_body_over_the_limit_is_refused_unread(app: FastAPI) -> None:
    asked = []

    async def chunks() -> AsyncIterator[bytes]:
        asked.append(1)
        yield b" " * 1001

    response = post(app, "/api/count", chunks(), **{"Content-Length": "1001"})
    body = problem(response, 413)
    assert (body["error"], body["details"]) == ("Body too large", "The body must not be larger than 1000 bytes.")
    assert response.headers["Connection"] == "close"
    assert not asked


@pytest.mark.parametrize("declared", [{}, {"Content-Length": "10"}, {"Content-Length": "many"}])
def test_chunked_body_and_one_longer_than_declared_are_cut_at_the_limit(app: FastAPI, declared: dict[str, str]) -> None:
    asked = []

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            asked.append(number)
            yield b" " * 300

    response = post(app, "/api/count", chunks(), **declared)
    body = problem(response, 413)
    assert (body["error"], body["details"]) == ("Body too large", "The body must not be larger than 1000 bytes.")
    assert response.headers["Connection"] == "close"
    assert len(asked) == 4


def test_body_at_the_limit_is_read(client: TestClient) -> None:
    body = json.dumps({"word": "tree", "letter": "e"}).ljust(1000)
    assert client.post("/api/count", content=body, headers={"Content-Type": "application/json"}).status_code == 200


def test_slow_work_is_cancelled_and_answered_with_503(hasty: FastAPI) -> None:
    response = TestClient(hasty).get("/api/slow")
    assert problem(response, 503)["details"] == "The request took longer than 0.2 s; ask again later."
    assert response.headers["Retry-After"] == "1"


def test_slow_upload_is_answered_with_503(hasty: FastAPI) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    assert problem(post(hasty, "/api/count", chunks()), 503)["error"] == "Timeout"


async def answers_begun(app: FastAPI, path: str) -> list[Message]:
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        sent.append(message)

    async def wait() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    with contextlib.suppress(RuntimeError):  # the server is to see it, and cuts the connection
        await app({"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}, wait, collect)
    return [message for message in sent if message["type"] == "http.response.start"]


def test_response_that_has_begun_is_cut_and_not_begun_again(hasty: FastAPI) -> None:
    (begun,) = asyncio.run(answers_begun(hasty, "/api/endless"))
    assert begun["status"] == 200


def test_response_that_breaks_is_not_begun_again(app: FastAPI) -> None:
    @app.get("/api/breaking")
    async def breaking() -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield "more\n"
            raise RuntimeError("the password is hunter2")

        return StreamingResponse(lines())

    (begun,) = asyncio.run(answers_begun(app, "/api/breaking"))
    assert begun["status"] == 200


def test_time_out_inside_of_a_route_is_an_internal_error(app: FastAPI) -> None:
    @app.get("/api/database")
    async def database() -> None:
        raise TimeoutError

    assert problem(TestClient(app).get("/api/database"), 500)["error"] == "Internal error"


# Headers


def test_security_headers_are_on_every_answer(client: TestClient) -> None:
    for response in (client.get("/nothing"), client.get("/openapi.json"), client.get("/api/busy")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert "unsafe" not in response.headers["Content-Security-Policy"]


def test_only_answers_of_the_api_are_kept_out_of_caches(client: TestClient) -> None:
    assert client.post("/api/count", json={}).headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in client.get("/openapi.json").headers


def test_swagger_page_may_run_its_script(client: TestClient) -> None:
    assert "script-src 'self' 'unsafe-inline'" in client.get("/docs").headers["Content-Security-Policy"]


def test_route_may_set_its_own_policy(app: FastAPI) -> None:
    @app.get("/embed")
    async def embed(request: Request) -> StreamingResponse:
        return StreamingResponse(iter([b""]), headers={"Content-Security-Policy": "frame-ancestors *"})

    assert TestClient(app).get("/embed").headers.get_list("Content-Security-Policy") == ["frame-ancestors *"]


@pytest.mark.parametrize("wrap", MIDDLEWARES)
@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_middlewares_leave_everything_but_http_alone(wrap: Callable[[ASGIApp], ASGIApp], kind: str) -> None:
    seen = []

    async def inner(*arguments: Any) -> None:
        seen.append(arguments)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    asyncio.run(wrap(inner)({"type": kind}, receive, send))
    assert seen == [({"type": kind}, receive, send)]


def test_a_cancelled_application_that_ends_without_a_word_is_answered_for() -> None:
    """As where something inside takes the cancellation for the client's leaving."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    response = TestClient(RequestIdMiddleware(TimeoutMiddleware(silent, 0.01))).get("/")
    assert response.status_code == 503
    assert response.json()["error"] == "Timeout"


def test_an_answer_that_was_cancelled_before_a_byte_was_written_is_answered_for() -> None:
    """As where the server waits for a slow reader before it writes."""
    sent: list[Message] = []
    reading = asyncio.Event()

    async def slow_reader(message: Message) -> None:
        await reading.wait()
        sent.append(message)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        asking = asyncio.create_task(
            RequestIdMiddleware(TimeoutMiddleware(answering, 0.01))(scope, receive, slow_reader)
        )
        await asyncio.sleep(0.1)
        reading.set()
        await asking

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(ask())
    assert [message.get("status") for message in sent] == [503, None]


@pytest.mark.parametrize("word", [True, False], ids=["raises", "ends without a word"])
def test_a_request_that_the_server_cancels_is_answered_for(word: bool) -> None:
    """As uvicorn does with those that outlast DRAIN_SECONDS; it would answer with a plain 500."""
    sent: list[Message] = []
    working = asyncio.Event()

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        working.set()
        with contextlib.nullcontext() if word else contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        await asyncio.sleep(0)  # is not cancelled in turn
        sent.append(message)

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        asking = asyncio.create_task(RequestIdMiddleware(TimeoutMiddleware(hanging, 50))(scope, receive, send))
        await working.wait()
        asking.cancel()
        await asking

    asyncio.run(ask())
    start, body = sent
    assert start["status"] == 503
    assert (b"retry-after", b"5") in start["headers"]
    assert json.loads(body["body"])["error"] == "Not ready"
