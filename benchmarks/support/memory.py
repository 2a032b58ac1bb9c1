"""How the memory of a service goes over its life, and which of it is that of replacing the model.

Knows a process, its log and when it was told to load a model; knows nothing about what is asked of it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

MEASURED_SECONDS = 120
"""A life shorter than this tells nothing."""
MEASURED_SAMPLES = 20
"""Settled samples that each of the compared quarters must have."""
WINDOW_SECONDS = 15
FLAT_SHARE, FLAT_BYTES = 0.05, 20 * 2**20
_LOADED = b'"message": "Ready with '


@dataclass(frozen=True, slots=True)
class Sample:
    """The resident set size at one moment."""

    seconds: float
    """Since the service was ready."""
    size: int
    """In bytes."""
    settled: bool
    """Whether no other model was being loaded."""


@dataclass
class MemoryWatch:
    """Samples one life of a service."""

    log: Path
    """Where the service tells that it has loaded a model."""
    pid: int
    samples: list[Sample] = field(default_factory=list)
    _loads: int = 0
    _read: int = 0
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._read = self.log.stat().st_size

    def reload(self) -> None:
        """Note that the service was just told to load a model anew; while it is loading one, it loads one more."""
        self._loads = min(2, self._loads + 1)

    def sample(self) -> None:
        """Take a sample, if the process is there."""
        settled = not self._loads  # what was freed a moment ago may still be in use
        with self.log.open("rb") as stream:
            stream.seek(self._read)
            lines = stream.read()
        whole = lines.rfind(b"\n") + 1
        self._read += whole
        self._loads = max(0, self._loads - lines[:whole].count(_LOADED))
        try:
            size = psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return
        self.samples.append(Sample(time.monotonic() - self._began, size, settled))


def memory_report(life: Sequence[Sample]) -> dict[str, Any]:
    """How the resident set of one life went, in MiB.

    The quarters and the slope are of the settled samples, and so is the series: the second at which each window of
    `WINDOW_SECONDS` begins, and the median in it. The most is of all samples. `flat` is there for lives that are long
    enough to tell.
    """
    settled = [sample for sample in life if sample.settled]
    ends = life[-1].seconds
    report: dict[str, Any] = {
        "seconds": round(ends, 1),
        "max": round(max(sample.size for sample in life) / 2**20, 1),
        "samples": len(life),
        "settled_samples": len(settled),
        "settled_series": [
            [round(part[0].seconds), round(statistics.median(sample.size for sample in part) / 2**20)]
            for part in _windows(settled)
        ],
    }
    second = [sample.size for sample in settled if ends / 4 <= sample.seconds < ends / 2]
    last = [sample.size for sample in settled if sample.seconds >= ends * 3 / 4]
    if ends >= MEASURED_SECONDS and min(len(second), len(last)) >= MEASURED_SAMPLES:
        before, after = statistics.median(second), statistics.median(last)
        later = [sample for sample in settled if sample.seconds >= ends / 4]
        minutes, sizes = [sample.seconds / 60 for sample in later], [sample.size / 2**20 for sample in later]
        report |= {
            "second_quarter": round(before / 2**20, 1),
            "last_quarter": round(after / 2**20, 1),
            "slope_per_minute": round(statistics.linear_regression(minutes, sizes).slope, 2),
            "flat": after - before <= max(FLAT_SHARE * before, FLAT_BYTES),
        }
    return report


def _windows(samples: Sequence[Sample]) -> list[list[Sample]]:
    return [list(window) for _, window in groupby(samples, lambda sample: sample.seconds // WINDOW_SECONDS)]
