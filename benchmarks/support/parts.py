"""The finished parts of a measurement, kept on disk: a benchmark that was interrupted goes on with the next part.

What is kept holds for the same code, versions, machine and options only. Knows nothing about what is measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from letterwise.files import fingerprint, read_json, sha256_file, write_json

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "benchmarks"
CODE = ("src", "benchmarks")


class Parts:
    """What of one measurement is done."""

    def __init__(self, name: str, circumstances: Mapping[str, Any], kept: Path = KEPT) -> None:
        """Find what is done.

        Args:
            name: of the benchmark.
            circumstances: options, versions and machine, as JSON; with others, everything is measured anew.
            kept: folder for this.

        Raises:
            LetterwiseError: what was kept cannot be read.
        """
        code = {str(path.relative_to(ROOT)): sha256_file(path) for top in CODE for path in (ROOT / top).rglob("*.py")}
        key = fingerprint([dict(sorted(code.items())), dict(circumstances)])[:16]
        self.folder = kept / f"{name}-{key}"
        """For what a later part needs of an earlier one."""
        self.path = self.folder / "parts.json"
        self.found: dict[str, Any] = read_json(self.path) if self.path.is_file() else {}

    def part(self, name: str, measure: Callable[[], Any]) -> Any:
        """What a part came to, measured now unless it was before."""
        if name in self.found:
            print(f"measured before: {name}", flush=True)
        else:
            self.found[name] = measure()
            write_json(self.path, self.found)
        return self.found[name]

    def finish(self) -> None:
        """Forget it all: the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def best_size(speed: Callable[[int], float], first: int, most: int) -> int:
    """The fastest batch size: doubled, or else halved, from the first one on for as long as that is faster.

    Args:
        speed: of a size; zero where it cannot be had. Asked once for each size.
        first: to begin with.
        most: larger ones are not tried.
    """
    known: dict[int, float] = {}

    def of(size: int) -> float:
        if size not in known:
            known[size] = speed(size)
        return known[size]

    best = first
    while 2 * best <= most and of(2 * best) > of(best):
        best *= 2
    while best <= first and best > 1 and of(best // 2) > of(best):
        best //= 2
    return best


def circumstances(environment: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a described environment, and of a benchmark's options, that a measurement depends on."""
    same = ("packages", "python", "platform", "cpu", "cores", "gpu", "dtype", "base_revision")
    told = {name: str(value) for name, value in options.items()}
    return {**{name: environment[name] for name in same}, "options": told}
