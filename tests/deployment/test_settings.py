"""The environment files: only settings that there are, and all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs import DEPLOYMENT, ROOT
from setting_names import NAMES, STANDARD

from letterwise.api.settings import load_settings

FILES = sorted((DEPLOYMENT / "env").glob("*.env"))


def pairs(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    read = dict(line.split("=", 1) for line in lines)
    assert len(read) == len(lines), f"{path.name} says something twice"
    return read


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_every_setting_and_nothing_else(path: Path) -> None:
    assert pairs(path).keys() == {*NAMES, *STANDARD}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_service_takes_its_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in pairs(path).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.host == "0.0.0.0"
    assert settings.enable_gpu == (path.stem == "gpu")
    assert settings.api_key.get_secret_value() == ""
    assert (settings.api_keys_file is None) == (path.stem == "dev")


def test_there_are_three() -> None:
    assert [path.stem for path in FILES] == ["cpu", "dev", "gpu"]


def test_the_deployment_guide_shows_every_setting() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)[: len(NAMES)] == NAMES
    assert all(f"`{name}`" in text for name in STANDARD)
