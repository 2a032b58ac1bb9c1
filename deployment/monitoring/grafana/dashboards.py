"""The four dashboards, each as code in a module of its own."""

from __future__ import annotations

from api_overview import api_overview
from grafana_foundation_sdk.builders.dashboard import Dashboard
from model_performance import model_performance
from system_resources import system_resources
from transfer_learning import transfer_learning


def dashboards() -> dict[str, Dashboard]:
    """Each dashboard by the name of its file."""
    made = (api_overview, model_performance, system_resources, transfer_learning)
    return {make.__name__: make() for make in made}
