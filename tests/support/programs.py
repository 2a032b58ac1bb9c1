"""Programs that tests run and that a machine may lack: the test is then skipped, with the reason named.

Where they were promised (TEST_PROGRAMS=required, as `make` sets it where it can install them) such a skip is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "deployment"
MONITORING = DEPLOYMENT / "monitoring"


LACKING = re.compile(r"is not installed \((Debian|PyPI)")
"""In the reason of a skip: this program could be had."""


def program(name: str, package: str) -> str:
    """Path of a program, of this Python's environment before others; without it the test is skipped."""
    here = str(Path(sys.executable).parent)
    path = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", os.defpath)]))
    if not path:
        pytest.skip(f"{name} is not installed ({package})")
    return path


def kustomize() -> str:
    """Path of a kubectl that builds overlays with components; without it the test is skipped."""
    path = program("kubectl", "Debian: kubernetes-client, or kubernetes.io/docs/tasks/tools")
    said = subprocess.run(
        [path, "version", "--client", "--output", "yaml"], capture_output=True, text=True, check=False
    )
    if not re.search(r"^kustomizeVersion: v([4-9]|\d\d)", said.stdout, re.MULTILINE):
        # No failure where programs are required: Debian 12 has no newer one.
        pytest.skip(f"{path} is too old to build overlays with components; kubectl 1.24 does, as in Debian 13")
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Let a test fail that lacks a promised program."""
    report = yield
    if report.skipped and os.environ.get("TEST_PROGRAMS") == "required":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if LACKING.search(reason):
            report.outcome, report.longrepr = "failed", f"{reason}, and TEST_PROGRAMS is required"
    return report


def run(*command: object, exit_code: int = 0, timeout: float = 120) -> str:
    """Standard output of a command; if it does not end as expected, the failure says everything that it wrote."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == exit_code, f"{command[0]} exits with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
