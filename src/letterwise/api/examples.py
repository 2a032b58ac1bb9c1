"""Recorded requests and their answers: the examples of the OpenAPI description and of docs/api.md.

Recorded from a running service by docs/record_api_examples.py, never typed. Knows what was asked and answered, and
asks nobody.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from letterwise.files import read_json

RECORDING = Path(__file__).with_name("examples.json")


class Exchange(BaseModel):
    """A request and its response."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    method: str
    path: str
    headers: dict[str, str]
    """A long value is written as `<1000 times x>`."""
    body: Any
    """JSON; null where the request has none."""
    status: int
    response_headers: dict[str, str]
    """Those worth showing."""
    response: Any
    """JSON, or text."""


class ServiceExchanges(BaseModel):
    """What one service was asked, in this order."""

    model_config = ConfigDict(extra="forbid")

    environment: dict[str, str]
    command: str
    exchanges: list[Exchange]


class Recording(BaseModel):
    """Everything that was recorded, and where."""

    model_config = ConfigDict(extra="forbid")

    date: str
    version: str
    cpu: str
    cores: int
    dtype: str
    services: list[ServiceExchanges]

    @property
    def exchanges(self) -> list[Exchange]:
        """Of all services."""
        return [exchange for service in self.services for exchange in service.exchanges]


@cache
def recording() -> Recording:
    """What was recorded last."""
    return Recording.model_validate(read_json(RECORDING))


def document_examples(app: FastAPI) -> None:
    """Show in the OpenAPI description of `app` what was recorded.

    A problem that was not recorded on a route is shown as it was on another one, since all look alike.
    """
    build = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build()
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _add_examples(operation, method.upper(), path)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def _add_examples(operation: dict[str, Any], method: str, path: str) -> None:
    exchanges = recording().exchanges
    own = [exchange for exchange in exchanges if (exchange.method, exchange.path) == (method, path)]
    for status, response in operation["responses"].items():
        same_status = [exchange for exchange in exchanges if str(exchange.status) == status != "200"]
        for exchange in [exchange for exchange in own if str(exchange.status) == status] or same_status:
            media = exchange.response_headers["Content-Type"].partition(";")[0]
            shown = {"summary": exchange.title, "value": exchange.response}
            response["content"][media].setdefault("examples", {})[exchange.name] = shown
    for exchange in own:
        if exchange.status == 200 and exchange.body is not None:
            content = operation["requestBody"]["content"]["application/json"]
            content.setdefault("examples", {})[exchange.name] = {"summary": exchange.title, "value": exchange.body}
