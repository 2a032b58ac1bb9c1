"""API Overview: how much is asked, how fast it is answered, and how often it is not."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import dashboard, graph, number
from queries import INSTANCE, quantile

REQUESTS = f'{INSTANCE}, task_type=~"$task"'
TASK_RATIO = 'task_type:letterwise_http_errors:ratio_rate5m{task_type=~"$task"}'


def api_overview() -> Dashboard:
    """Make it."""
    duration = "letterwise_http_request_duration_seconds"
    single = f'{INSTANCE}, route=~"/api/.+", route!~".+/batch"'
    return (
        dashboard("letterwise-api", "API Overview", "Requests, errors and latency.", ["instance", "task"])
        .with_panel(
            number(
                "Requests",
                "Requests of users a second; probes and scrapes are left out.",
                "reqps",
                f"sum(rate(letterwise_http_requests_total{{{REQUESTS}}}[$__rate_interval]))",
            )
        )
        .with_panel(
            number(
                "Errors",
                "Share of requests answered with 500 or above, in the worst task.",
                "percentunit",
                f"max({TASK_RATIO})",
                limit=0.05,
            )
        )
        .with_panel(
            number(
                "Latency, 95th percentile",
                "Of single requests, without batches.",
                "s",
                "max(job:letterwise_http_request_duration_seconds:p95_rate5m)",
                limit=0.5,
            )
        )
        .with_panel(
            number(
                "Replicas that answer", "Instances with a loaded model.", "none", f"sum(letterwise_ready{{{INSTANCE}}})"
            )
        )
        .with_panel(
            graph(
                "Requests by route",
                "What is asked for.",
                "reqps",
                {"{{route}}": f"sum by (route) (rate(letterwise_http_requests_total{{{REQUESTS}}}[$__rate_interval]))"},
            )
        )
        .with_panel(
            graph(
                "Requests by status",
                "4xx is the client's mistake, 499 a client that left, 503 too much load, 500 a bug.",
                "reqps",
                {
                    "{{status}}": "sum by (status) (rate(letterwise_http_requests_total"
                    f"{{{REQUESTS}}}[$__rate_interval]))"
                },
            )
        )
        .with_panel(
            graph(
                "Errors by task",
                "Share of requests answered with 500 or above; the line is the alert's threshold.",
                "percentunit",
                {"{{task_type}}": TASK_RATIO},
                limit=0.05,
            )
        )
        .with_panel(
            graph(
                "Latency of single requests",
                "From a request's arrival to the end of its answer; the line is the alert's threshold for the 95th.",
                "s",
                {
                    "50th": quantile(0.5, duration, single),
                    "95th": quantile(0.95, duration, single),
                    "99th": quantile(0.99, duration, single),
                },
                limit=0.5,
            )
        )
        .with_panel(
            graph(
                "Latency by route, 95th percentile",
                "Batch routes take longer the more they are asked.",
                "s",
                {"{{route}}": quantile(0.95, duration, f'{INSTANCE}, route=~"/api/.+"', "route")},
            )
        )
        .with_panel(
            graph(
                "In flight and refused",
                "Requests being answered, and those refused a second because too much was waiting.",
                "short",
                {
                    "in flight": f"sum(letterwise_http_requests_in_flight{{{INSTANCE}}})",
                    "refused a second": f"sum(rate(letterwise_queue_rejected_total{{{INSTANCE}}}[$__rate_interval]))",
                },
            )
        )
    )
