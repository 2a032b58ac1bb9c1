"""How much processor and memory the service may use, as its container or else the machine allows.

Knows control groups (cgroup v2); knows nothing about who asks.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from letterwise import hardware

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Within a container, its own control group."""


def cpu_limit_cores() -> float:
    """Processor time that may be used in a second, in seconds."""
    # "200000 100000" are microseconds of work in each period of 100000; "max 100000" is no limit.
    quota, _, period = _read("cpu.max").partition(" ")
    cores = float(hardware.cpu_cores())
    return min(cores, int(quota) / int(period)) if quota.isdecimal() else cores


def memory_limit_bytes() -> int:
    """Memory that may be used, in bytes."""
    limit, total = _read("memory.max"), int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdecimal() else total


def _read(name: str) -> str:
    """A file of the control group; "" where there is none."""
    try:
        return (CONTROL_GROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""
