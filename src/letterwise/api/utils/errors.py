"""Answers to requests that cannot be answered.

Knows how a problem looks on the wire and what must never be said in one; knows nothing about models or routes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from letterwise.api.schemas import Problem
from letterwise.api.utils.connections import HEAD_SECONDS, MAX_HEAD_BYTES
from letterwise.api.utils.request_id import REQUEST_ID, REQUEST_ID_HEADER

logger = logging.getLogger(__name__)

_MAX_SHOWN = 60
"""Characters of a field's name, which the client may have made up, that are repeated."""


def _documented(description: str, *headers: str) -> dict[str, Any]:
    return {
        "model": Problem,
        "description": description,
        "headers": {name: {"schema": {"type": "string"}} for name in (*headers, REQUEST_ID_HEADER)},
    }


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: _documented("The request cannot be understood."),
    401: _documented("No API key, or a wrong one.", "WWW-Authenticate"),
    404: _documented("There is nothing at this path: `TASK_TYPE` leaves out the routes of the other task."),
    405: _documented("The path does not take this method.", "Allow"),
    408: _documented(f"Path and headers took longer than {HEAD_SECONDS:g} s to come.", "Connection"),
    413: _documented("The body is too large."),
    429: _documented("Too many requests.", "Retry-After", "RateLimit", "RateLimit-Policy"),
    431: _documented(f"Path and headers are larger than {MAX_HEAD_BYTES:,} bytes.", "Connection"),
    500: _documented("The service failed."),
    503: _documented("Not ready, overloaded, or too slow.", "Retry-After"),
}
"""What any route under /api may answer besides 200, as FastAPI's `responses`."""

ALWAYS = (405, 408, 413, 431, 500, 503)
"""Those of them that every route may answer."""


class ServiceProblem(Exception):  # noqa: N818 - it is an answer, as in RFC 9457, before it is an error
    """A request that cannot be answered, with the answer that says why.

    Args:
        status: of the HTTP response.
        error: what kind of problem it is, in a few words.
        details: what is wrong and, where there is one, the remedy.
        headers: to add to the response, such as Retry-After.
    """

    def __init__(self, status: int, error: str, details: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(details)
        self.status = status
        self.error = error
        self.details = details
        self.headers = headers


def problem_response(problem: ServiceProblem) -> JSONResponse:
    """The response that tells a client about `problem`."""
    body = Problem(error=problem.error, details=problem.details, request_id=REQUEST_ID.get())
    return JSONResponse(body.model_dump(), problem.status, problem.headers)


def install_error_handling(app: FastAPI) -> None:
    """Answer every failed request of `app` with a `Problem`, never with 422 or internals, and let OpenAPI say so.

    To be called before other middlewares are added, so that theirs are on the answer to an unknown exception too.
    """

    async def service_problem(request: Request, problem: ServiceProblem) -> JSONResponse:
        return problem_response(problem)

    async def invalid_input(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(ServiceProblem(400, "Invalid input", _sentence(error.errors(), request)))

    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        kind, details = {
            400: ("Invalid input", "The body cannot be read as JSON."),
            404: ("Not found", "There is nothing at this path; /docs lists what there is."),
            405: ("Method not allowed", "This path does not answer this method; see the header Allow."),
            413: ("Body too large", error.detail),
        }.get(error.status_code, (HTTPStatus(error.status_code).phrase, error.detail))
        return problem_response(ServiceProblem(error.status_code, kind, details, error.headers))

    app.exception_handler(ServiceProblem)(service_problem)
    app.exception_handler(RequestValidationError)(invalid_input)
    app.exception_handler(HTTPException)(http_error)
    app.add_middleware(_InternalErrorMiddleware)
    _undocument_422(app)


def _undocument_422(app: FastAPI) -> None:
    build = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build()
        for path in schema.get("paths", {}).values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def _sentence(errors: Sequence[Any], request: Request) -> str:
    """The first of pydantic's errors in words for someone who knows HTTP but not Python."""
    first = errors[0]
    kind, field = first["type"], ".".join(map(str, first["loc"][1:]))
    if kind == "json_invalid":
        return f"The body is not valid JSON: {first['ctx']['error'].lower()} at character {field}."
    if kind in ("missing", "model_attributes_type") and not field:
        if "json" not in request.headers.get("Content-Type", ""):
            return "The body must be JSON, sent with the header Content-Type: application/json."
        return "The body must be a JSON object."
    match kind:
        case "missing":
            what = "is missing"
        case "extra_forbidden":
            what = "is not a known field"
        case "model_attributes_type":
            what = "must be a JSON object"
        case "string_unicode":
            return "The body has half of a Unicode surrogate pair."
        case "value_error":
            what = str(first["ctx"]["error"])
        case _:
            # "Input should be a valid string", "List should have at least 1 item after validation, not 0"
            what = re.sub(r"^\w+ should", "must", first["msg"]).partition(" after validation")[0]
            if isinstance(first["input"], str):
                what = what.replace(" item", " character")
    if not field:
        return f"{what[0].upper()}{what[1:]}."
    shown = field if len(field) <= _MAX_SHOWN else f"{field[:_MAX_SHOWN]}…"
    return f"'{shown}' {what}." if what.startswith(("must", "is ")) else f"'{shown}': {what}."


class _InternalErrorMiddleware:
    """Answer whatever no handler knows.

    FastAPI's handler of `Exception` runs outside of all middlewares: its answer would have no request id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception:
            if started:
                raise
            logger.exception("%s %s failed.", scope["method"], scope["path"])
            problem = ServiceProblem(500, "Internal error", "The service failed; its logs say why.")
            await problem_response(problem)(scope, receive, send)


class BodyLimitMiddleware:
    """Refuse bodies over `max_bytes`: by Content-Length before reading, else as soon as more has arrived.

    Starlette's own middleware answers in plain text, and only once the route has run where that reads no body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        details = f"The body must not be larger than {self.max_bytes} bytes."
        # The rest of the body stays unread, so the connection cannot be used again.
        headers = {"Connection": "close"}
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            response = problem_response(ServiceProblem(413, "Body too large", details, headers))
            await response(scope, receive, send)
            return
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                # FastAPI passes on an HTTPException while it reads a body, and turns every other exception into 400.
                raise HTTPException(413, details, headers)
            return message

        await self.app(scope, limited_receive, send)


class TimeoutMiddleware:
    """Answer 503 when a request takes longer than `seconds`, a slow upload included, and cancel its work.

    So is one answered whose work is cancelled by others: by the server, DRAIN_SECONDS after it was told to stop, or
    with a queue whose worker ended. The server's own word for it would be a plain 500.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = cancelled = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            await send(message)  # which may wait for a slow reader, and be cancelled before it has written anything
            started = True

        try:
            async with asyncio.timeout(self.seconds) as timer:
                await self.app(scope, receive, watched_send)
        except TimeoutError:
            if not timer.expired():
                raise
        except asyncio.CancelledError:
            if started:
                raise
            cancelled = True
        # What is cancelled may end without a word. A response that has begun cannot be replaced; the server closes its
        # connection, as it is incomplete.
        if started:
            return
        task = asyncio.current_task()
        if timer.expired():
            details = f"The request took longer than {self.seconds:g} s; ask again later."
            problem = ServiceProblem(503, "Timeout", details, {"Retry-After": "1", "Connection": "close"})
        elif cancelled or (task and task.cancelling()):
            details = "The service is stopping, and did not wait for this answer; ask again later."
            problem = ServiceProblem(503, "Not ready", details, {"Retry-After": "5", "Connection": "close"})
        else:
            return
        if task:
            task.uncancel()
        await problem_response(problem)(scope, receive, send)
