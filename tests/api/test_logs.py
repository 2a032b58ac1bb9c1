import json
import logging
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from letterwise.api.utils.logs import TASK_TYPE, configure_logging
from letterwise.api.utils.observability import MetricsMiddleware, ServiceMetrics
from letterwise.api.utils.request_id import REQUEST_ID, RequestIdMiddleware

FIELDS = ["timestamp", "level", "message", "request_id", "component", "task_type", "transfer_metrics"]


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logging.captureWarnings(False)  # as a service of another test may have left it
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("letterwise").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Any:
    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read


def test_a_record_is_one_line_with_exactly_the_documented_fields(lines: Any) -> None:
    configure_logging("info")
    logging.getLogger("letterwise.api.services.canary").info("Probe %d.", 1)

    (line,) = lines()
    assert list(line) == FIELDS
    assert line.pop("timestamp")[-10:-6].startswith(".")  # milliseconds, then +00:00
    assert line == {
        "level": "INFO",
        "message": "Probe 1.",
        "request_id": None,
        "component": "api.services.canary",
        "task_type": None,
        "transfer_metrics": None,
    }


def test_a_record_knows_the_request_it_belongs_to(lines: Any) -> None:
    configure_logging("info")

    def in_a_request() -> None:
        REQUEST_ID.set("abc-1")
        TASK_TYPE.set("spelling")
        logging.getLogger("letterwise").info("Hello.", extra={"transfer_metrics": {"correlation": 0.5}})

    copy_context().run(in_a_request)

    (line,) = lines()
    assert (line["request_id"], line["task_type"]) == ("abc-1", "spelling")
    assert line["transfer_metrics"] == {"correlation": 0.5}


def test_logged_text_cannot_pass_for_another_line(lines: Any) -> None:
    configure_logging("info")
    forged = 'x\n{"level": "ERROR", "message": "forged"}\r\u2028\x1b[31m'
    logging.getLogger("letterwise").info(forged, extra={"password": "hunter2", "color_message": "hm"})

    (line,) = lines()
    assert line["message"] == forged
    assert list(line) == FIELDS


def test_an_exception_is_a_field(lines: Any) -> None:
    configure_logging("error")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("letterwise").exception("It failed.")

    (line,) = lines()
    assert list(line) == [*FIELDS, "exception"]
    assert line["exception"].endswith("ValueError: broken")


def test_uvicorn_and_warnings_speak_the_same_format_and_libraries_keep_quiet(lines: Any) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    logging.getLogger("uvicorn.error").setLevel("ERROR")
    configure_logging("debug")
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 1)
    logging.getLogger("uvicorn.access").info("GET /?key=secret")
    logging.getLogger("urllib3").debug("Authorization: Bearer secret")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)

    started, warned = lines()
    assert (started["component"], started["message"]) == ("uvicorn.error", "Started server process [1]")
    assert (warned["component"], warned["level"]) == ("py.warnings", "WARNING")


def test_each_request_is_one_line_without_its_body_key_or_path(lines: Any) -> None:
    async def spell(request: Request) -> PlainTextResponse:
        logging.getLogger("letterwise.api").warning("While answering.")
        return PlainTextResponse(await request.body())

    app = Starlette(routes=[Route("/api/spelling/{word}", spell, methods=["POST"]), Route("/health", spell)])
    app.add_middleware(MetricsMiddleware, metrics=ServiceMetrics())
    app.add_middleware(RequestIdMiddleware)
    with TestClient(app) as client:
        configure_logging("info")
        client.post(
            "/api/spelling/secret?key=secret",
            content="secret",
            headers={"X-API-Key": "secret", "X-Request-ID": "abc-1"},
        )
        client.get("/health")

    during, access, health = lines()
    assert (during["request_id"], during["task_type"]) == ("abc-1", "spelling")
    assert list(access) == [*FIELDS, "method", "route", "status", "duration_ms"]
    assert access["message"] == "POST /api/spelling/{word} 200"
    assert (access["component"], access["request_id"], access["task_type"]) == ("access", "abc-1", "spelling")
    assert (access["status"], type(access["duration_ms"])) == (200, float)
    assert "secret" not in json.dumps(access)
    assert health["message"] == "While answering."  # the probe's own line is for debugging only
