import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from letterwise.api.services.batching import Batch
from letterwise.api.utils.request_id import RequestIdMiddleware
from letterwise.api.utils.tracing import TracingMiddleware, configure_tracing, record_batch
from letterwise.errors import LetterwiseError

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Gathers spans; the provider is set once for all tests of a process."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def span_named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = (span for span in exporter.get_finished_spans() if span.name == name)
    return span


def tiny_app() -> Starlette:
    async def spell(request: Request) -> PlainTextResponse:
        now = time.time_ns()
        record_batch(Batch("generate", [now, now + 1], [context.get_current()] * 2, now + 10, now + 30))
        return PlainTextResponse("c a t", 503 if request.url.path.endswith("dog") else 200)

    app = Starlette(routes=[Route("/api/spelling/{word}", spell), Route("/health", spell)])
    app.add_middleware(TracingMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def test_a_request_continues_its_callers_trace(exporter: InMemorySpanExporter) -> None:
    with TestClient(tiny_app()) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "abc-1"}
        client.get("/api/spelling/cat", headers=headers)

    span = span_named(exporter, "GET /api/spelling/{word}")
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/api/spelling/{word}",
        "http.response.status_code": 200,
        "letterwise.request_id": "abc-1",
    }
    assert span.status.is_unset


def test_a_failed_request_is_marked_and_a_probe_is_not_traced(exporter: InMemorySpanExporter) -> None:
    with TestClient(tiny_app()) as client:
        client.get("/health")
        client.get("/api/spelling/dog")

    names = [span.name for span in exporter.get_finished_spans()]
    assert sorted(names) == ["GET /api/spelling/{word}", "batch", "inference", "queue"]
    assert span_named(exporter, "GET /api/spelling/{word}").status.status_code is trace.StatusCode.ERROR


def test_a_trace_tells_queue_batch_and_inference_apart(exporter: InMemorySpanExporter) -> None:
    with TestClient(tiny_app()) as client:
        client.get("/api/spelling/cat")

    request, queue, batch, inference = (
        span_named(exporter, name) for name in ("GET /api/spelling/{word}", "queue", "batch", "inference")
    )
    parents = [span.parent.span_id for span in (queue, batch, inference) if span.parent]
    assert parents == [request.context.span_id, request.context.span_id, batch.context.span_id]
    assert {span.context.trace_id for span in (queue, batch, inference)} == {request.context.trace_id}
    assert queue.start_time is not None
    assert [time and time - queue.start_time for time in (queue.end_time, batch.start_time, batch.end_time)] == [
        10,
        10,
        30,
    ]
    assert dict(batch.attributes or {}) == {"letterwise.operation": "generate", "letterwise.batch_size": 2}


def test_a_shared_batch_is_in_the_trace_of_each_request_and_linked_to_the_others(
    exporter: InMemorySpanExporter,
) -> None:
    tracer = trace.get_tracer("test")
    spans = [tracer.start_span(name) for name in ("first", "second")]
    contexts = [trace.set_span_in_context(span) for span in spans]
    thread = threading.Thread(target=record_batch, args=(Batch("score", [1, 2], contexts, 3, 4),))
    thread.start()
    thread.join()

    first, second = (span for span in exporter.get_finished_spans() if span.name == "batch")
    assert [span.parent and span.parent.span_id for span in (first, second)] == [
        s.get_span_context().span_id for s in spans
    ]
    assert [link.context for link in first.links] == [spans[1].get_span_context()]
    assert [link.context for link in second.links] == [spans[0].get_span_context()]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=lambda variables: " ".join(variables) or "unset",
)
def test_tracing_is_off_unless_asked_for(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(variables, monkeypatch)

    assert configure_tracing("0.1.0") is None


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"OTEL_TRACES_EXPORTER": "zipkin"}],
    ids=lambda v: next(iter(v)),
)
def test_what_cannot_be_exported_is_refused(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1", **variables}, monkeypatch)

    with pytest.raises(LetterwiseError, match=next(iter(variables))):
        configure_tracing("0.1.0")


def set_variables(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


REQUEST_IN_A_PROCESS = """
import sys, time
from opentelemetry import context
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from letterwise.api.services.batching import Batch
from letterwise.api.utils import tracing
from letterwise.api.utils.tracing import TracingMiddleware, configure_tracing, record_batch

async def spell(request):
    now = time.time_ns()
    record_batch(Batch("score", [now], [context.get_current()], now, now))
    return PlainTextResponse("c a t")

stop = configure_tracing("0.1.0")
app = Starlette(routes=[Route("/api/spelling", spell)])
app.add_middleware(TracingMiddleware)
with TestClient(app) as client:
    assert client.get("/api/spelling").status_code == 200
tracing.FLUSH_SECONDS = 1
started = time.monotonic()
if stop:
    stop()
assert time.monotonic() - started < 8  # the SDK itself would try for 10
print("on" if stop else "off", any(name.startswith("opentelemetry.sdk") for name in sys.modules))
"""


def run_request(**variables: str) -> str:
    """A process of its own: a provider can be set only once, and what was imported stays so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | variables
    command = [sys.executable, "-c", REQUEST_IN_A_PROCESS]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_when_off_the_sdk_is_not_even_imported() -> None:
    assert run_request() == "off False"


@pytest.mark.slow
def test_a_collector_that_is_gone_does_not_hold_up_the_end() -> None:
    assert run_request(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") == "on True"


@pytest.mark.slow
def test_when_on_a_requests_spans_reach_an_otlp_receiver() -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        state = run_request(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_RESOURCE_ATTRIBUTES="service.name=staging")
        server.shutdown()

    assert state == "on True"
    ((path, export),) = received
    assert path == "/v1/traces"
    (resource_spans,) = export.resource_spans
    names = [span.name for scope in resource_spans.scope_spans for span in scope.spans]
    assert sorted(names) == ["GET /api/spelling", "batch", "inference", "queue"]
    about = {attribute.key: attribute.value.string_value for attribute in resource_spans.resource.attributes}
    assert (about["service.name"], about["service.version"]) == ("staging", "0.1.0")
