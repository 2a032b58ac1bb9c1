"""Traces: a span for each request and, below it, what the batcher did with it.

Knows OpenTelemetry and the standard ``OTEL_*`` variables; knows nothing about metrics or models. The SDK and the
exporter are imported only when the variables ask for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.util.types import Attributes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from letterwise.api.utils.logs import PROBE_PATHS
from letterwise.api.utils.observability import method_label, route_label
from letterwise.api.utils.request_id import REQUEST_ID
from letterwise.errors import LetterwiseError

if TYPE_CHECKING:
    from letterwise.api.services.batching import Batch

FLUSH_SECONDS = 5.0
"""How long the last spans may take to be sent when the service stops."""

_tracer = trace.get_tracer("letterwise")


def configure_tracing(service_version: str) -> Callable[[], None] | None:
    """Export spans by OTLP over HTTP, if the environment asks for it.

    It asks by ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``, unless ``OTEL_SDK_DISABLED``
    is true or ``OTEL_TRACES_EXPORTER`` is none. Everything else (sampler, headers, resource attributes, batching) is
    read from its standard variable by the SDK.

    Returns:
        A function that sends what is left and ends the export; it blocks for `FLUSH_SECONDS` at most. None when tracing
        is off: spans then cost some microseconds and go nowhere.

    Raises:
        LetterwiseError: the environment asks for another exporter or protocol.
    """
    if not _is_wanted():
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # Attributes given here would win over those of the environment, so the latter are given too.
    named = {
        "service.name": "letterwise",
        "service.version": service_version,
        **OTELResourceDetector().detect().attributes,
    }
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        # By itself the SDK would try for 30 seconds to reach a collector that is gone.
        flushing = Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no annotations

    return stop


def _is_wanted() -> bool:
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return False
    exporter = _variable("OTEL_TRACES_EXPORTER") or "otlp"
    asked = _variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if exporter == "none" or not asked:
        return False
    if exporter != "otlp":
        raise LetterwiseError("The environment variable OTEL_TRACES_EXPORTER: only otlp and none are supported.")
    protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        raise LetterwiseError("The environment variable OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf is supported.")
    return True


def _variable(*names: str) -> str:
    """The first of the environment variables that is not empty."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


class TracingMiddleware:
    """Opens a span for each request, as a child of the caller's where the request names one (W3C `traceparent`).

    Pure ASGI. It stands inside `RequestIdMiddleware` and outside everything else that is to be seen in the span.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in PROBE_PATHS:
            await self.app(scope, receive, send)
            return
        method = method_label(scope)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with _tracer.start_as_current_span(
            method,
            context=propagate.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "letterwise.request_id": REQUEST_ID.get("")},
        ) as span:
            try:
                await self.app(scope, receive, _noting_status(send, span))
            finally:
                # The router fills in the route on the way.
                route = route_label(scope)
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)


def _noting_status(send: Send, span: Span) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return noting


def record_span(
    name: str,
    parent: Context,
    start_ns: int,
    end_ns: int,
    attributes: Attributes = None,
    links: Sequence[Link] = (),
) -> Context:
    """Write a span that is already over.

    It needs no current context, so any thread may write it.

    Args:
        name: what was done.
        parent: the context below which it was done, as `opentelemetry.context.get_current` gave it.
        start_ns: when it began, by `time.time_ns`.
        end_ns: when it ended, by `time.time_ns`.
        attributes: what else is known about it.
        links: other spans it has to do with.

    Returns:
        The context to give as `parent` for what was done within it.
    """
    span = _tracer.start_span(name, parent, start_time=start_ns, attributes=attributes, links=links)
    span.end(end_ns)
    return trace.set_span_in_context(span, parent)


def record_batch(batch: Batch) -> None:
    """Write what happened in a batch below the span of each request that took part, so that each trace is whole.

    The spans are `queue`, from the arrival of the request's first item, then `batch`, linked to the other requests that
    shared it, and within it `inference`.
    """
    requests: dict[Span, tuple[Context, int]] = {}
    for context, arrived_ns in zip(batch.contexts, batch.arrivals_ns, strict=True):
        span = trace.get_current_span(context)
        if span.get_span_context().trace_flags.sampled:
            requests.setdefault(span, (context, arrived_ns))
    attributes: Attributes = {"letterwise.operation": batch.operation, "letterwise.batch_size": len(batch.contexts)}
    for request, (context, arrived_ns) in requests.items():
        others = [Link(other.get_span_context()) for other in requests if other is not request]
        record_span("queue", context, arrived_ns, batch.started_ns)
        within = record_span("batch", context, batch.started_ns, batch.ended_ns, attributes, others)
        record_span("inference", within, batch.started_ns, batch.ended_ns, attributes)
