"""What deployment/generate.py writes is what lies in the repository."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from programs import DEPLOYMENT, MONITORING, ROOT

NOTEBOOK = ROOT / "notebooks" / "transfer_learning_analysis.ipynb"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))


def generated() -> dict[Path, str]:
    spec = importlib.util.spec_from_file_location("generate", DEPLOYMENT / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
        files: dict[Path, str] = module.files()
    finally:
        sys.path[:] = before
    return files


def test_generated_files_are_in_step_with_their_sources() -> None:
    files = generated()
    assert {path for path in files if path.suffix == ".json"} == set(DASHBOARDS)
    stale = [path.name for path, text in files.items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make deployment` and commit the result"


def test_the_operator_gets_every_rule() -> None:
    rule = yaml.safe_load((DEPLOYMENT / "k8s/components/operator/prometheusrule.yaml").read_text(encoding="utf-8"))
    groups = {group["name"]: group for group in rule["spec"]["groups"]}
    paths = [MONITORING / "prometheus" / "recording_rules.yml", *(MONITORING / "alerts").glob("*.yml")]
    written = [group for path in paths for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    assert groups == {group["name"]: group for group in written}


def load(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_explains_itself_and_leads_to_the_others(path: Path) -> None:
    dashboard = load(path)
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"datasource", "instance"} <= variables
    assert dashboard["links"][0]["tags"] == dashboard["tags"] == ["letterwise"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], "a panel has no title"
        assert len(panel["description"]) > 15
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"][0]["color"] == "green"
        assert panel["type"] == "stat" or panel["options"]["legend"]["showLegend"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        used = {name for target in panel["targets"] for name in _variables(target["expr"])}
        assert used <= variables, panel["title"]


def _variables(expression: str) -> set[str]:
    """Of the dashboard; names that begin with __ are Grafana's own."""
    return {name for name in re.findall(r"\$(\w+)", expression) if not name.startswith("__")}


def test_dashboards_can_be_told_apart() -> None:
    titles = [load(path)["title"] for path in DASHBOARDS]
    assert titles == ["API Overview", "Model Performance", "System Resources", "Transfer Learning"]
    assert len({load(path)["uid"] for path in DASHBOARDS}) == 4


def test_the_notebook_is_kept_without_output() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell for cell in cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []
    assert cells[1].metadata["tags"] == ["parameters"]
