"""What the documents tell the reader to type: each option is one that the program has, and what it names is there.

Nothing of it is carried out, but for the programs' own `--help`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import DEPLOYMENT, ROOT, program, run

from letterwise.api.app import create_app
from letterwise.api.settings import ServiceSettings

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("docker", "kubectl", "curl", "openssl")
OPERATORS = {"|", ">", ">>", "&&", ";"}
OF_BUILDKIT = {"--secret"}
"""Options of `docker build` that its help leaves out where the plugin buildx is not installed."""
GLOBAL_WITH_VALUE = ("--namespace", "--file", "--profile")

Command = tuple[str, ...]


def lines(text: str) -> Iterator[str]:
    """What stands in code blocks and code spans, with continued lines joined."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def typed() -> list[Command]:
    """Every command with one of the programs, up to where its output goes; variables before it are left out."""
    found: dict[Command, None] = {}
    for document in DOCUMENTS:
        for line in lines(document.read_text(encoding="utf-8")):
            if not re.match(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(PROGRAMS)}) ", line):
                continue
            words = _words(line)
            end = next((place for place, word in enumerate(words) if word in OPERATORS), len(words))
            found[tuple(words[:end])] = None
    return list(found)


def _words(line: str) -> list[str]:
    reader = shlex.shlex(line, posix=True, punctuation_chars="|>;&")
    reader.whitespace_split = True
    words = list(reader)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    return words


COMMANDS = typed()


def of(*beginning: str) -> list[Command]:
    return [command for command in COMMANDS if command[: len(beginning)] == beginning]


def values(command: Command, option: str) -> list[str]:
    """What is given for an option, as `--option value` or `--option=value`."""
    given = [command[place + 1] for place, word in enumerate(command[:-1]) if word == option]
    return given + [word.partition("=")[2] for word in command if word.startswith(f"{option}=")]


def arguments(command: Command) -> list[str]:
    """Neither options nor, of those that stand before a subcommand, their values; the program's name is left out."""
    skip = {place + 1 for place, word in enumerate(command) if word in GLOBAL_WITH_VALUE}
    return [word for place, word in enumerate(command) if place and place not in skip and not word.startswith("-")]


def test_there_is_something_to_check() -> None:
    assert {command[0] for command in COMMANDS} == set(PROGRAMS)
    assert len(of("docker", "compose")) >= 3
    assert len(of("kubectl")) >= 8


@cache
def help_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert len(said.splitlines()) > 5, f"{shlex.join(command)} says: {said}"
    return said


def compose(*rest: str) -> Sequence[str]:
    """Docker's plugin, or the program that was there before it."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose", *rest]
    return [program("docker-compose", "Debian: docker-compose"), *rest]


def known_options(command: Command) -> set[str]:
    name, *_ = command
    if command[:2] == ("docker", "compose"):
        subcommand = arguments(command)[1]
        said = help_of(*compose("--help")) + help_of(*compose(subcommand, "--help"))
    elif name == "docker":
        path = shutil.which("docker")
        if not path:
            pytest.skip("docker is not installed")
        said = help_of(path, command[1], "--help")
        if command[1] == "build" and "legacy builder" in said:
            said += " ".join(OF_BUILDKIT)
    elif name == "kubectl":
        kubectl = program("kubectl", "Debian: kubernetes-client")
        said = help_of(kubectl, *arguments(command), "--help") + help_of(kubectl, "options")
    elif name == "curl":
        said = help_of(program("curl", "Debian: curl"), "--help", "all")
    else:
        said = help_of(program("openssl", "Debian: openssl"), command[1], "-help")
    return set(re.findall(r"(?<![\w-])--?\w[\w-]*", said))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=shlex.join)
def test_every_option_is_one_of_the_program(command: Command) -> None:
    given = {word.partition("=")[0] for word in command[1:] if re.match(r"--?[a-z]", word)}
    assert given <= known_options(command)


@pytest.mark.slow
def test_an_option_that_does_not_exist_would_be_found() -> None:
    for command in (
        of("docker", "run")[0],
        of("docker", "compose")[0],
        of("kubectl")[0],
        of("curl")[0],
        of("openssl")[0],
    ):
        assert not {"--no-such-option", "-no-such-option"} & known_options(command)


def test_docker_builds_what_compose_starts() -> None:
    services = yaml.safe_load((DEPLOYMENT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    gpu = yaml.safe_load((DEPLOYMENT / "docker-compose.gpu.yml").read_text(encoding="utf-8"))["services"]
    images = {services["letterwise"]["image"], gpu["letterwise"]["image"]}
    stages = set(re.findall(r"^FROM .+ AS (\w+)$", (DEPLOYMENT / "Dockerfile").read_text(encoding="utf-8"), re.M))
    built = {tag for command in of("docker", "build") for tag in values(command, "--tag")}
    assert built == images
    assert {target for command in of("docker", "build") for target in values(command, "--target")} <= stages
    assert {command[-1] for command in of("docker", "run")} <= images
    for command in of("docker"):
        assert all((ROOT / path).is_file() for path in values(command, "--file")), command


def test_compose_is_asked_for_services_and_profiles_that_there_are() -> None:
    services = yaml.safe_load((DEPLOYMENT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    for command in of("docker", "compose"):
        assert set(arguments(command)[2:]) <= services.keys(), command
        assert set(values(command, "--profile")) <= profiles, command


def manifests() -> list[dict[str, Any]]:
    paths = sorted((DEPLOYMENT / "k8s").rglob("*.yaml"))
    return [each for path in paths for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def test_kubectl_is_asked_for_objects_that_there_are() -> None:
    objects = {(each["kind"].lower(), each["metadata"]["name"]) for each in manifests() if "metadata" in each}
    namespaces = {name for kind, name in objects if kind == "namespace"}
    texts = "".join(path.read_text(encoding="utf-8") for path in (DEPLOYMENT / "k8s").rglob("*.yaml"))
    for command in of("kubectl"):
        asked = arguments(command)
        assert set(values(command, "--namespace")) <= namespaces, command
        assert all((ROOT / path / "kustomization.yaml").is_file() for path in values(command, "--kustomize")), command
        named = [tuple(word.split("/")) for word in asked if re.fullmatch(r"(deployment|job)/[a-z-]+", word)]
        if asked[0] != "cp":
            assert set(named) <= objects, command
        if asked[0] == "create" and asked[1] != "namespace":  # what the reader makes is what the manifests want
            kind, name = ("secretName", asked[3]) if asked[1] == "secret" else ("configMap", asked[2])
            assert re.search(rf"{kind}:\s*(?:{{\s*)?(?:name: )?{name}\b", texts), command
        if asked[:2] == ["create", "namespace"]:
            assert asked[2] in namespaces


def test_curl_asks_for_routes_that_there_are_and_sends_what_they_take() -> None:
    settings = ServiceSettings(**{name: field.default for name, field in ServiceSettings.model_fields.items()})
    routes = create_app(settings).openapi()["paths"]
    for command in of("curl"):
        (address,) = (word for word in command[1:] if re.match(r"(https?://)?localhost", word))
        path = "/" + address.removeprefix("http://").partition("/")[2]
        bodies = [json.loads(body) for body in values(command, "--json")]
        assert path in routes, command
        assert ("post" if bodies else "get") in routes[path], command
        assert all({"word", "letter"} <= body.keys() for body in bodies), command


@pytest.mark.slow
def test_the_keys_are_made_as_the_service_reads_them(tmp_path: Path) -> None:
    (command, *_) = of("openssl")
    program("openssl", "Debian: openssl")
    key = run(*command).strip()
    assert re.fullmatch(r"[0-9a-f]{64}", key)
