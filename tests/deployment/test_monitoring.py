"""Dashboards, notebook and rules on a live Prometheus that watches two services; test_faults.py has the alerts."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from dashboard_pictures import draw_dashboard, queries
from live_monitoring import Prometheus
from nbclient import NotebookClient
from PIL import Image
from programs import DEPLOYMENT, MONITORING, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NOTEBOOK = ROOT / "notebooks" / "transfer_learning_analysis.ipynb"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
RATE_INTERVAL = "10s"
"""Four looks or more."""


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_returns_data(path: Path, watching: Prometheus) -> None:
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for _, expression in queries(panel, RATE_INTERVAL):
            values = [float(series["value"][1]) for series in watching.query(expression)]
            assert any(not math.isnan(value) for value in values), f"{panel['title']} shows nothing: {expression}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_drawn_with_all_its_panels(path: Path, watching: Prometheus, tmp_path: Path) -> None:
    draw_dashboard(path, watching, time.time() - 30, RATE_INTERVAL, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.text["Title"] == json.loads(path.read_text(encoding="utf-8"))["title"]
        assert len(set(picture.convert("RGB").getdata())) > 50


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_offers_something(path: Path, watching: Prometheus) -> None:
    for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            assert any(label in series["metric"] for series in watching.query(metric)), variable["name"]


def test_every_recording_rule_records_something(watching: Prometheus) -> None:
    rules = watching.client.get("/api/v1/rules").json()["data"]["groups"]
    recorded = {rule["name"]: rule for group in rules for rule in group["rules"] if rule["type"] == "recording"}
    assert len(recorded) == 14
    assert [name for name in recorded if not watching.query(name)] == []
    assert [name for name, rule in recorded.items() if rule["health"] != "ok"] == []


def test_the_autoscalers_query_returns_data(watching: Prometheus) -> None:
    values = yaml.safe_load((DEPLOYMENT / "k8s" / "prometheus-adapter.values.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "instance")
    query = query.replace("<<.LabelMatchers>>", 'job="letterwise"')
    assert len(watching.query(query)) == 2


def test_the_notebook_says_what_prometheus_knows(watching: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", watching.url)
    monkeypatch.setenv("HOURS", "0.05")
    monkeypatch.setenv("MODE", "computed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    (shown,) = re.findall(r"^spelling: the canary is at (\d+)% now", said, re.MULTILINE)
    (known,) = watching.query("max_over_time(avg(letterwise_spelling_accuracy{source='canary'})[3m:1s])")
    assert int(shown) <= 100 * float(known["value"][1]) + 1
    assert re.search(r"^\d+ probes were answered", said)
    assert re.search(r"^letter_position: .*(spelling over time|too little)", said, re.MULTILINE)
    assert re.search(r"^correlation: phi is [+-]\d", said, re.MULTILINE)
