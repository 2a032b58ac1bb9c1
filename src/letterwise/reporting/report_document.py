"""A document as sections of blocks, and its two renderings: a self-contained HTML page and a PDF set by Typst.

Knows layout; knows nothing about runs. Between backticks a text is set as code; nothing else in it is markup.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import jinja2
import typst

TEMPLATES = files("letterwise.reporting") / "templates"


@dataclass
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    lead: bool = False
    """Set larger: what a reader in a hurry reads."""


@dataclass
class Items:
    """A list."""

    kind: ClassVar[str] = "items"
    items: list[str]


@dataclass
class Table:
    """A table with a caption; the first column is left-aligned, the others as `right` says."""

    kind: ClassVar[str] = "table"
    caption: str
    header: list[str]
    rows: list[list[str]]
    right: bool = True
    """Whether the other columns hold numbers."""
    widths: list[int] | None = None
    """Relative widths of the columns in print; None: as wide as they need."""
    number: int = 0


@dataclass
class Picture:
    """A figure from a PNG file."""

    kind: ClassVar[str] = "picture"
    path: Path
    caption: str
    description: str
    """For those who cannot see it."""
    number: int = 0


@dataclass
class Listing:
    """Preformatted text."""

    kind: ClassVar[str] = "listing"
    text: str


Block = Text | Items | Table | Picture | Listing


@dataclass
class Section:
    """A numbered section."""

    title: str
    blocks: list[Block]
    number: str = ""

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass
class Document:
    """Everything that is shown; tables, figures and sections are numbered when it is made."""

    title: str
    subtitle: str
    facts: list[tuple[str, str]]
    """Name and value of what identifies the document."""
    sections: list[Section]
    created: datetime
    appendices: list[Section] = field(default_factory=list)

    def __post_init__(self) -> None:
        for place, section in enumerate(self.sections, start=1):
            section.number = str(place)
        for place, section in enumerate(self.appendices):
            section.number = chr(ord("A") + place)
        counts = {"table": 0, "picture": 0}
        for block in (block for section in self.all_sections for block in section.blocks):
            if isinstance(block, Table | Picture):
                counts[block.kind] += 1
                block.number = counts[block.kind]

    @property
    def all_sections(self) -> list[Section]:
        """Sections, then appendices."""
        return [*self.sections, *self.appendices]


def to_html(document: Document) -> str:
    """The document as one HTML page that needs no other file and runs no script."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["inline"] = _inline_html
    environment.filters["data_uri"] = _data_uri
    template = environment.from_string((TEMPLATES / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(document=document)


def to_pdf(document: Document) -> bytes:
    """The document as PDF, with fonts embedded; equal documents give equal bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        blocks = [_for_typst(section, folder) for section in document.all_sections]
        content = {
            "title": document.title,
            "subtitle": document.subtitle,
            "facts": document.facts,
            "date": document.created.date().isoformat(),
            "sections": blocks[: len(document.sections)],
            "appendices": blocks[len(document.sections) :],
        }
        (folder / "document.json").write_text(json.dumps(content), encoding="utf-8")
        (folder / "report.typ").write_text((TEMPLATES / "report.typ").read_text(encoding="utf-8"), encoding="utf-8")
        # Only the fonts that come with Typst, so that the page looks the same everywhere.
        pdf: bytes = typst.compile(
            folder / "report.typ", root=folder, ignore_system_fonts=True, timestamp=document.created
        )
        return pdf


def _for_typst(section: Section, folder: Path) -> dict[str, object]:
    blocks: list[dict[str, object]] = []
    for block in section.blocks:
        values = {"kind": block.kind, **asdict(block)}
        if isinstance(block, Picture):
            name = f"picture-{block.number}.png"
            shutil.copyfile(block.path, folder / name)
            values["path"] = name
        blocks.append(values)
    return {"title": section.title, "number": section.number, "blocks": blocks}


def _inline_html(text: str) -> str:
    """Escaped, with code between backticks; names may break after a sign, intervals nowhere."""
    parts = re.sub(r"\[([−+\d.]+), ([−+\d.]+)\]", "[\\1,\u00a0\\2]", html.escape(text)).split("`")
    parts[1::2] = ["<code>" + re.sub("([_/.])", r"\1<wbr>", part) + "</code>" for part in parts[1::2]]
    return "".join(parts)


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
