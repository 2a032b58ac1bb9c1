"""System Resources: processor, memory and files of the service, and the network of its hosts."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import dashboard, graph
from queries import INSTANCE


def system_resources() -> Dashboard:
    """Make it."""
    return (
        dashboard("letterwise-resources", "System Resources", "Processor, memory, network and files.", ["instance"])
        .with_panel(
            graph(
                "Processor",
                "Of what the container may use; the line is the alert's threshold.",
                "percentunit",
                {"{{instance}}": f"instance:letterwise_cpu:utilisation_rate5m{{{INSTANCE}}}"},
                limit=0.8,
                top=1,
            )
        )
        .with_panel(
            graph(
                "Memory",
                "Of what the container may use; at 100% it is killed. The line is the alert's threshold.",
                "percentunit",
                {"{{instance}}": f"instance:letterwise_memory:utilisation{{{INSTANCE}}}"},
                limit=0.8,
                top=1,
            )
        )
        .with_panel(
            graph(
                "Memory of the process",
                "Resident is what counts against the limit.",
                "bytes",
                {
                    "{{instance}} resident": f"process_resident_memory_bytes{{{INSTANCE}}}",
                    "{{instance}} limit": f"letterwise_memory_limit_bytes{{{INSTANCE}}}",
                },
            )
        )
        .with_panel(
            graph(
                "Network of the hosts",
                "From the node exporter: all that the host sends and receives, without loopback.",
                "Bps",
                {
                    "{{instance}} received": "sum by (instance) (rate(node_network_receive_bytes_total"
                    '{device!="lo"}[$__rate_interval]))',
                    "{{instance}} sent": "sum by (instance) (rate(node_network_transmit_bytes_total"
                    '{device!="lo"}[$__rate_interval]))',
                },
            )
        )
        .with_panel(
            graph(
                "Open files",
                "Sockets too; each request in flight is one.",
                "none",
                {"{{instance}}": f"process_open_fds{{{INSTANCE}}}"},
            )
        )
        .with_panel(
            graph(
                "Garbage collection",
                "Python's collections a second, by generation; a rising line of generation 2 makes pauses.",
                "ops",
                {
                    "generation {{generation}}": "sum by (generation) (rate(python_gc_collections_total"
                    f"{{{INSTANCE}}}[$__rate_interval]))"
                },
            )
        )
        .with_panel(
            graph(
                "Up since",
                "A step is a restart.",
                "dateTimeAsIso",
                {"{{instance}}": f"1000 * process_start_time_seconds{{{INSTANCE}}}"},
            )
        )
        .with_panel(
            graph(
                "Ready",
                "1 while requests are answered.",
                "none",
                {"{{instance}}": f"letterwise_ready{{{INSTANCE}}}"},
                top=1,
            )
        )
    )
