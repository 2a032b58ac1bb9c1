"""Write what is generated in deployment/: dashboards from code, the operator's rules and the overlays' settings.

    python deployment/generate.py

Knows where the files lie; knows nothing about what they say.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "monitoring" / "grafana"))

from dashboards import dashboards  # noqa: E402 - it lies beside its output, which is no package

from letterwise.files import write_text  # noqa: E402

RULE_FILES = ("prometheus/recording_rules.yml", "alerts/model.yml", "alerts/resources.yml", "alerts/service.yml")
IN_A_CLUSTER = {"TRUST_PROXY_HEADERS": "true"}
"""The ingress sets X-Forwarded-For, and the network policy lets nobody past it."""


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def prometheus_rule() -> str:
    """All rules as the resource that the Prometheus operator reads."""
    groups: list[dict[str, Any]] = []
    for name in RULE_FILES:
        groups += yaml.safe_load((HERE / "monitoring" / name).read_text(encoding="utf-8"))["groups"]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "letterwise"},
        "spec": {"groups": groups},
    }
    body = yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from deployment/monitoring by deployment/generate.py; change it there.\n{body}"


def overlay_settings(name: str) -> str:
    """The settings of an overlay: those of the environment file, behind a proxy."""
    lines = (HERE / "env" / f"{name}.env").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    body = "".join(f"{key}={value}\n" for key, value in {**pairs, **IN_A_CLUSTER}.items())
    return f"# Generated from deployment/env/{name}.env by deployment/generate.py; change it there.\n{body}"


def files() -> dict[Path, str]:
    """Every generated file and what it has to hold."""
    made = {HERE / "k8s" / "components" / "operator" / "prometheusrule.yaml": prometheus_rule()}
    for name in ("cpu", "gpu"):
        made[HERE / "k8s" / "overlays" / name / "settings.env"] = overlay_settings(name)
    encoder = JSONEncoder(sort_keys=True, indent=2)
    for name, builder in dashboards().items():
        dashboard = builder.build()
        for number, panel in enumerate(dashboard.panels or [], start=1):
            panel.id_val = number  # so that a link to a panel stays right
        made[HERE / "monitoring" / "grafana" / "dashboards" / f"{name}.json"] = encoder.encode(dashboard) + "\n"
    return made


if __name__ == "__main__":
    for path, text in files().items():
        write_text(path, text)
