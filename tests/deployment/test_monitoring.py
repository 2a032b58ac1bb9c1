"""Dashboards and alerts on a live Prometheus that watches real services."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_monitoring import wait_for
from programs import MONITORING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

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


@pytest.fixture(scope="module")
def calm(watched: Any) -> None:
    """Nothing is wrong yet."""
    wait_for(lambda: "LetterwiseHighErrorRate" not in watched.prometheus.firing(), "calm")


FAULTS = {
    "LetterwiseHighErrorRate": ({"failing": True}, ["pagerduty", "slack-service"]),
    "LetterwiseHighLatency": ({"seconds": 0.6}, ["slack-service"]),
    "LetterwiseSpellingAccuracyDropped": ({"wrong": 0.85, "careless": True}, ["slack-model"]),
    "LetterwiseCorrelationFell": ({"wrong": 0.85, "careless": True}, ["slack-model"]),
    "LetterwiseCanarySilent": ({"deaf_to_others": True}, ["slack-service"]),
}
