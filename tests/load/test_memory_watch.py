"""What a soak makes of the memory it has seen."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
MIB = 2**20


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("support.memory")


def test_a_sample_is_settled_unless_a_model_is_being_loaded(memory: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    ready = '{"message": "Ready with a model after 1.0 s."}\n'
    log.write_text(ready)  # of the start
    watch = memory.MemoryWatch(log, os.getpid())

    def settled() -> bool:
        watch.sample()
        return bool(watch.samples[-1].settled)

    def write(text: str) -> None:
        with log.open("a") as stream:
            stream.write(text)

    assert settled()
    watch.reload()
    watch.reload()
    watch.reload()  # while one is being loaded, many wishes are one more model
    assert not settled()
    write(ready)
    assert not settled()
    assert not settled()
    write(ready[:20])
    assert not settled()
    write(ready[20:])
    assert not settled()  # loaded only while this sample was taken
    assert settled()
    assert watch.samples[0].size > MIB


@pytest.mark.parametrize(("growth", "flat"), [(0.25, True), (1.5, False)])
def test_only_settled_memory_must_be_flat(memory: ModuleType, growth: float, flat: bool) -> None:
    samples = []
    for second in range(240):
        loading = second % 60 < 30
        size = 1000 + growth * second + 2000 * loading
        samples.append(memory.Sample(float(second), round(size * MIB), not loading))
    report = memory.memory_report(samples)
    assert report["flat"] is flat
    assert [second for second, _ in report["settled_series"][:3]] == [30, 45, 90]
    assert report["settled_series"][0][1] == pytest.approx(1000 + growth * 37, abs=1)
    assert report["slope_per_minute"] == pytest.approx(60 * growth, abs=0.01)
    assert report["max"] > 3000
    assert (report["samples"], report["settled_samples"]) == (240, 120)


def test_a_short_life_tells_nothing(memory: ModuleType) -> None:
    report = memory.memory_report([memory.Sample(float(second), MIB, True) for second in range(100)])
    assert "flat" not in report
    assert report["max"] == 1.0
