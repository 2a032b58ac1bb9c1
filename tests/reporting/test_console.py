"""A person at a terminal sees a bar; a log file gets few and whole lines."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from letterwise.reporting import console as console_module
from letterwise.reporting.console import PLAIN_LINE_SECONDS, Terminal


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(console_module, "time", clock)
    return clock


@pytest.fixture
def log() -> Terminal:
    return Terminal(Console(file=StringIO(), force_terminal=False, width=60))


def lines(terminal: Terminal) -> list[str]:
    assert isinstance(terminal.console.file, StringIO)
    return terminal.console.file.getvalue().splitlines()


def test_a_log_gets_one_line_when_all_is_done(log: Terminal, clock: Clock) -> None:
    with log.track("training", 100) as advance:
        for _ in range(100):
            advance(1, "loss 0.5")

    assert lines(log) == ["training: 100/100 loss 0.5"]


def test_a_log_gets_a_line_now_and_then(log: Terminal, clock: Clock) -> None:
    with log.track("evaluating", 4) as advance:
        for _ in range(4):
            clock.now += PLAIN_LINE_SECONDS * 0.6
            advance(1, "")

    assert lines(log) == ["evaluating: 2/4", "evaluating: 4/4"]


def test_a_log_of_interrupted_work_ends_where_it_was(log: Terminal, clock: Clock) -> None:
    def work() -> None:
        with log.track("training", 9) as advance:
            clock.now += PLAIN_LINE_SECONDS
            advance(7, "loss 0.5")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()

    assert lines(log) == ["training: 7/9 loss 0.5"]


def test_a_terminal_shows_a_bar_with_the_note() -> None:
    screen = Terminal(Console(file=StringIO(), force_terminal=True, width=120))

    with screen.track("training", 8) as advance:
        advance(2, "loss 1.234")
        advance(6, "loss 0.567")

    shown = "\n".join(lines(screen))
    assert "8/8" in shown
    assert "loss 0.567" in shown
    assert "━" in shown


def test_a_line_is_printed_as_it_is(log: Terminal) -> None:
    message = "Written to /a/rather/long/path/[of]/many/folders/that/is/wider/than/the/whole/terminal"

    log.say(message)

    assert lines(log) == [message]  # neither wrapped nor read as markup
