"""Labels and expressions that several dashboards use.

Knows the service's labels; knows nothing about Grafana but the names of the dashboards' variables.
"""

from __future__ import annotations

INSTANCE = 'job="letterwise", instance=~"$instance"'


def quantile(share: float, metric: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram over the range that Grafana finds fit."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({metric}_bucket{{{labels}}}[$__rate_interval])))"
