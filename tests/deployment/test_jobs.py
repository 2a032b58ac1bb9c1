"""A run on several machines: the SLURM script is really run, with a scheduler of one machine; the Job is checked."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.version import Version
from programs import DEPLOYMENT, ROOT, kustomize, run

import letterwise
from letterwise.cli import app
from letterwise.config import load_config

pytestmark = pytest.mark.slow

SCRIPT = DEPLOYMENT / "slurm" / "run.sbatch"
GUIDE = ROOT / "docs" / "scaling.md"
VERSIONS = sorted({Version(name) for name in kubernetes_validate.utils.all_versions()})[-3:]
MODULES = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}


@cache
def manifests() -> dict[str, dict[str, Any]]:
    said = run(kustomize(), "kustomize", DEPLOYMENT / "k8s" / "jobs")
    return {each["kind"]: each for each in yaml.safe_load_all(said)}


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifests()["Job"]["spec"]["template"]
    return found


def container() -> dict[str, Any]:
    (only,) = pod()["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@cache
def options_of(*command: str) -> set[str]:
    """What the launcher's own `--help` names."""
    program_name, *rest = command
    help_ = [sys.executable, "-m", MODULES[program_name], *rest, "--help"]
    said = subprocess.run(help_, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    return set(re.findall(r"--[\w-]+", said.stdout))


def check_command(words: list[str]) -> None:
    """Options of the launcher, then ours."""
    launcher = words[:2] if words[0] == "accelerate" else words[:1]
    place = words.index("letterwise")
    given = {word.partition("=")[0] for word in words[:place] if word.startswith("--")}
    assert given <= options_of(*launcher), f"{launcher} has no {given - options_of(*launcher)}"
    command = next(
        each for each in app.registered_commands if each.callback and each.callback.__name__ == words[place + 1]
    )
    assert command
    for word, value in zip(words[place:], [*words[place + 1 :], ""], strict=True):
        if word == "--config" and value.startswith("configs/"):
            load_config(ROOT / value)


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_kubernetes_takes_the_job_to_the_letter(version: Version) -> None:
    assert manifests().keys() == {"Job", "Service", "PersistentVolumeClaim", "NetworkPolicy"}
    for manifest in manifests().values():
        assert manifest["metadata"]["namespace"] == "letterwise"
        kubernetes_validate.validate(manifest, str(version), strict=True)


def test_the_pods_find_each_other() -> None:
    job, service = manifests()["Job"]["spec"], manifests()["Service"]
    arguments = dict(word.split("=") for word in container()["command"] if word.startswith("--") and "=" in word)
    assert job["completionMode"] == "Indexed"
    assert int(arguments["--nnodes"]) == job["completions"] == job["parallelism"] > 1
    assert pod()["spec"]["subdomain"] == service["metadata"]["name"]
    first = f"{manifests()['Job']['metadata']['name']}-0.{service['metadata']['name']}"
    assert arguments["--master-addr"] == first
    (port,) = container()["ports"]
    assert int(arguments["--master-port"]) == port["containerPort"] == service["spec"]["ports"][0]["port"]
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= pod()["metadata"]["labels"].items()
    policy = manifests()["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod()["metadata"]["labels"].items()
    assert {"podSelector": policy["podSelector"]} in policy["ingress"][0]["from"]


def test_the_job_runs_a_command_that_there_is() -> None:
    check_command(container()["command"])


def test_the_job_keeps_to_the_restricted_standard() -> None:
    assert pod()["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod()["spec"]["automountServiceAccountToken"] is False
    context = container()["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert container()["image"].endswith(f":{letterwise.__version__}-gpu")
    assert manifests()["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
TORCHRUN = """#!/usr/bin/env bash
exec {python} -m torch.distributed.run "$@"
"""


def test_the_slurm_script_runs(tmp_path: Path, tiny_llama: Path) -> None:
    """`srun` starts one task, `scontrol` knows one machine; a mistake in the experiment shows that all arrives."""
    programs = {"srun": SRUN, "scontrol": "#!/usr/bin/env bash\necho localhost\n"}
    programs["torchrun"] = TORCHRUN.format(python=sys.executable)
    for name, text in programs.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "experiment.yaml").write_text("run_name: many\nmachines: 2\n", encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_ID": "17",
    }
    command = ["bash", str(SCRIPT), str(tmp_path / "experiment.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "unknown key 'machines'" in done.stderr
    assert done.returncode == 1
    unnamed = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert "say which experiment to run" in unnamed.stderr


def test_every_launch_in_the_guide_is_a_command_that_there_is() -> None:
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    launches = [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith(tuple(MODULES))]
    assert {words[0] for words in launches} == MODULES.keys()
    for words in launches:
        check_command(words)
    for path in re.findall(r"(?<![\w/.])deployment/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path
