"""A short soak of a tiny model; `make soak` runs ten minutes of the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

ROOT = Path(__file__).parents[2]


def test_nothing_is_lost_or_wrong_under_mixed_load_with_faults(tiny_llama: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    options = ["--model", tiny_llama, "--minutes", "0.3", "--clients", "8", "--output", output]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "serve_soak.py", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["problems"] == []
    assert report["lost"] == 0
    assert report["in_flight_at_sigterm"] > 0
    assert report["reloads"] >= 5
    assert len(report["memory_mib"]) == 2
    statuses = report["statuses"]
    for route in ("letter_count", "letter_position"):
        for mode in ("direct", "spell_first", "computed"):
            assert statuses[f"/api/position_count/{route} {mode}"]["200"] > 0
    for route in ("/api/spelling/predict", "/api/spelling/check", "/health", "/metrics"):
        assert statuses[route]["200"] > 0
    assert statuses["wrong key"]["401"] > 0
    assert statuses["oversized"]["413"] > 0
