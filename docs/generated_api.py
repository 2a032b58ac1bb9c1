"""What docs/api.md shows of the service: routes and settings from the code, examples and speed as they were recorded.

Called from cog blocks and run by `make docs`. Knows the service's settings, its OpenAPI description and the recordings;
asks no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from letterwise.api.app import create_app
from letterwise.api.examples import recording
from letterwise.api.settings import ServiceSettings
from letterwise.reporting.templating import markdown_table

LINE = 100
"""Characters of a line of JSON, where a value can be broken."""


def routes() -> str:
    """Every route with what it is for."""
    paths: dict[str, dict[str, Any]] = create_app(_defaults()).openapi()["paths"]
    rows = [
        (f"`{method.upper()} {path}`", " ".join(operation["description"].split()))
        for path, operations in sorted(paths.items())
        for method, operation in operations.items()
    ]
    return markdown_table(("route", "what it does"), rows)


def statuses() -> str:
    """Every status that a route may answer with."""
    answers: dict[str, str] = {}
    for operations in create_app(_defaults()).openapi()["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                answers.setdefault(status, response["description"])
    rows = [(status, answers[status]) for status in sorted(answers) if status != "200"]
    return markdown_table(("status", "when"), rows)


def recorded_on() -> str:
    """When and where the examples were recorded."""
    recorded = recording()
    return (
        f"Recorded on {recorded.date} with letterwise {recorded.version} on {recorded.cores} cores of {recorded.cpu}, "
        f"in {recorded.dtype}. Other processors round differently, so probabilities differ a little there."
    )


def start(number: int) -> str:
    """The command that starts the service of the examples that follow."""
    service = recording().services[number]
    variables = " ".join(f"{name}={value}" for name, value in service.environment.items())
    return f"```sh\n{variables} {service.command}\n```"


def example(*names: str) -> str:
    """Recorded requests, each with its response."""
    by_name = {exchange.name: exchange for exchange in recording().exchanges}
    blocks = []
    for exchange in (by_name[name] for name in names):
        body = "" if exchange.body is None else pretty(exchange.body)
        answer = exchange.response if isinstance(exchange.response, str) else pretty(exchange.response)
        blocks += [
            f"{exchange.title}:",
            _message(f"{exchange.method} {exchange.path} HTTP/1.1", exchange.headers, body),
            _message(f"HTTP/1.1 {exchange.status}", exchange.response_headers, answer),
        ]
    return "\n\n".join(blocks)


def pretty(value: Any, indent: str = "") -> str:
    """JSON whose objects and lists are broken only where they do not fit into a line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= LINE or not isinstance(value, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {pretty(one, inner)}" for key, one in value.items()]
    else:
        parts = [pretty(one, inner) for one in value]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(f"{inner}{part}" for part in parts) + f"\n{indent}{last}"


def settings() -> str:
    """Every environment variable of the service."""
    rows = [
        (f"`{name.upper()}`", _default(field), _allowed(field), " ".join((field.description or "").split()))
        for name, field in ServiceSettings.model_fields.items()
    ]
    return markdown_table(("variable", "default", "allowed", "meaning"), rows)


def _defaults() -> ServiceSettings:
    """Settings that do not depend on the environment of whoever makes the documents."""
    fields = ServiceSettings.model_fields
    return ServiceSettings(**{name: field.default for name, field in fields.items()})


def _message(first_line: str, headers: Mapping[str, str], body: str) -> str:
    lines = [first_line, *(f"{name}: {value}" for name, value in headers.items())]
    return "\n".join(["```http", *lines, *(["", body] if body else []), "```"])


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return "none" if value is None or value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "`true`, `false`"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]
    return " and ".join(bounds) or "text"
