"""Variants of a benchmark as processes that take turns: loaded once, blocked while another one measures.

Two processes that compute at the same time on the same cores slow each other many times over, and a variant measured
in a process of its own has a peak memory of its own. The parent sends an order, one JSON object a line; the variant
works on it and answers in the same form, behind a mark that tells answers from what libraries print.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

MARK = "\x1e"
SETTLING_SECONDS = 0.5
"""Between two turns: threads that wait for work spin a little before they sleep."""
REGIONAL = {"ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "true"}
"""For a peer: torch.compile compiles the repeated layer once, as letterwise does, and not the whole model."""


def fresh_caches(folder: Path) -> dict[str, str]:
    """Variables of a letterwise that has compiled nothing yet, and keeps in the folder what it compiles.

    PyTorch's own cache lies in the system's folder for temporary files, where any other training leaves its code too.
    """
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    return {"LETTERWISE_CACHE": str(folder / "cache"), "TORCHINDUCTOR_CACHE_DIR": "", "TMPDIR": str(temporary)}


class VariantError(RuntimeError):
    """A variant ended or took too long."""


class Variant:
    """The parent's side: a variant that runs elsewhere."""

    def __init__(self, script: Path, spec: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Start it; wait with `ready` until it is loaded, before anything is measured.

        Args:
            script: is run with the option ``--variant``.
            spec: what to be, as JSON.
            environment: variables beside those of this process; empty ones are unset.
        """
        self.spec = dict(spec)
        variables = {**os.environ, "TOKENIZERS_PARALLELISM": "false", **(environment or {})}
        self.process = subprocess.Popen(
            [sys.executable, str(script), "--variant", json.dumps(self.spec)],
            env={name: value for name, value in variables.items() if value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(MARK):
                self._answers.put(line[len(MARK) :])
        self._answers.put(None)

    def ready(self, limit: float | None = None) -> dict[str, Any]:
        """Wait until it is loaded; what it says of that.

        Raises:
            VariantError: it ended, or `limit` seconds passed; it is stopped then.
        """
        try:
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            self.process.kill()
            raise VariantError(f"{self.spec['stack']} had no answer within {limit:,.0f} s") from None
        if answer is None:
            raise VariantError(f"{self.spec['stack']} ended with code {self.process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def ask(self, limit: float | None = None, **order: Any) -> dict[str, Any]:
        """Give it an order, and wait for what it measured."""
        time.sleep(SETTLING_SECONDS)
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.ready(limit)

    def stop(self) -> None:
        """Let it end."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Turns:
    """The variant's side."""

    def answer(self, **figures: Any) -> None:
        """Tell the parent, with the most memory that this process has had."""
        memory = {"peak_rss_mib": round(peak_mib(), 1), "peak_gpu_gib": peak_gpu_gib()}
        print(f"\n{MARK}{json.dumps({**figures, **memory})}", flush=True)

    def order(self) -> dict[str, Any] | None:
        """Wait for the next order, doing nothing; None at the end."""
        line = sys.stdin.readline()
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found


def peak_mib() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def peak_gpu_gib() -> float | None:
    """Most memory of the GPU that this process has had; None without one."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 3) if torch.cuda.is_available() else None
