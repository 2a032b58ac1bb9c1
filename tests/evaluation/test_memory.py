"""A million words need no more memory than a thousand: measured in processes of their own, with a scripted engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "evaluation_memory.py"


@pytest.mark.slow
def test_memory_hardly_grows_with_the_number_of_words(tiny_llama: Path) -> None:
    """Kept as Python objects, the letter probabilities of the 13,500 more spellings alone would take 200 MiB."""

    def measured(words: int) -> dict[str, float]:
        command = [sys.executable, str(BENCHMARK), "--base-model", str(tiny_llama), "--evaluate", str(words)]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    few, many = measured(750), measured(7_500)
    assert many["rows"] == 10 * few["rows"] == 60_000
    assert many["asking_peak_mib"] - few["asking_peak_mib"] < 40
    assert many["peak_mib"] - few["peak_mib"] < 60
