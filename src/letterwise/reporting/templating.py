"""Jinja templates of this package, and the small Markdown that they are filled with.

Knows nothing about what is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("letterwise.reporting"),
    undefined=jinja2.StrictUndefined,  # a misspelled name is an error, not an empty place
    autoescape=False,  # the templates make Markdown
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters["quoted"] = json.dumps  # of text: a string of Python, too


def render(template: str, **values: Any) -> str:
    """A template of `templates/` with its values filled in."""
    return _ENVIRONMENT.get_template(template).render(**values)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a pipe inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
