"""What the user sees while work goes on: lines and progress bars.

Knows a terminal from a log file; knows nothing about the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 30.0
"""Where there is no terminal, at most one progress line in this time."""

Advance = Callable[[int, str], None]
"""Called with the number of items just finished and a short note."""


class Terminal:
    """Prints lines, and shows progress as a bar in a terminal or as an occasional line in a log."""

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=quiet)

    def say(self, message: str) -> None:
        """Print one line."""
        self.console.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        """Show how far `total` items are done while the block runs."""
        if self.console.is_terminal:
            columns = (
                *(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[note]}"),
                ),
                *(TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()),
            )
            with Progress(*columns, console=self.console) as progress:
                task = progress.add_task(what, total=total, note="")
                yield lambda finished, note: progress.update(task, advance=finished, note=note)
        else:
            yield self._plain(what, total)

    def _plain(self, what: str, total: int) -> Advance:
        done, spoken = 0, time.monotonic()

        def advance(finished: int, note: str) -> None:
            nonlocal done, spoken
            done += finished
            if done >= total > done - finished or time.monotonic() - spoken >= PLAIN_LINE_SECONDS:
                spoken = time.monotonic()
                self.say(f"{what}: {done}/{total} {note}".rstrip())

        return advance
