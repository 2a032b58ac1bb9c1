"""Names of the environment variables that the service reads."""

from __future__ import annotations

from letterwise.api.settings import ServiceSettings

NAMES = [name.upper() for name in ServiceSettings.model_fields]
STANDARD = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_RESOURCE_ATTRIBUTES",
}
"""Read by OpenTelemetry itself."""
