"""The playground in headless Chromium, against a stand-in for the service, and once against the application itself.

Screenshots are kept in ``build/screenshots``, or in the folder that ``PLAYGROUND_SCREENSHOTS`` names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from scripted_model import ScriptedEngine

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_CHROMIUM = "Chromium is not installed (Debian and Ubuntu: apt install chromium)"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)]

SCREENSHOTS = Path(os.environ.get("PLAYGROUND_SCREENSHOTS") or Path(__file__).parents[2] / "build" / "screenshots")

PATIENCE = 20
"""Seconds that the page may take on a busy machine; without load it takes tenths."""
expect.set_options(timeout=1000 * PATIENCE)

Serve = Callable[..., str]
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Any]:
    """The module with the stand-in for the service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        import playground_app

        yield playground_app


@pytest.fixture(scope="module")
def serve(stand_in: Any) -> Iterator[Serve]:
    """Starts a stand-in with these options, and gives its address."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(stand_in.serving(stand_in.create_app(**options)))


@pytest.fixture(scope="module")
def url(serve: Serve) -> str:
    return serve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as chromium,
    ):
        yield chromium


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address in a fresh browser context, and fails where the page threw an error or broke its own CSP."""
    faults: list[str] = []
    with ExitStack() as stack:

        def open_address(address: str, **options: Any) -> Page:
            options.setdefault("reduced_motion", "reduce")
            page = stack.enter_context(browser.new_context(**options)).new_page()
            page.set_default_timeout(1000 * PATIENCE)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if "Content Sec" in message.text else None)
            page.goto(address)
            return page

        yield open_address
    assert faults == []


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    def keep(page: Page, name: str) -> None:
        path = SCREENSHOTS / f"playground-{name}.png"
        path.unlink(missing_ok=True)  # an old one would prove nothing
        page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 10_000

    return keep


def ask(page: Page, word: str) -> None:
    page.get_by_label("Word", exact=True).fill(word)
    page.get_by_role("button", name="Ask the model").click()


def answered(page: Page, word: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(f"“{word}”")


def tiles(page: Page, part: str, model: str = "finetuned") -> Locator:
    return page.locator(f"[data-model={model}] [data-part={part}] .tile")


def accessibility_violations(page: Page) -> list[str]:
    results = Axe().run(page)
    return [f"{found['id']}: {found['nodes'][0]['html']}" for found in results.response["violations"]]


def test_a_typed_word_is_read_spelled_counted_and_indexed(
    open_page: OpenPage, url: str, screenshot: Callable[[Page, str], None]
) -> None:
    page = open_page(url, color_scheme="light")
    ask(page, "strawberry")
    answered(page, "strawberry")

    expect(page.locator("#tokens li")).to_have_text(["str", "aw", "berry"])
    expect(page.locator("#verdict")).to_have_text("✓ Spelled correctly")
    expect(tiles(page, "letters").locator(".value")).to_have_text([*"strawbery", "none–"])
    expect(tiles(page, "letters").locator(".confidence").nth(1)).to_have_text("93%")
    expect(tiles(page, "counts").locator(".name")).to_have_text([f"Count of {letter}" for letter in "strawbey"])
    expect(tiles(page, "counts").locator(".value")).to_have_text([*"11211111"])
    expect(tiles(page, "positions")).to_have_count(10)

    # The scripted model loses one r: what follows is marked wrong, in words and not by colour alone.
    expect(tiles(page, "counts").nth(2)).to_contain_text("✗ is 3")
    expect(tiles(page, "positions").and_(page.locator(".wrong"))).to_contain_text(["wrong, ✗ is r", "wrong, ✗ is y"])
    expect(tiles(page, "positions").and_(page.locator(".right"))).to_have_count(8)
    expect(tiles(page, "positions", "base").and_(page.locator(".right"))).to_have_count(7)
    expect(page.get_by_role("status")).to_contain_text(
        "Fine-tuned model: spelling wrong, 7 of 8 counts right, 8 of 10 positions right."
    )
    screenshot(page, "desktop-light")
    assert accessibility_violations(page) == []


def test_the_page_asks_the_application_itself(open_page: OpenPage, listening: Serve) -> None:
    tuned = ScriptedEngine(spellings={"strawberry": "strawbery"})
    page = open_page(listening(tuned, base=ScriptedEngine()))
    ask(page, "strawberry")
    answered(page, "strawberry")

    assert "".join(page.locator("#tokens li").all_inner_texts()) == "strawberry"
    expect(page.locator("#verdict")).to_have_text("✓ Spelled correctly")
    expect(tiles(page, "letters").locator(".value")).to_have_text([*"strawbery", "none–"])
    expect(tiles(page, "letters").locator(".confidence").first).to_have_text("90%")
    expect(tiles(page, "counts").locator(".value")).to_have_text([*"11211111"])
    expect(tiles(page, "positions").locator(".value")).to_have_text([*"strawbery", "none–"])
    expect(tiles(page, "positions", "base").and_(page.locator(".right"))).to_have_count(10)


def test_a_letter_that_the_word_has_not_and_a_chosen_mode(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.get_by_label("Another letter").fill("Q")
    page.get_by_label("Answer mode").select_option("direct")
    ask(page, "cat")
    answered(page, "cat")
    expect(tiles(page, "counts").locator(".value")).to_have_text(["1", "1", "1", "0"])
    expect(page.locator("[data-model=finetuned] [data-part=positions] .hint")).to_have_text(
        "Mode direct. 3 of 3 right."
    )


def test_a_misspelled_example_and_its_suggestion(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.get_by_role("button", name="recieve").click()
    expect(page.locator("#verdict")).to_have_text("✗ Probably misspelled")
    page.get_by_role("button", name="receive", exact=True).click()
    answered(page, "receive")
    expect(page.locator("#verdict")).to_have_text("✓ Spelled correctly")
    assert page.url.endswith("?word=receive")
    page.reload()
    answered(page, "receive")


def test_dark_by_the_system_and_by_the_switch(
    open_page: OpenPage, url: str, screenshot: Callable[[Page, str], None]
) -> None:
    def brightness(page: Page) -> int:
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))

    page = open_page(f"{url}?word=rhythm", color_scheme="dark")
    answered(page, "rhythm")
    assert brightness(page) < 120
    screenshot(page, "desktop-dark")
    assert accessibility_violations(page) == []

    page.get_by_role("button", name="Light theme").click()
    assert brightness(page) > 700
    page.reload()
    expect(page.get_by_role("button", name="Dark theme")).to_be_visible()
    assert brightness(page) > 700


def test_a_phone_needs_no_sideways_scrolling(
    open_page: OpenPage, url: str, screenshot: Callable[[Page, str], None]
) -> None:
    page = open_page(url, viewport={"width": 360, "height": 740}, has_touch=True)
    ask(page, "strawberry" * 3)
    answered(page, "strawberry" * 3)
    screenshot(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_keyboard_is_enough(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    focused = "document.activeElement.textContent.trim() || document.activeElement.id"
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused).split("\n")[0])
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if order[-1] == "word":
            page.keyboard.type("banana")
    assert order == ["API docs", "Dark theme", "word", "letter", "default", "Ask the model", "strawberry"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    answered(page, "banana")


def test_a_key_is_asked_for_when_one_is_needed(open_page: OpenPage, serve: Serve) -> None:
    page = open_page(serve(api_key="secret"))
    key = page.get_by_label("API key")
    expect(key).to_be_hidden()
    ask(page, "rhythm")
    expect(page.get_by_role("alert")).to_have_text("This service asks for an API key.")
    expect(key).to_be_focused()
    key.fill("wrong")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The service does not accept this API key.")
    assert accessibility_violations(page) == []
    key.fill("secret")
    key.press("Enter")
    answered(page, "rhythm")
    expect(key).to_be_hidden()
    assert page.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]") == [["secret"], []]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("busy", "Too many requests. Try again in 7 seconds."),
        ("overloaded", "The model is busy or still starting. Try again in 2 seconds. Request request-1."),
        ("broken", "The service failed with status 500: scripted. Request request-1."),
    ],
)
def test_a_refusal_says_what_to_do(open_page: OpenPage, url: str, word: str, message: str) -> None:
    page = open_page(url)
    ask(page, word)
    expect(page.get_by_role("alert")).to_have_text(message)
    expect(page.locator("#results")).to_be_hidden()


def test_what_is_no_word_is_refused_beside_its_field(open_page: OpenPage, url: str, stand_in: Any) -> None:
    page = open_page(url)
    ask(page, stand_in.HOSTILE)
    word = page.get_by_label("Word", exact=True)
    expect(word).to_be_focused()
    expect(word).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#word-problem")).to_have_text("Give one word of 1 to 32 letters a to z.")


def test_a_question_that_the_service_refuses(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.route(
        "**/api/**",
        lambda route: route.fulfill(status=400, json={"error": "Invalid input", "details": "No, <b>no</b>."}),
    )
    ask(page, "word")
    expect(page.get_by_role("alert")).to_have_text("The service cannot answer this: No, <b>no</b>.")


def test_no_connection(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.route("**/api/**", lambda route: route.abort())
    ask(page, "word")
    expect(page.get_by_role("alert")).to_contain_text("No connection to the service.")


def test_a_page_opened_too_early_becomes_ready_by_itself(open_page: OpenPage, url: str) -> None:
    page = open_page("about:blank")
    page.route("**/ready", lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}, json={}), times=1)
    page.goto(f"{url}?word=rhythm")
    expect(page.get_by_role("alert")).to_have_text("The model is busy or still starting. Try again in 1 second.")
    answered(page, "rhythm")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_text_from_the_service_is_never_markup(open_page: OpenPage, url: str, stand_in: Any) -> None:
    page = open_page(url)
    ask(page, "hostile")
    answered(page, "hostile")
    expect(page.locator("#tokens li").first).to_have_text(stand_in.HOSTILE)
    expect(page.locator("#results img")).to_have_count(0)
    expect(page).to_have_title("letterwise playground")


def test_one_task_one_model_and_small_batches(open_page: OpenPage, serve: Serve) -> None:
    page = open_page(serve(models=("finetuned",), tasks=("position_count",), max_batch_size=3))
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status) if "/batch" in response.url else None)
    ask(page, "strawberry")
    answered(page, "strawberry")
    assert statuses == [200] * (3 + 4)  # 8 different letters and 10 positions, by threes
    expect(page.locator(".model-name")).to_have_text(["The model’s answers"])
    expect(tiles(page, "positions").locator(".value")).to_have_text([*"strawbery", "none–"])
    expect(tiles(page, "counts")).to_have_count(8)
    expect(page.get_by_text("Its spelling")).to_be_hidden()
    expect(page.get_by_text("Spell check")).to_be_hidden()

    page = open_page(serve(tasks=("spelling",)))
    ask(page, "strawberry")
    answered(page, "strawberry")
    expect(page.get_by_label("Answer mode")).to_be_hidden()
    expect(page.get_by_text("Which letter is at each position?")).to_have_count(2)
    assert not page.get_by_text("Which letter is at each position?").first.is_visible()
