"""The report as a reader sees it: the page in headless Chromium, the PDF through poppler. Nothing runs over an edge."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import finished_run
import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from letterwise.reporting.figures import write_all_figures
from letterwise.reporting.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
POPPLER = shutil.which("pdftotext") and shutil.which("pdffonts")

pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: apt install chromium)")
needs_poppler = pytest.mark.skipif(not POPPLER, reason="poppler is not installed (Debian: apt install poppler-utils)")

MARGIN = 50
"""Of the PDF's pages, in points; 20 mm are 56.7."""


@pytest.fixture
def report(run_folder: Path) -> Path:
    """The folder of a run with every figure and the report."""
    write_all_figures(finished_run.complete(run_folder))
    write_report(run_folder)
    return run_folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@needs_chromium
def test_the_page_fits_a_desk_and_a_telephone_and_is_accessible(report: Path, browser: Browser) -> None:
    asked: list[str] = []
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.goto((report / "final_report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert Axe().run(page).violations_count == 0
        page.close()
    assert [url for url in asked if not url.startswith("data:")] == 2 * [(report / "final_report.html").as_uri()]


@needs_poppler
def test_the_pdf_holds_its_fonts_and_no_word_runs_over_the_margin(report: Path) -> None:
    pdf = report / "final_report.pdf"
    fonts = subprocess.run(["pdffonts", pdf], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert fonts
    assert all(re.search(r" yes (yes|no)  *(yes|no) ", line) for line in fonts), "a font is not embedded"

    boxes = subprocess.run(["pdftotext", "-bbox", pdf, "-"], capture_output=True, text=True, check=True).stdout
    pages = boxes.split("<page ")[1:]
    assert len(pages) > 5
    for page in pages:
        width = float(re.findall(r'width="([\d.]+)"', page)[0])
        edges = re.findall(r'xMin="([\d.-]+)" yMin="[\d.-]+" xMax="([\d.-]+)"', page)
        assert len(edges) > 5, "a page is empty"
        assert all(float(left) > MARGIN and float(right) < width - MARGIN for left, right in edges)


@needs_poppler
def test_page_and_pdf_hold_the_same_figures(report: Path) -> None:
    text = subprocess.run(
        ["pdftotext", "-raw", report / "final_report.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    page = re.sub(
        r"<style>.*?</style>|<[^>]+>", " ", (report / "final_report.html").read_text(encoding="utf-8"), flags=re.S
    )
    shares = set(re.findall(r"\d+\.\d%", page))
    assert len(shares) > 30
    assert shares <= set(re.findall(r"\d+\.\d%", text))
