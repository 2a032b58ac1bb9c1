"""What this machine can do: processor, memory, accelerator, and the device and number type that suit it.

Knows nothing about models.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil
import torch

from letterwise.errors import LetterwiseError

FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "amx_tile", "bf16")
"""Processor features with which a bfloat16 product is faster than a float32 one."""

_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""
_LOADING_THRESHOLD, _WORKING_THRESHOLD = 2**20, 32 * 2**20


def cpu_name() -> str:
    """The processor's marketing name, or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_features() -> list[str]:
    """Vector and matrix instruction sets that PyTorch sees, sorted."""
    capabilities = torch.cpu.get_capabilities()
    return sorted(name for name, present in capabilities.items() if present is True)


def memory_gib() -> float:
    """Memory of the machine in GiB."""
    return round(psutil.virtual_memory().total / 2**30, 1)


def gpu_name() -> str | None:
    """The first CUDA device's name, if there is one."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """Where and in which number type something runs, for people."""
    name = gpu_name() if device.type == "cuda" else cpu_name() if device.type == "cpu" else None
    return f"{device.type}{f' ({name})' if name else ''} in {str(dtype).removeprefix('torch.')}"


def give_memory_back() -> None:
    """Return freed memory to the operating system, where the C library can be asked to (glibc's ``malloc_trim``)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Let each larger block of memory be a mapping of its own while the context is open, for the whole process.

    Such a block goes back to the operating system when it is freed. Between blocks that stay, as glibc would place it
    once it has seen large blocks freed (its threshold is dynamic), it leaves a hole. Made for loading a model: a
    service that replaces its model again and again grew by 300 MiB of such holes. Afterwards the threshold is the
    highest that glibc takes by itself, so that what is computed does not wait for the operating system. Does nothing
    with other C libraries.
    """
    _set_mapping_threshold(_LOADING_THRESHOLD)
    try:
        yield
    finally:
        _set_mapping_threshold(_WORKING_THRESHOLD)


def _set_mapping_threshold(size: int) -> None:
    """`size`: in bytes."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size)


def is_installed(package: str) -> bool:
    """Whether an optional package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def require_gpu_package(setting: str, package: str, extra: str) -> None:
    """Make sure that there is what a setting needs: an NVIDIA GPU, and an optional package.

    Raises:
        LetterwiseError: one of them is lacking.
    """
    if not torch.cuda.is_available():
        raise LetterwiseError(f"{setting} needs an NVIDIA GPU, and PyTorch finds none here; unset it.")
    if not is_installed(package):
        raise LetterwiseError(f"{setting} needs {package}: pip install 'letterwise[{extra}]', or unset it.")


def cpp_compiler() -> str | None:
    """The C++ compiler that torch.compile would use, if there is one."""
    return next((name for name in ("g++", "clang++") if shutil.which(name)), None)


def choose_device() -> torch.device:
    """The best device at hand: CUDA, then Apple's MPS, then the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(device: torch.device, wanted: Literal["auto", "bfloat16", "float32"] = "auto") -> torch.dtype:
    """The number type to compute in; 'auto' takes bfloat16 where the device multiplies it natively."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    fast = device.type == "cpu" and any(feature in FAST_BFLOAT16 for feature in cpu_features())
    return torch.bfloat16 if fast else torch.float32
