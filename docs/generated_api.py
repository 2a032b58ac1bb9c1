"""What docs/api.md shows of the service: its routes and settings, from the code.

Called from cog blocks and run by `make docs`. Knows the service's settings and OpenAPI description; asks no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from letterwise.api.app import create_app
from letterwise.api.settings import ServiceSettings


def routes() -> str:
    """Every route with what it is for."""
    paths: dict[str, dict[str, Any]] = create_app(_defaults()).openapi()["paths"]
    rows = [
        (f"`{method.upper()} {path}`", " ".join(operation["description"].split()))
        for path, operations in sorted(paths.items())
        for method, operation in operations.items()
    ]
    return _table(("route", "what it does"), rows)


def statuses() -> str:
    """Every status that a route may answer with."""
    answers: dict[str, str] = {}
    for operations in create_app(_defaults()).openapi()["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                answers.setdefault(status, response["description"])
    rows = [(status, answers[status]) for status in sorted(answers) if status != "200"]
    return _table(("status", "when"), rows)


def settings() -> str:
    """Every environment variable of the service."""
    rows = [
        (f"`{name.upper()}`", _default(field), _allowed(field), " ".join((field.description or "").split()))
        for name, field in ServiceSettings.model_fields.items()
    ]
    return _table(("variable", "default", "allowed", "meaning"), rows)


def _defaults() -> ServiceSettings:
    """Settings that do not depend on the environment of whoever makes the documents."""
    fields = ServiceSettings.model_fields
    return ServiceSettings(**{name: field.default for name, field in fields.items()})


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


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
