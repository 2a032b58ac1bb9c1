"""The house rules: who may import whom, how long a file may be, and what must agree with what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import letterwise

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "letterwise"

FLOORS = (
    {"letterwise"},  # the package itself: its version
    {"errors"},
    {"data_config", "files", "licences"},
    {"config", "results", "hardware", "processes", "packaged_models"},
    {"words", "tasks", "publication", "sweep_results", "probe_results", "analysis_results", "evaluation_log"},
    {"sweep_config"},
    {"data", "models", "reporting"},
    {"adapters", "sharding"},
    {"engines"},
    {"evaluation", "exporting", "publishing"},
    {"api", "training"},
    {"run_environment", "doctor", "client"},
    {"run_folder"},
    {"evaluation_steps"},
    {"pipeline", "probe_steps"},
    {"sweep_steps"},
    {"sweep_commands"},
    {"report_commands"},
    {"export_commands", "probe_commands"},
    {"publish_cli"},
    {"cli"},
    {"__main__"},
)
"""The rooms of the package, from the ground up: a room imports only from rooms on floors below its own."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively; write the full name."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def import_graph(package: Path) -> dict[str, set[str]]:
    """The modules of a package, and which of its own modules each of them imports."""
    paths = {module_name(path, package): path for path in package.rglob("*.py")}

    def modules(names: Iterable[str]) -> set[str]:
        """`a.b.name` is the module of that name or something in the module `a.b`."""
        return {name if name in paths else name.rpartition(".")[0] for name in names} & paths.keys()

    return {module: modules(imported_names(path)) for module, path in paths.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def wrong_imports(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {imported}"
        for module, imports in sorted(graph.items())
        for imported in sorted(imports)
        if room(module) != room(imported) and FLOOR_OF[room(module)] <= FLOOR_OF[room(imported)]
    ]


def write_package(folder: Path, modules: dict[str, str]) -> Path:
    package = folder / "letterwise"
    for name, text in {"__init__.py": "", **modules}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in import_graph(SOURCE)} <= FLOOR_OF.keys()


def test_a_room_imports_only_from_floors_below() -> None:
    assert wrong_imports(import_graph(SOURCE)) == []


def test_imports_make_no_cycle() -> None:
    TopologicalSorter(import_graph(SOURCE)).prepare()


@pytest.mark.parametrize(
    "statement",
    [
        "from letterwise.data import packing",  # upward
        "import letterwise.data.packing",
        "from letterwise.tasks import spelling",  # sideways
        "def late():\n    from letterwise.tasks.spelling import spell",
    ],
)
def test_the_import_rule_sees_what_is_wrong(tmp_path: Path, statement: str) -> None:
    package = write_package(
        tmp_path,
        {"words/splits.py": statement, "tasks/spelling.py": "from letterwise.errors import LetterwiseError"}
        | {"data/packing.py": "from letterwise.words.splits import split", "errors.py": ""},
    )
    (wrong,) = wrong_imports(import_graph(package))
    assert wrong.startswith("letterwise.words.splits imports letterwise.")


def test_a_cycle_within_a_room_is_seen(tmp_path: Path) -> None:
    package = write_package(
        tmp_path,
        {"words/a.py": "from letterwise.words import b", "words/b.py": "from letterwise.words.a import name"},
    )
    assert wrong_imports(import_graph(package)) == []
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(package)).prepare()


def test_source_files_are_short_and_say_what_they_do() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 350, f"{path} is too long to read in one sitting"
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_path_of_one_machine_is_tracked() -> None:
    machine_path = re.compile(rb"(?<![\w.])/(?:work|root|Users|farm)/")
    texts = ((path, path.read_bytes()) for path in tracked_files())
    assert [str(path) for path, text in texts if b"\0" not in text and machine_path.search(text)] == []


def pyproject() -> dict[str, object]:
    project: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def declared(group: str | None = None) -> dict[str, Requirement]:
    """Requirements of pyproject.toml by normalized name: those to run, or those of an extra."""
    project = pyproject()
    lines = project["optional-dependencies"][group] if group else project["dependencies"]  # type: ignore[index]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}  # type: ignore[arg-type]


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(package): version for package, version in pairs}


OPTIONAL = ("gpu", "unsloth", "vllm")
"""Extras that the package itself imports where they are installed."""


@pytest.mark.parametrize(("group", "pins"), [(None, "requirements.txt"), ("dev", "requirements-dev.txt")])
def test_each_dependency_is_pinned_within_its_range(group: str | None, pins: str) -> None:
    versions = pinned(pins)
    for name, requirement in declared(group).items():
        assert name in versions, f"{name} is not in {pins}: run `make lock`"
        assert requirement.specifier.contains(versions[name]), f"{pins} has {name} {versions[name]}: run `make lock`"


def test_each_dependency_is_explained() -> None:
    table = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(.+?)` \| .{10,} \|$", table, re.MULTILINE)
    groups = (None, *OPTIONAL, "dev")
    assert explained == [name for group in groups for name in declared(group)]


def test_each_imported_package_is_declared() -> None:
    """A package that only comes along with another may leave with it."""
    distributions = packages_distributions()
    imported = {name.partition(".")[0] for path in SOURCE.rglob("*.py") for name in imported_names(path)}
    foreign = imported - sys.stdlib_module_names - {"letterwise"}
    known = {name for group in (None, *OPTIONAL) for name in declared(group)}
    undeclared = {
        name for name in foreign if not {canonicalize_name(each) for each in distributions.get(name, [name])} & known
    }
    assert undeclared == set()


def test_one_version_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest, released = re.findall(r"^## \[(\d.*?)\] - (\S+)$", changelog, re.MULTILINE)[0]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert pyproject()["version"] == letterwise.__version__ == citation["version"] == latest
    assert str(citation["date-released"]) == released
