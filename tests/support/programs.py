"""Programs that tests run and that a machine may lack: the test is then skipped, with the reason named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "deployment"
MONITORING = DEPLOYMENT / "monitoring"


def program(name: str, package: str) -> str:
    """Path of a program; without it the test is skipped."""
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed ({package})")
    return path


def run(*command: object, exit_code: int = 0, timeout: float = 120) -> str:
    """Standard output of a command; if it does not end as expected, the failure says everything that it wrote."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == exit_code, f"{command[0]} exits with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
