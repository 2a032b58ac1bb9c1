"""Dashboards, notebook and alerts on a live Prometheus that watches real services.

The faults take a minute and a half, so they are made where MONITORING_TEST is set: `make monitoring-test`.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from live_monitoring import wait_for
from nbclient import NotebookClient
from programs import DEPLOYMENT, MONITORING, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NOTEBOOK = ROOT / "notebooks" / "transfer_learning_analysis.ipynb"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
CHOSEN = {"$instance": ".+", "$task": ".+", "$question_type": ".+", "$__rate_interval": "10s"}
"""What Grafana puts in: everything is chosen, and the range is four looks or more."""


def queries(path: Path) -> Iterator[tuple[str, str]]:
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in CHOSEN.items():
                expression = expression.replace(variable, value)
            yield panel["title"], expression


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_returns_data(path: Path, watched: Any) -> None:
    for title, expression in queries(path):
        values = [float(series["value"][1]) for series in watched.prometheus.query(expression)]
        assert any(not math.isnan(value) for value in values), f"{title} shows nothing: {expression}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_offers_something(path: Path, watched: Any) -> None:
    for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = variable["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            assert any(label in series["metric"] for series in watched.prometheus.query(metric)), variable["name"]


def test_every_recording_rule_records_something(watched: Any) -> None:
    rules = watched.prometheus.client.get("/api/v1/rules").json()["data"]["groups"]
    recorded = {rule["name"]: rule for group in rules for rule in group["rules"] if rule["type"] == "recording"}
    assert len(recorded) == 14
    assert [name for name in recorded if not watched.prometheus.query(name)] == []
    assert [name for name, rule in recorded.items() if rule["health"] != "ok"] == []


def test_the_autoscalers_query_returns_data(watched: Any) -> None:
    values = yaml.safe_load((DEPLOYMENT / "k8s" / "prometheus-adapter.values.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "instance")
    query = query.replace("<<.LabelMatchers>>", 'job="letterwise"')
    assert len(watched.prometheus.query(query)) == 2


def test_the_notebook_says_what_prometheus_knows(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", watched.prometheus.url)
    monkeypatch.setenv("HOURS", "0.05")
    monkeypatch.setenv("MODE", "computed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    (shown,) = re.findall(r"^spelling: the canary is at (\d+)% now", said, re.MULTILINE)
    (known,) = watched.prometheus.query("max_over_time(avg(letterwise_spelling_accuracy{source='canary'})[3m:1s])")
    assert int(shown) <= 100 * float(known["value"][1]) + 1
    assert re.search(r"^\d+ probes were answered", said)
    assert re.search(r"^letter_position: .*(spelling over time|too little)", said, re.MULTILINE)
    assert re.search(r"^correlation: phi is [+-]\d", said, re.MULTILINE)


fault_wanted = pytest.mark.skipif(not os.environ.get("MONITORING_TEST"), reason="takes long: make monitoring-test")

FAULTS: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "every answer is an error": (
        {"failing": True},
        # Once for each task.
        {"LetterwiseHighErrorRate": 2 * ["pagerduty", "slack-service"], "LetterwiseCanarySilent": ["slack-service"]},
    ),
    "every answer is slow": ({"seconds": 0.6}, {"LetterwiseHighLatency": ["slack-service"]}),
    "the adapter is degraded": (
        {"wrong": 0.85, "careless": True},
        {"LetterwiseSpellingAccuracyDropped": ["slack-model"], "LetterwiseCorrelationFell": ["slack-model"]},
    ),
    "the canary is dead": ({"deaf_to_others": True}, {"LetterwiseCanarySilent": ["slack-service"]}),
}
"""What is broken, and which alerts tell whom about it."""


def tell_apart(receivers: Any, alert: str, status: str, before: dict[tuple[str, str], int]) -> list[str]:
    """The receivers told since `before`."""
    told: list[str] = receivers.told(alert, status)
    return sorted(told[before.get((alert, status), 0) :])


@fault_wanted
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_once_to_those_it_concerns_and_its_end_too(fault: str, watched: Any) -> None:
    broken, alerts = FAULTS[fault]
    whole = {name: getattr(watched.engine, name) for name in broken}
    wait_for(lambda: not watched.prometheus.firing() & alerts.keys(), "calm")
    wait_for(lambda: watched.prometheus.query(PHI), "correlation to fall from")
    before = {(name, state): len(watched.receivers.told(name, state)) for name in alerts for state in STATES}
    times = {"broken": time.monotonic()}
    try:
        for name, value in broken.items():
            setattr(watched.engine, name, value)
        wait_for(lambda: _told(watched, alerts, "firing", before), f"alert of: {fault}", 90)
        times["told"] = time.monotonic()
    finally:
        for name, value in whole.items():
            setattr(watched.engine, name, value)
        times["mended"] = time.monotonic()
    wait_for(lambda: _told(watched, alerts, "resolved", before), f"all-clear after: {fault}", 90)
    times["resolved"] = time.monotonic()
    print(
        f"\n{fault}: {', '.join(alerts)}: told after {times['told'] - times['broken']:.1f} s, "
        f"all-clear {times['resolved'] - times['mended']:.1f} s after it was mended"
    )


STATES = ("firing", "resolved")
CANARY = 'source="canary", question_type="position_count", mode=~"computed|"'
PHI = f"avg_over_time(letterwise_correlation{{{CANARY}}}[10s] offset 15s) > 0.5"


def _told(watched: Any, alerts: dict[str, list[str]], status: str, before: dict[tuple[str, str], int]) -> bool:
    heard = {name: tell_apart(watched.receivers, name, status, before) for name in alerts}
    for name, receivers in heard.items():
        assert len(receivers) <= len(alerts[name]), f"{name} was told more than once: {receivers}"
    return heard == {name: sorted(receivers) for name, receivers in alerts.items()}


@fault_wanted
def test_a_service_that_is_gone_is_told_and_its_return_too(watched: Any) -> None:
    before = {("LetterwiseTargetDown", state): 0 for state in STATES}
    alerts = {"LetterwiseTargetDown": ["pagerduty", "slack-service"]}
    watched.stop_service()
    try:
        wait_for(lambda: _told(watched, alerts, "firing", before), "alert", 60)
    finally:
        watched.start_service()
    wait_for(lambda: _told(watched, alerts, "resolved", before), "all-clear", 60)
