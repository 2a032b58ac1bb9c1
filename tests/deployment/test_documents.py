"""The guides name only paths, variables, metrics and alerts that there are, and their figures come from recordings."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from PIL import Image
from programs import DEPLOYMENT, MONITORING, ROOT
from setting_names import NAMES, STANDARD

from letterwise.api.utils.observability import ServiceMetrics
from letterwise.files import write_json

GUIDES = [ROOT / "docs" / "deployment.md", ROOT / "docs" / "monitoring.md"]
OTHER_VARIABLES = {
    "BASE_IMAGE": DEPLOYMENT / "Dockerfile",
    "LETTERWISE_ENV": DEPLOYMENT / "docker-compose.yml",
    "OMP_NUM_THREADS": DEPLOYMENT / "docker-compose.yml",
    "LETTERWISE_CACHE": DEPLOYMENT / "Dockerfile",
    "HF_HOME": DEPLOYMENT / "Dockerfile",
    "PROMETHEUS_URL": ROOT / "notebooks" / "transfer_learning_analysis.ipynb",
}
"""Variables that are no settings, and where each is used."""
HUGGING_FACE = {"HF_TOKEN"}
MADE_BY_THE_READER = ("deployment/secrets", "deployment/model")


def text(guide: Path) -> str:
    return guide.read_text(encoding="utf-8")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_path_is_there(guide: Path) -> None:
    paths = {path.rstrip(".,") for path in re.findall(r"(?<![\w/.])deployment/[\w./-]+", text(guide))}
    named = {path for path in paths if not path.startswith((*MADE_BY_THE_READER, "deployment/letterwise"))}
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_variable_is_read_by_something(guide: Path) -> None:
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)[`=]", text(guide)))
    assert named <= {*NAMES, *STANDARD, *OTHER_VARIABLES, *HUGGING_FACE}
    for name in named & OTHER_VARIABLES.keys():
        assert name in OTHER_VARIABLES[name].read_text(encoding="utf-8")


def test_every_metric_is_exposed_and_explained() -> None:
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in ServiceMetrics().registry.collect()
        if family.name.startswith("letterwise_")
    }
    monitoring = text(GUIDES[1])
    assert set(re.findall(r"^\| `(letterwise_\w+)` \|", monitoring, re.MULTILINE)) == names
    assert {*re.findall(r"`(letterwise_\w+)`", monitoring)} <= names


def test_rules_and_dashboards_use_only_metrics_that_are_exposed() -> None:
    exposed = {
        sample for family in ServiceMetrics().registry.collect() for sample in _samples(family.name, family.type)
    }
    files = [*MONITORING.glob("*/*.yml"), *MONITORING.glob("grafana/dashboards/*.json")]
    # Recorded series have colons in their names.
    used = {name for path in files for name in re.findall(r"(?<![:\w])letterwise_\w+(?![:\w])", text(path))}
    assert len(used) > 20
    assert used - exposed - {"letterwise_queue_wait_seconds_mean"} == set()


def _samples(name: str, kind: str) -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
    return {name + suffix for suffix in suffixes}


def test_every_alert_named_is_one() -> None:
    files = (MONITORING / "alerts").glob("*.yml")
    groups = [group for path in files for group in yaml.safe_load(text(path))["groups"]]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {*re.findall(r"\bLetterwise[A-Z]\w+", text(GUIDES[1]))} == alerts


def test_every_dashboard_is_described() -> None:
    for path in (MONITORING / "grafana" / "dashboards").glob("*.json"):
        dashboard = json.loads(text(path))
        assert f"### {dashboard['title']}\n" in text(GUIDES[1])
        assert all(f"| {panel['title']} | " in text(GUIDES[1]) for panel in dashboard["panels"])
        (picture,) = re.findall(rf"!\[.*{dashboard['title']}.*\]\((.+)\)", text(GUIDES[1]))
        with Image.open(ROOT / "docs" / picture) as drawn:
            assert drawn.text["Title"] == dashboard["title"]
            titles = [panel["title"] for panel in dashboard["panels"]]
            assert drawn.text["Description"].split("; ") == titles, "draw it anew with `make monitoring-test`"


def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_deployment", ROOT / "docs" / "generated_deployment.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sizing_and_cost_follow_from_what_was_measured(tmp_path: Path) -> None:
    module = generated()
    module.SPEED = tmp_path / "serve.json"
    assert module.sizing(0.05) == module.NOT_MEASURED
    row = {"stack": "letterwise", "mode": "direct", "users": 32, "requests_per_second": 200.0}
    rows = [row, {**row, "users": 1, "requests_per_second": 20.0}, {**row, "stack": "plain"}]
    environment = {"cpu": "A Processor", "cores": 2}
    write_json(module.SPEED, {"date": "2026-01-02", "environment": environment, "rows": rows})
    said = module.sizing(0.05)
    # 100 a second and core, planned with 70: 252,000 answers an hour for five cents.
    assert "| direct | 100.0 | 1 | 2 | 15 | 0.20 |" in said
    assert said.count("direct") == 1
    assert "Measured on 2026-01-02 on 2 cores of A Processor." in said
    assert "Assumed price: 0.05 dollars" in said


def test_the_times_of_alerts_are_those_that_were_recorded(tmp_path: Path) -> None:
    module = generated()
    module.ALERT_TIMES = tmp_path / "monitoring_alerts.json"
    assert module.alert_times() == "The times have not been recorded yet."
    names = [rule["alert"] for rule in module._alert_rules()]
    told = {"fault": "a fault", "task": None, "receivers": ["a", "b"], "told_after_seconds": 12.34}
    rows = [{**told, "alert": name, "over_after_seconds": 5.0} for name in names[:-2]]
    rows += [{**told, "alert": names[0], "task": "spelling", "over_after_seconds": None}]
    hurry = {"look_seconds": 2, "for_seconds": 4, "range_seconds": 20, "offset_seconds": 40}
    environment = {"created": "2026-01-02T03:04:05", "cores": 2, "cpu": "A Processor"}
    write_json(module.ALERT_TIMES, {"hurry": hurry, "rows": rows, "environment": environment})
    said = module.alert_times()
    assert f"| a fault | {names[0]} | a, b | 12.3 s | 5.0 s |" in said
    assert f"| a fault | {names[0]} (spelling) | a, b | 12.3 s | – |" in said
    assert "on 2026-01-02 on 2 cores of A Processor, with a look every 2 s, 4 s for each rule's waiting time" in said
    assert f"Provoked were {len(names) - 2} of {len(names)} alerts; {names[-2]}, {names[-1]} are tested" in said
