import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from letterwise.api.services.batching import Batch
from letterwise.api.utils import resources
from letterwise.api.utils.observability import MetricsMiddleware, ServiceMetrics
from letterwise.results import Estimate, EvaluationResults, ModelResults, ModeResults, TransferResults

NAMES = """
http_requests_total http_request_duration_seconds http_requests_in_flight queue_wait_seconds queue_length
queue_capacity queue_rejected_total batch_size inference_duration_seconds model_info model_loaded_timestamp_seconds
ready answers_total spelling_accuracy character_level_accuracy levenshtein_distance letter_count_accuracy
letter_position_accuracy correlation item_phi transfer_efficiency control_adjusted_gain generalization
canary_probes_total canary_probes_since_load canary_failures_total canary_last_probe_timestamp_seconds
cpu_limit_cores memory_limit_bytes
"""
"""What alerts and dashboards may name, each with the prefix letterwise_."""

NO_FIGURE = Estimate(value=None, reason="The gain in spelling accuracy is not significantly above zero.")


@pytest.fixture
def metrics() -> ServiceMetrics:
    return ServiceMetrics()


def tiny_app(metrics: ServiceMetrics) -> Starlette:
    async def spell(request: Request) -> PlainTextResponse:
        await request.body()
        assert metrics.registry.get_sample_value("letterwise_http_requests_in_flight") == 1
        return PlainTextResponse("c a t")

    async def fail(request: Request) -> PlainTextResponse:
        raise RuntimeError

    app = Starlette(
        routes=[Route("/api/spelling/words/{word}", spell, methods=["GET", "POST"]), Route("/fail", fail)],
    )
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    return app


@pytest.fixture
def client(metrics: ServiceMetrics) -> Iterator[TestClient]:
    with TestClient(tiny_app(metrics), raise_server_exceptions=False) as client:
        yield client


def test_every_metric_is_there_after_one_request(metrics: ServiceMetrics, client: TestClient) -> None:
    client.get("/api/spelling/words/cat")

    text = metrics.exposition("")[0].decode()

    named = set(re.findall(r"^# TYPE letterwise_(\w+) (?:counter|gauge|histogram)$", text, re.M))
    assert named - {name for name in named if name.endswith("_created")} == set(NAMES.split())
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"} <= set(
        re.findall(r"^# TYPE (\w+)", text, re.M)
    )


def test_requests_are_counted_by_route_not_by_path(metrics: ServiceMetrics, client: TestClient) -> None:
    for path in ("/api/spelling/words/cat", "/api/spelling/words/dog", "/fail", "/nowhere/1", "/nowhere/2"):
        client.get(path)
    client.request("BREW", "/nowhere")
    client.delete("/api/spelling/words/cat")

    assert requests_counted(metrics) == {
        ("/api/spelling/words/{word}", "GET", "200", "spelling"): 2,
        ("/api/spelling/words/{word}", "DELETE", "405", "spelling"): 1,
        ("/fail", "GET", "500", "none"): 1,
        ("unmatched", "GET", "404", "none"): 2,
        ("unmatched", "other", "404", "none"): 1,
    }
    labels = {"route": "/api/spelling/words/{word}", "method": "GET"}
    count = metrics.registry.get_sample_value("letterwise_http_request_duration_seconds_count", labels)
    assert count == 2
    assert metrics.registry.get_sample_value("letterwise_http_requests_in_flight") == 0


def requests_counted(metrics: ServiceMetrics) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels[label] for label in ("route", "method", "status", "task_type")): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "letterwise_http_requests_total"
    }


@pytest.mark.parametrize(
    "arriving",
    [
        [{"type": "http.request", "body": b"c", "more_body": True}, {"type": "http.disconnect"}],
        [{"type": "http.request", "body": b"cat"}, {"type": "http.disconnect"}],
    ],
    ids=["in the middle of its body", "before its answer"],
)
def test_a_client_that_left_is_counted_as_499(metrics: ServiceMetrics, arriving: list[Message]) -> None:
    ask(metrics, arriving)

    assert requests_counted(metrics) == {("/api/spelling/words/{word}", "POST", "499", "spelling"): 1}


def test_a_client_that_waits_for_its_answer_is_not(metrics: ServiceMetrics) -> None:
    ask(metrics, [{"type": "http.request", "body": b"c", "more_body": True}, {"type": "http.request", "body": b"at"}])

    assert requests_counted(metrics) == {("/api/spelling/words/{word}", "POST", "200", "spelling"): 1}


def ask(metrics: ServiceMetrics, arriving: list[Message]) -> None:
    """One POST whose messages arrive at once, and then nothing more."""

    async def receive() -> Message:
        if arriving:
            return arriving.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None: ...

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/spelling/words/cat",
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    with suppress(ClientDisconnect):
        asyncio.run(tiny_app(metrics)(scope, receive, send))


def test_a_cancelled_request_is_counted_as_499(metrics: ServiceMetrics) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        task = asyncio.create_task(MetricsMiddleware(never, metrics)(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancel())

    assert requests_counted(metrics) == {("unmatched", "GET", "499", "none"): 1}


def test_latency_lines_of_300_and_500_ms_are_bounds(metrics: ServiceMetrics, client: TestClient) -> None:
    client.get("/fail")

    bounds = set(re.findall(r'duration_seconds_bucket{le="([\d.]+)"', metrics.exposition("")[0].decode()))
    assert {"0.3", "0.5"} <= bounds


def test_accept_chooses_the_text_format(metrics: ServiceMetrics) -> None:
    body, content_type = metrics.exposition("*/*")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert any(family.name == "letterwise_ready" for family in text_string_to_metric_families(body.decode()))

    body, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def evaluation() -> tuple[EvaluationResults, TransferResults]:
    return (
        EvaluationResults(
            split="test",
            base_model=ModelResults(id="base", revision="1", metrics={"spelling_accuracy": 0.05}),
            finetuned_model=ModelResults(
                id="tuned",
                revision="1",
                metrics={
                    "spelling_accuracy": 0.4,
                    "character_level_accuracy": 0.8,
                    "levenshtein_distance": 0.1,
                    "letter_count_accuracy": 0.3,
                    "letter_position_accuracy": 0.5,
                },
            ),
            answer_modes={
                "direct": {
                    "base": ModeResults(metrics={"letter_count_accuracy": 0.2}),
                    "finetuned": ModeResults(metrics={"letter_count_accuracy": 0.3, "letter_position_accuracy": 0.5}),
                },
                "computed": {"finetuned": ModeResults(metrics={"letter_count_accuracy": 0.8})},
            },
        ),
        TransferResults(
            correlation={"letter_count": NO_FIGURE, "position_count": Estimate(value=0.9)},
            item_phi={"letter_count": Estimate(value=0.2), "position_count": NO_FIGURE},
            item_table={},
            transfer_efficiency={"letter_position": Estimate(value=0.25), "position_count": NO_FIGURE},
            control_adjusted_gain={"spelling": Estimate(value=0.3)},
            generalization=NO_FIGURE,
            checkpoints=[],
        ),
    )


def figures_shown(metrics: ServiceMetrics) -> dict[str, float]:
    found = re.findall(r'^letterwise_(\w+{.*source="evaluation".*}) (.+)$', metrics.exposition("")[0].decode(), re.M)
    return {re.sub(r'[{,]?source="evaluation"|["}]', "", name): float(value) for name, value in found}


def test_the_evaluation_is_shown_and_what_has_no_figure_is_absent(metrics: ServiceMetrics) -> None:
    metrics.observe_evaluation(*evaluation())

    assert figures_shown(metrics) == {
        "spelling_accuracy": 0.4,
        "character_level_accuracy": 0.8,
        "levenshtein_distance": 0.1,
        "letter_count_accuracy{mode=direct": 0.3,
        "letter_count_accuracy{mode=computed": 0.8,
        "letter_position_accuracy{mode=direct": 0.5,
        "correlation{mode=direct,question_type=position_count": 0.9,
        "item_phi{mode=direct,question_type=letter_count": 0.2,
        "transfer_efficiency{question_type=letter_position": 0.25,
        "control_adjusted_gain{question_type=spelling": 0.3,
    }


def test_the_figures_of_a_model_that_was_replaced_are_gone(metrics: ServiceMetrics) -> None:
    metrics.observe_evaluation(*evaluation())
    metrics.observe_model("base + old", "1", "transformers", "0.1.0")

    metrics.observe_evaluation(None, None)
    metrics.observe_model("base + new", "2", "openvino", "0.1.0")

    assert figures_shown(metrics) == {}
    infos = [
        line for line in metrics.exposition("")[0].decode().splitlines() if line.startswith("letterwise_model_info")
    ]
    assert infos == ['letterwise_model_info{engine="openvino",model="base + new",revision="2",version="0.1.0"} 1.0']


def test_the_report_is_null_where_there_is_no_figure(metrics: ServiceMetrics) -> None:
    metrics.observe_evaluation(*evaluation())

    assert metrics.report().model_dump() == {
        "spelling": {"accuracy": 0.4, "character_level_accuracy": 0.8, "levenshtein_distance": 0.1},
        "position_count": {"letter_count_accuracy": 0.3, "letter_position_accuracy": 0.5},
        "transfer_learning": {"correlation": 0.9, "transfer_efficiency": None},
        "live": {
            "spelling": {"accuracy": None, "character_level_accuracy": None, "levenshtein_distance": None},
            "position_count": {"letter_count_accuracy": None, "letter_position_accuracy": None},
            "transfer_learning": {"correlation": None, "transfer_efficiency": None},
        },
    }


def test_a_batch_is_counted_with_what_each_item_waited(metrics: ServiceMetrics) -> None:
    second = 10**9
    metrics.observe_batch(Batch("score", [0, 2 * second], [], started_ns=3 * second, ended_ns=4 * second))

    value = metrics.registry.get_sample_value
    assert value("letterwise_queue_wait_seconds_sum") == 3 + 1
    assert value("letterwise_batch_size_sum") == 2
    assert value("letterwise_inference_duration_seconds_sum", {"operation": "score"}) == 1


def test_answers_are_scored(metrics: ServiceMetrics) -> None:
    metrics.count_answer("letter_count", "computed", "finetuned", correct=False)

    labels = {"question_type": "letter_count", "mode": "computed", "model": "finetuned", "correct": "false"}
    assert metrics.registry.get_sample_value("letterwise_answers_total", labels) == 1


@pytest.mark.parametrize(("limit", "expected"), [("50000 100000", 0.5), ("max 100000", None)])
def test_processors_are_those_of_the_container(
    limit: str, expected: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(resources.hardware, "cpu_cores", lambda: 2)
    (tmp_path / "cpu.max").write_text(f"{limit}\n")

    assert resources.cpu_limit_cores() == (expected or 2)


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "CONTROL_GROUP", tmp_path)
    of_the_machine = resources.memory_limit_bytes()
    (tmp_path / "memory.max").write_text("1048576\n")

    assert resources.memory_limit_bytes() == 1048576 < of_the_machine
