"""Rules and routes: what Debian's promtool and amtool say of them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import MONITORING, ROOT, program, run

RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*_test.yml"))
ALERTMANAGER = MONITORING / "alertmanager" / "alertmanager.yml"
SEVERITIES = {"critical", "warning", "info"}
TASKS = {"service", "spelling", "position_count"}


@cache
def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Every rule of a kind ('alert' or 'record') by its name."""
    files = [MONITORING / "prometheus" / "recording_rules.yml", *sorted((MONITORING / "alerts").glob("*.yml"))]
    groups = [group for path in files for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    assert len({group["name"] for group in groups}) == len(groups), "promtool orders groups by name"
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.mark.slow
def test_prometheus_accepts_configuration_and_rules() -> None:
    promtool = program("promtool", "Debian: prometheus")
    said = run(promtool, "check", "config", "--lint=all", "--lint-fatal", MONITORING / "prometheus" / "prometheus.yml")
    assert said.count("rules found") == 4


@pytest.mark.slow
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    run(program("promtool", "Debian: prometheus"), "test", "rules", path)


def test_every_alert_is_tested_firing_and_silent() -> None:
    firing, silent = set(), set()
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for expectation in test["alert_rule_test"]:
                (firing if expectation.get("exp_alerts") else silent).add(expectation["alertname"])
    assert firing == silent == set(rules("alert"))


@pytest.mark.slow
def test_a_wrong_threshold_would_be_noticed(tmp_path: Path) -> None:
    """The tests of the rules can fail: with other thresholds they do."""
    promtool = program("promtool", "Debian: prometheus")
    shutil.copytree(MONITORING, tmp_path / "deployment" / "monitoring")
    shutil.copytree(RULE_TESTS[0].parent, tmp_path / "tests" / "deployment" / "rules")
    path = tmp_path / "deployment" / "monitoring" / "alerts" / "service.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("> 0.05", "> 0.04").replace("> 0.5", "> 0.6"))
    changed = tmp_path / "tests" / "deployment" / "rules" / "service_test.yml"
    run(promtool, "test", "rules", changed, exit_code=1)


@pytest.mark.parametrize("name", rules("alert"))
def test_an_alert_says_how_bad_it_is_for_whom_and_what_to_do(name: str) -> None:
    alert = rules("alert")[name]
    labels, annotations = alert["labels"], alert["annotations"]
    assert labels["severity"] in SEVERITIES
    assert labels["task"] in TASKS | {"{{ $labels.task_type }}"}
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    # In Slack the path alone would lead nowhere; where no address is set, it is what is left.
    assert annotations["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}docs/monitoring.md#{name.lower()}"
    assert alert["for"], "one bad look wakes nobody"


def test_the_address_of_the_runbooks_is_set_once_and_is_no_label_of_an_alert() -> None:
    configuration = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    address = configuration["global"]["external_labels"]["runbooks"]
    assert address.startswith("https://")
    assert address.endswith("/")
    assert {"action": "labeldrop", "regex": "runbooks"} in configuration["alerting"]["alert_relabel_configs"]


def test_every_runbook_is_there_and_none_for_an_alert_that_is_not() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### Letterwise")}
    assert headings == rules("alert").keys()


@pytest.mark.slow
def test_alertmanager_accepts_its_configuration() -> None:
    said = run(program("amtool", "Debian: prometheus-alertmanager"), "check-config", ALERTMANAGER)
    assert "4 receivers" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        ({"severity": "critical", "task": "service"}, "pagerduty,slack-service"),
        ({"severity": "critical", "task": "spelling"}, "pagerduty,slack-service"),
        ({"severity": "warning", "task": "service"}, "slack-service"),
        ({"severity": "warning", "task": "spelling"}, "slack-model"),
        ({"severity": "warning", "task": "position_count"}, "slack-model"),
        ({"severity": "info", "task": "position_count"}, "email"),
        ({"alertname": "Unknown"}, "email"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_an_alert_reaches_those_it_concerns(labels: dict[str, str], receivers: str) -> None:
    amtool = program("amtool", "Debian: prometheus-alertmanager")
    given = [f"{name}={value}" for name, value in labels.items()]
    assert run(amtool, "config", "routes", "test", "--config.file", ALERTMANAGER, *given).strip() == receivers


def test_no_secret_is_written_in_the_configuration() -> None:
    configuration = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))

    def settings(value: Any) -> list[tuple[str, Any]]:
        if isinstance(value, dict):
            return [*value.items(), *(found for each in value.values() for found in settings(each))]
        return [found for each in value for found in settings(each)] if isinstance(value, list) else []

    secret = [(name, value) for name, value in settings(configuration) if name.split("_")[-1] in ("password", "key")]
    assert secret == []
    files = {value for name, value in settings(configuration) if name.endswith("_file")}
    assert len(files) == 4
    assert all(value.startswith("/etc/alertmanager/secrets/") for value in files)
    readers = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert all(f"`{Path(value).name}`" in readers for value in files)
