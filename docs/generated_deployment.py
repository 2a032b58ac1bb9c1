"""What docs/deployment.md and docs/monitoring.md show of the deployment: sizing, metrics, alerts and dashboards.

Called from cog blocks and run by `make docs`. Knows the recorded speed of the service, its metrics and the files in
deployment/; measures nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric

from letterwise.api.utils.figures import Figures
from letterwise.api.utils.observability import ServiceMetrics
from letterwise.files import read_json
from letterwise.reporting.templating import markdown_table

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks" / "results" / "serve.json"
"""Written by the benchmark of the service: `date`, `environment` with `cpu` and `cores`, and `rows`, each with
`stack`, `users`, `requests_per_second` and texts that say what was asked."""
ALERT_TIMES = ROOT / "benchmarks" / "results" / "monitoring_alerts.json"
"""Written by `make monitoring-test`."""
NOT_MEASURED = "The speed of the service is not measured yet, so there is no sizing table."
MONITORING = ROOT / "deployment" / "monitoring"
UTILISATION = 0.7
"""Share of its speed that a core is planned with; the autoscaler's target."""
LOADS = (10, 100, 1000)
"""Requests a second that the table is for."""


def sizing(price_per_core_hour: float) -> str:
    """Cores for some loads, and the cost of a million answers.

    Args:
        price_per_core_hour: an assumption, in dollars; the table repeats it.
    """
    if not SPEED.is_file():
        return NOT_MEASURED
    measured = read_json(SPEED)
    cores = measured["environment"]["cores"]
    rows = []
    ours = [row for row in measured["rows"] if row["stack"] == "letterwise"]
    busiest = max(row["users"] for row in ours)
    for row in (row for row in ours if row["users"] == busiest):
        of_core = row["requests_per_second"] / cores
        needed = [f"{math.ceil(load / (of_core * UTILISATION)):,}" for load in LOADS]
        cost = price_per_core_hour / (of_core * UTILISATION * 3600) * 1e6
        what = ", ".join(value for name, value in row.items() if isinstance(value, str) and name != "stack")
        rows.append((what, f"{of_core:,.1f}", *needed, f"{cost:,.2f}"))
    header = ("what", "requests a second and core", *(f"cores for {load:,}/s" for load in LOADS), "$ for a million")
    return (
        f"{markdown_table(header, rows)}\n\nMeasured on {measured['date']} on {cores} cores of "
        f"{measured['environment']['cpu']}. Cores are planned with {UTILISATION:.0%} of the measured speed, which the "
        f"autoscaler aims at, and one request is one answer. Assumed price: {price_per_core_hour:g} dollars for a core "
        "and hour, memory included; it is the argument of `sizing` in this document's source."
    )


def metrics() -> str:
    """Every metric of the service."""
    observed = ServiceMetrics()
    observed.observe_figures("evaluation", Figures())
    families = sorted(observed.registry.collect(), key=lambda family: family.name)
    own = [family for family in families if family.name.startswith("letterwise_")]
    rows = [(f"`{_full_name(family)}`", family.type, " ".join(family.documentation.split())) for family in own]
    return markdown_table(("metric", "type", "meaning"), rows)


def _full_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def alerts() -> str:
    """Every alert, with how long it waits and how bad it is."""
    rows = []
    for rule in _alert_rules():
        name, labels = rule["alert"], rule["labels"]
        task = "spelling, position_count" if "{{" in labels["task"] else labels["task"]
        link = f"[{name}](#{name.lower()})"
        rows.append((link, labels["severity"], task, rule["for"], _plain(rule["annotations"]["description"])))
    return markdown_table(("alert", "severity", "task", "after", "when"), rows)


def alert_times() -> str:
    """When each alert that was provoked reached its receivers, and which alerts were not."""
    if not ALERT_TIMES.is_file():
        return "The times have not been recorded yet."
    measured = read_json(ALERT_TIMES)
    rows, environment, hurry = measured["rows"], measured["environment"], measured["hurry"]
    shown = []
    for row in rows:
        task = f" ({row['task']})" if row["task"] else ""
        over = "–" if row["over_after_seconds"] is None else f"{row['over_after_seconds']:.1f} s"
        told = f"{row['told_after_seconds']:.1f} s"
        shown.append((row["fault"], f"{row['alert']}{task}", ", ".join(row["receivers"]), told, over))
    provoked, all_of_them = {row["alert"] for row in rows}, [rule["alert"] for rule in _alert_rules()]
    left = [name for name in all_of_them if name not in provoked]
    header = ("what was broken", "alert", "told", "after", "all-clear")
    where = f"{environment['cores']} cores of {environment['cpu']}"
    return (
        f"{markdown_table(header, shown)}\n\nMeasured on {environment['created'][:10]} on {where}, with a look every "
        f"{hurry['look_seconds']} s, {hurry['for_seconds']} s for each rule's waiting time, {hurry['range_seconds']} s "
        "for the minutes and hours that rates and averages are taken over, and "
        f"{hurry['offset_seconds']} s for a day. In production the rules wait longer, so each alert comes later by the "
        "difference. The all-clear counts from the moment at which the fault was mended; the fall of the correlation "
        "is over by itself, once it has been low for as long as it is compared with.\n\n"
        f"Provoked were {len(provoked)} of {len(all_of_them)} alerts; {', '.join(left) or 'none'} "
        f"{'is' if len(left) == 1 else 'are'} tested by promtool alone."
    )


def _alert_rules() -> Iterator[dict[str, Any]]:
    """Every alert, by the names of their files."""
    for path in sorted((MONITORING / "alerts").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def _plain(text: str) -> str:
    """Without the templates that Prometheus fills in."""
    for template, words in (("{{ $labels.instance }}", "an instance"), ("{{ $labels.task_type }} ", "")):
        text = text.replace(template, words)
    return text[:1].upper() + text[1:]


def dashboards() -> str:
    """A picture and every panel of every dashboard."""
    lines = []
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = [(panel["title"], panel["description"]) for panel in dashboard["panels"]]
        picture = f"![The dashboard {dashboard['title']} with all its panels](dashboards/{path.stem}.png)"
        lines += [f"### {dashboard['title']}", "", dashboard["description"], "", picture, ""]
        lines += [markdown_table(("panel", "shows"), rows), ""]
    return "\n".join(lines).rstrip()
