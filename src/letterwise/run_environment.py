"""What a run ran on and with, as recorded in ``environment.json``.

Knows nothing about what the run does.
"""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions

from letterwise import __version__, hardware
from letterwise.config import ExperimentConfig
from letterwise.models import BaseModel
from letterwise.results import Environment

RECORDED_PACKAGES = (
    *("torch", "transformers", "peft", "datasets", "tokenizers", "numpy", "scipy", "statsmodels"),
    *("bitsandbytes", "unsloth", "vllm"),
)
"""Where they are installed."""


def describe_environment(config: ExperimentConfig, base: BaseModel) -> Environment:
    """Versions, commit, hardware and seeds of this moment."""
    installed = _installed()
    device = hardware.choose_device()
    return Environment(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        letterwise=__version__,
        commit=current_commit(),
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: installed[name] for name in RECORDED_PACKAGES if name in installed},
        cpu=hardware.cpu_name(),
        cores=hardware.cpu_cores(),
        cpu_features=hardware.cpu_features(),
        memory_gib=hardware.memory_gib(),
        gpu=hardware.gpu_name(),
        device=device.type,
        dtype=str(hardware.choose_dtype(device, config.training.dtype)).removeprefix("torch."),
        seeds={"words": config.seed, "data": config.seed, "training": config.training_seed, "bootstrap": config.seed},
        base_model=base.id,
        base_revision=base.revision,
    )


@cache
def _installed() -> dict[str, str]:
    return {found.metadata["Name"].lower(): found.version for found in distributions()}


def current_commit() -> str | None:
    """Commit of the working tree, '-dirty' with uncommitted changes; None outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip() or None
