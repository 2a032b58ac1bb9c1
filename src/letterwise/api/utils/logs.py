"""Logs: one JSON object a line on standard output, always with the same fields.

Knows the fields and who may log what; knows nothing about metrics, traces or what a request asks. Neither bodies nor
headers of requests are logged. JSON escapes line breaks, so no logged text can pass for another line.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.config import dictConfig
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from letterwise.api.utils.request_id import REQUEST_ID
from letterwise.results import Task

TASK_TYPE: ContextVar[Task | None] = ContextVar("task_type", default=None)
"""The task that the request at hand belongs to."""

PROBE_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""What machines ask every few seconds: logged at level debug only, and not traced."""

_ACCESS_FIELDS = ("method", "route", "status", "duration_ms")
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "transformers", "huggingface_hub")
"""Loggers that bring a handler of their own, which would write plain text."""

_access_logger = logging.getLogger("letterwise.access")


class JsonLineFormatter(JsonFormatter):
    """A log record as one line of JSON.

    The fields `request_id`, `task_type` and `transfer_metrics` may be given as `extra`; the first two are otherwise
    those of the request at hand. What else a library puts on its records is left out.
    """

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Fill `log_data`; called by `format`."""
        given = record.__dict__
        log_data.update(
            timestamp=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            level=record.levelname,
            message=record.message,
            request_id=given.get("request_id") or REQUEST_ID.get(None),
            component=record.name.removeprefix("letterwise."),
            task_type=given.get("task_type") or TASK_TYPE.get(),
            transfer_metrics=given.get("transfer_metrics"),
        )
        log_data.update((name, given[name]) for name in _ACCESS_FIELDS if name in given)
        if "exc_info" in message_dict:
            log_data["exception"] = message_dict["exc_info"]


def configure_logging(level: str) -> None:
    """Send every logger's records through `JsonLineFormatter` to standard output.

    Start uvicorn with ``log_config=None``, so that it leaves this be. Its access log is silenced: `log_access` stands
    in for it.

    Args:
        level: 'debug', 'info', 'warning' or 'error': the lowest level that letterwise and uvicorn log. Other libraries
            log warnings and errors only, because in debugging they may show headers and bodies.
    """
    own = logging.getLevelNamesMapping()[level.upper()]
    handed_over: dict[str, Any] = {name: {"handlers": [], "propagate": True} for name in _OWN_HANDLERS}
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLineFormatter}},
            "handlers": {
                "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}
            },
            "root": {"level": max(own, logging.WARNING), "handlers": ["stdout"]},
            "loggers": {
                **handed_over,
                "letterwise": {"level": own},
                "uvicorn": {"level": own, **handed_over["uvicorn"]},
                "uvicorn.error": {"level": "NOTSET"},
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )
    logging.captureWarnings(True)


def log_access(method: str, route: str, status: str, seconds: float) -> None:
    """Log that a request was answered.

    Args:
        method: HTTP method.
        route: the route's template; the path itself may hold anything.
        status: HTTP status.
        seconds: from the request's arrival to the end of its answer.
    """
    _access_logger.log(
        logging.DEBUG if route in PROBE_PATHS else logging.INFO,
        "%s %s %s",
        method,
        route,
        status,
        extra={"method": method, "route": route, "status": int(status), "duration_ms": round(seconds * 1000, 1)},
    )
