"""Prometheus metrics: what the service counts, and the middleware that counts requests.

Knows the names of all metrics; knows nothing about models or how a request is answered. Logs and traces are beside it,
in `logs` and `tracing`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from http import HTTPMethod
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from letterwise.api.schemas import Metrics
from letterwise.api.utils.figures import Figures, FiguresCollector, Source
from letterwise.api.utils.logs import TASK_TYPE, log_access
from letterwise.api.utils.resources import cpu_limit_cores, memory_limit_bytes
from letterwise.config import ANSWER_MODES, AnswerMode
from letterwise.results import TASKS, Estimate, EvaluationResults, Task, TransferResults

if TYPE_CHECKING:
    from letterwise.api.services.batching import Batch

# The service is judged by 300 and 500 ms, so both are bounds.
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
_WORK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServiceMetrics:
    """All metrics of one application; public attributes are named as the metrics, without their prefix and unit."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register all collectors.

        Args:
            registry: where; by default a registry of its own, so that several applications fit in one process.
        """
        self.registry = registry = registry or CollectorRegistry()
        counter = partial(Counter, namespace="letterwise", registry=registry)
        gauge = partial(Gauge, namespace="letterwise", registry=registry)
        histogram = partial(Histogram, namespace="letterwise", registry=registry)

        self.http_requests = counter(
            "http_requests_total",
            "Requests answered; status 499: the client left before its answer.",
            ("route", "method", "status", "task_type"),
        )
        self.http_request_duration = histogram(
            "http_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            ("route", "method"),
            buckets=_REQUEST_SECONDS,
        )
        self.http_requests_in_flight = gauge("http_requests_in_flight", "Requests being answered.")
        self.queue_wait = histogram(
            "queue_wait_seconds", "From an item's arrival to the start of its batch.", buckets=_WORK_SECONDS
        )
        self.queue_length = gauge("queue_length", "Items waiting for the model.")
        self.queue_capacity = gauge("queue_capacity", "Most items that may wait.")
        self.queue_rejected = counter("queue_rejected_total", "Requests refused because too much was waiting.")
        self.batch_size = histogram("batch_size", "Prompts in a batch.", buckets=_BATCH_SIZES)
        self.inference_duration = histogram(
            "inference_duration_seconds", "Time the model took for a batch.", ("operation",), buckets=_WORK_SECONDS
        )
        self.model_info = gauge("model_info", "The model served.", ("model", "revision", "engine", "version"))
        self.model_loaded_timestamp = gauge("model_loaded_timestamp_seconds", "When the model was loaded.")
        self.ready = gauge(
            "ready",
            "1 when requests are answered; 0 while the model is loaded, and while the service stops or is broken.",
        )
        self.answers = counter(
            "answers_total",
            "Answers to requests, scored against the truth.",
            ("question_type", "mode", "model", "correct"),
        )
        self.canary_probes = counter(
            "canary_probes_total", "Canary's questions answered.", ("question_type", "mode", "correct")
        )
        self.canary_probes_since_load = gauge(
            "canary_probes_since_load", "Canary's probes answered by the model served now; live figures are its alone."
        )
        self.canary_failures = counter("canary_failures_total", "Canary's probes that got no answer.")
        self.canary_last_probe_timestamp = gauge(
            "canary_last_probe_timestamp_seconds", "When the canary last got its answers; 0: never."
        )
        gauge("cpu_limit_cores", "Processor cores that the service may use.").set(cpu_limit_cores())
        gauge("memory_limit_bytes", "Memory that the service may use.").set(memory_limit_bytes())
        self._figures = FiguresCollector()
        registry.register(self._figures)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=registry)

    def observe_model(self, model: str, revision: str, engine: str, version: str) -> None:
        """Say what is served from now on; `version` is that of letterwise."""
        self.model_info.clear()
        self.model_info.labels(model, revision, engine, version).set(1)
        self.model_loaded_timestamp.set_to_current_time()

    def observe_evaluation(self, results: EvaluationResults | None, transfer: TransferResults | None) -> None:
        """Show the figures of the evaluation whose files lie beside the served adapter; None where there is none."""
        tuned = results.finetuned_model.metrics if results and results.finetuned_model else {}
        modes = _by_mode(results) if results else {}
        self.observe_figures(
            "evaluation",
            Figures(
                spelling_accuracy=tuned.get("spelling_accuracy"),
                character_level_accuracy=tuned.get("character_level_accuracy"),
                levenshtein_distance=tuned.get("levenshtein_distance"),
                letter_count_accuracy=_of_each(modes, "letter_count_accuracy"),
                letter_position_accuracy=_of_each(modes, "letter_position_accuracy"),
                generalization=tuned.get("generalization"),
                correlation={"direct": _values(transfer.correlation)} if transfer else {},
                item_phi={"direct": _values(transfer.item_phi)} if transfer else {},
                transfer_efficiency=_values(transfer.transfer_efficiency) if transfer else {},
                control_adjusted_gain=_values(transfer.control_adjusted_gain) if transfer else {},
            ),
        )

    def observe_figures(self, source: Source, figures: Figures) -> None:
        """Replace all figures of a source."""
        self._figures.figures[source] = figures

    def observe_batch(self, batch: Batch) -> None:
        """Count a batch that is over."""
        for arrived_ns in batch.arrivals_ns:
            self.queue_wait.observe((batch.started_ns - arrived_ns) / 1e9)
        self.batch_size.observe(len(batch.arrivals_ns))
        self.inference_duration.labels(batch.operation).observe((batch.ended_ns - batch.started_ns) / 1e9)

    def count_answer(self, question_type: str, mode: str, model: str, correct: bool) -> None:
        """Score an answer to a user's request.

        Args:
            question_type: 'spelling', 'letter_count' or 'letter_position'.
            mode: an `AnswerMode`; 'direct' for spelling.
            model: a `schemas.ModelName`.
            correct: whether the answer is the truth.
        """
        self.answers.labels(question_type, mode, model, str(correct).lower()).inc()

    def count_probe(self, question_type: str, mode: str, correct: bool) -> None:
        """Score an answer to the canary; the arguments are those of `count_answer`."""
        self.canary_probes.labels(question_type, mode, str(correct).lower()).inc()

    def forget_canary(self) -> None:
        """Begin the live figures anew, for another model; counters go on, as counters do."""
        self.observe_figures("canary", Figures())
        self.canary_probes_since_load.set(0)

    def report(self) -> Metrics:
        """The figures of the evaluation and, live, of the canary."""
        evaluation, live = (self._figures.figures[source].report() for source in ("evaluation", "canary"))
        return Metrics(**dict(evaluation), live=live)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the Prometheus text format, or in OpenMetrics where the Accept header `accept` asks for it.

        Returns:
            The body, and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _by_mode(results: EvaluationResults) -> dict[AnswerMode, Mapping[str, float]]:
    """Metrics of the tuned model in each answer mode that was evaluated."""
    tuned = {mode: results.answer_modes.get(mode, {}).get("finetuned") for mode in ANSWER_MODES}
    return {mode: of_mode.metrics for mode, of_mode in tuned.items() if of_mode}


def _of_each(modes: Mapping[AnswerMode, Mapping[str, float]], name: str) -> dict[AnswerMode, float]:
    return {mode: metrics[name] for mode, metrics in modes.items() if name in metrics}


def _values(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in estimates.items() if estimate.value is not None}


def route_label(scope: Scope) -> str:
    """The template of the route that the router found; the path itself may be anything, so it is never a label."""
    return getattr(scope.get("route"), "path", "unmatched")


def method_label(scope: Scope) -> str:
    """The HTTP method; 'other' for one that a client made up."""
    method: str = scope["method"]
    return method if method in HTTPMethod.__members__ else "other"


class MetricsMiddleware:
    """Counts requests and their durations, and writes the access log. Pure ASGI."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        task = _task_of(scope)
        exchange = _Exchange(scope, receive, send)
        started = time.perf_counter()
        token = TASK_TYPE.set(task)
        self.metrics.http_requests_in_flight.inc()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            exchange.aborted = True
            raise
        finally:
            seconds = time.perf_counter() - started
            self.metrics.http_requests_in_flight.dec()
            # The router has filled in the route on the way.
            route, method, status = route_label(scope), method_label(scope), exchange.status
            self.metrics.http_requests.labels(route, method, status, task or "none").inc()
            self.metrics.http_request_duration.labels(route, method).observe(seconds)
            log_access(method, route, status, seconds)
            TASK_TYPE.reset(token)


def _task_of(scope: Scope) -> Task | None:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return next((task for task in TASKS if path.startswith(f"/api/{task}/")), None)


class _Exchange:
    """A request and its answer, watched as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.aborted = False
        self._scope, self._receive, self._send = scope, receive, send
        self._received = self._answered = False
        # An application that raises before it answers gets this from the server.
        self._status = 500

    @property
    def status(self) -> str:
        """Of the answer; 499 when nobody was left to take it, as nginx has it."""
        return "499" if self.aborted else str(self._status)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.aborted |= not self._answered
        elif not message.get("more_body", False):
            self._received = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            # An application at work does not listen, and servers drop what is sent to nobody: look, without waiting.
            # Before the end of the body this would swallow a part of it.
            if self._received and not self.aborted:
                self.aborted = await Request(self._scope, self._receive).is_disconnected()
        self._answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)
