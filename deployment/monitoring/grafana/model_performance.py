"""Model Performance: where the time goes once a request has reached the model."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.common import BigValueTextMode
from panels import dashboard, graph, number
from queries import INSTANCE, quantile


def model_performance() -> Dashboard:
    """Make it."""
    prompts, batches = (
        f"sum(rate(letterwise_batch_size_{part}{{{INSTANCE}}}[$__rate_interval]))" for part in ("sum", "count")
    )
    return (
        dashboard("letterwise-model", "Model Performance", "Inference, batches, queue and memory.", ["instance"])
        .with_panel(
            number(
                "Model",
                "What is served, by instance.",
                "none",
                f"count by (model, revision) (letterwise_model_info{{{INSTANCE}}})",
                legend="{{model}} {{revision}}",
            ).text_mode(BigValueTextMode.NAME)
        )
        .with_panel(
            number(
                "Prompts",
                "Prompts that go through the model a second.",
                "reqps",
                prompts,
            )
        )
        .with_panel(
            number(
                "Waiting, 95th percentile",
                "From an item's arrival to the start of its batch; refused from MAX_QUEUE_MS on.",
                "s",
                "max(job:letterwise_queue_wait_seconds:p95_rate5m)",
                limit=0.25,
            )
        )
        .with_panel(
            number(
                "Loaded since",
                "When the model was loaded or replaced last.",
                "dateTimeFromNow",
                f"1000 * max(letterwise_model_loaded_timestamp_seconds{{{INSTANCE}}})",
            )
        )
        .with_panel(
            graph(
                "Time of a batch",
                "What the model takes, by operation: score reads, generate writes.",
                "s",
                {
                    "{{operation}} 50th": quantile(0.5, "letterwise_inference_duration_seconds", INSTANCE, "operation"),
                    "{{operation}} 95th": quantile(
                        0.95, "letterwise_inference_duration_seconds", INSTANCE, "operation"
                    ),
                },
            )
        )
        .with_panel(
            graph(
                "Prompts in a batch",
                "Larger under load; at MAX_BATCH_SIZE the model is the bottleneck.",
                "none",
                {
                    "mean": f"{prompts} / {batches}",
                    "95th": quantile(0.95, "letterwise_batch_size", INSTANCE),
                },
            )
        )
        .with_panel(
            graph(
                "Time in the queue",
                "From an item's arrival to the start of its batch.",
                "s",
                {
                    "50th": quantile(0.5, "letterwise_queue_wait_seconds", INSTANCE),
                    "95th": quantile(0.95, "letterwise_queue_wait_seconds", INSTANCE),
                },
                limit=0.25,
            )
        )
        .with_panel(
            graph(
                "Queue taken",
                "Items waiting, of QUEUE_SIZE; the line is the alert's threshold.",
                "percentunit",
                {"{{instance}}": f"instance:letterwise_queue:utilisation{{{INSTANCE}}}"},
                limit=0.8,
                top=1,
            )
        )
        .with_panel(
            graph(
                "Time the model works",
                "Share of each second in which a batch is with the model.",
                "percentunit",
                {
                    "{{instance}}": "sum by (instance) (rate(letterwise_inference_duration_seconds_sum"
                    f"{{{INSTANCE}}}[$__rate_interval]))"
                },
                top=1,
            )
        )
        .with_panel(
            graph(
                "Memory",
                "Resident memory of the process, most of it the weights.",
                "bytes",
                {"{{instance}}": f"process_resident_memory_bytes{{{INSTANCE}}}"},
            )
        )
    )
