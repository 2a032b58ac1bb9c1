"""How the benchmarks of speed go on after an interruption, choose a batch size, and take turns."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SUPPORT = Path(__file__).parents[2] / "benchmarks" / "support"
VARIANT = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from turns import Turns
turns = Turns()
print("a library says something")
turns.answer(ready=True)
while order := turns.order():
    while order.get("hang"):
        pass
    turns.answer(doubled=2 * order["number"])
"""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SUPPORT)
    return importlib.import_module("parts")


def test_an_interrupted_measurement_goes_on_with_the_next_part(parts: ModuleType, tmp_path: Path) -> None:
    asked: list[str] = []

    def measured(name: str, found: Any) -> Callable[[], Any]:
        def measure() -> Any:
            asked.append(name)
            if isinstance(found, BaseException):
                raise found
            return found

        return measure

    first = parts.Parts("speed", {"cpu": "A"}, tmp_path)
    assert first.part("one", measured("one", {"seconds": 1.5})) == {"seconds": 1.5}
    with pytest.raises(KeyboardInterrupt):
        first.part("two", measured("two", KeyboardInterrupt()))

    again = parts.Parts("speed", {"cpu": "A"}, tmp_path)
    assert again.part("one", measured("one", None)) == {"seconds": 1.5}
    assert again.part("two", measured("two", [2])) == [2]
    assert asked == ["one", "two", "two"], "what was measured is not measured again"

    elsewhere = parts.Parts("speed", {"cpu": "B"}, tmp_path)
    assert elsewhere.part("one", measured("one", 3)) == 3, "another machine"

    again.finish()
    assert parts.Parts("speed", {"cpu": "A"}, tmp_path).part("one", measured("one", 4)) == 4


@pytest.mark.parametrize(
    ("speeds", "best", "asked"),
    [
        ({16: 5, 32: 4, 8: 4}, 16, [32, 16, 8]),
        ({16: 5, 32: 6, 64: 7, 128: 7}, 64, [32, 16, 64, 128]),
        ({16: 5, 32: 4, 8: 6, 4: 7, 2: 6}, 4, [32, 16, 8, 4, 2]),
        ({16: 1, 32: 0, 8: 2, 4: 3, 2: 4, 1: 5}, 1, [32, 16, 8, 4, 2, 1]),
        ({16: 1, 32: 2, 64: 3, 128: 4}, 128, [32, 16, 64, 128]),
    ],
)
def test_the_batch_size_is_doubled_or_halved_while_that_is_faster(
    parts: ModuleType, speeds: dict[int, int], best: int, asked: list[int]
) -> None:
    seen: list[int] = []

    def speed(size: int) -> int:
        seen.append(size)
        return speeds[size]

    assert parts.best_size(speed, 16, 128) == best
    assert seen == asked


@pytest.mark.slow
def test_a_variant_answers_until_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SUPPORT)
    turns = importlib.import_module("turns")
    script = tmp_path / "variant.py"
    script.write_text(VARIANT, encoding="utf-8")
    variant = turns.Variant(script, {"stack": "any"})
    assert variant.ready()["ready"]
    answer = variant.ask(number=21)
    assert answer["doubled"] == 42
    assert answer["peak_rss_mib"] > 10
    with pytest.raises(turns.VariantError, match=r"had no answer within 1 s"):
        variant.ask(limit=1.0, hang=True)
    assert variant.process.wait(timeout=60) != 0
    broken = turns.Variant(tmp_path / "missing.py", {"stack": "any"})
    with pytest.raises(turns.VariantError, match=r"ended with code 2"):
        broken.ready()
