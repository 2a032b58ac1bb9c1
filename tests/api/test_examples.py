"""The examples of docs/api.md and of OpenAPI are recorded, shown as recorded, and what a running service answers."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from letterwise.api import schemas
from letterwise.api.app import create_app
from letterwise.api.examples import Exchange, recording
from letterwise.api.settings import ServiceSettings
from letterwise.api.utils.errors import PROBLEM_RESPONSES
from letterwise.errors import LetterwiseError
from letterwise.models import EMBEDDED, resolve_base

DOCS = Path(__file__).parents[2] / "docs"
TOLERANCE = 0.1
"""Of probabilities: bfloat16 has three digits, and not every processor computes in it."""
VARYING = {"processing_time", "request_id", "version", "accuracy", "character_level_accuracy", "levenshtein_distance"}
VARYING |= {"letter_count_accuracy", "letter_position_accuracy", "correlation", "transfer_efficiency"}
"""Fields of which only the kind of value is compared."""

Settings = Callable[..., ServiceSettings]


@dataclass
class Example:
    """A request and its response, as the page has them."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    response_headers: dict[str, str]
    response: str


def message(block: str) -> tuple[list[str], dict[str, str], str]:
    """First line, headers and body."""
    head, _, body = block.partition("\n\n")
    first, *headers = head.splitlines()
    return first.split(" "), dict(header.split(": ", 1) for header in headers), body.rstrip("\n")


def examples_of_the_page() -> list[tuple[dict[str, str], str, list[Example]]]:
    """Each service that the page starts, with its settings and command, and what it is then asked."""
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    services: list[tuple[dict[str, str], str, list[Example]]] = []
    asked: tuple[list[str], dict[str, str], str] | None = None
    for language, block in re.findall(r"^```(sh|http)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "sh":
            parts = block.split()
            variables = list(takewhile(lambda part: "=" in part, parts))
            command = " ".join(parts[len(variables) :])
            services.append((dict(variable.split("=", 1) for variable in variables), command, []))
        elif asked is None:
            asked = message(block)
        else:
            (method, path, _), headers, body = asked
            (_, status), response_headers, response = message(block)
            services[-1][2].append(Example(method, path, headers, body, int(status), response_headers, response))
            asked = None
    assert asked is None, "a request has no response"
    return services


SERVICES = examples_of_the_page()
EXAMPLES = [example for _, _, examples in SERVICES for example in examples]


def test_the_page_shows_what_was_recorded() -> None:
    def as_recorded(text: str, recorded: Any) -> Any:
        return json.loads(text) if text and not isinstance(recorded, str) else text or None

    for (environment, command, examples), service in zip(SERVICES, recording().services, strict=True):
        assert (environment, command) == (service.environment, service.command)
        for example, recorded in zip(examples, service.exchanges, strict=True):
            assert (
                Exchange(
                    name=recorded.name,
                    title=recorded.title,
                    method=example.method,
                    path=example.path,
                    headers=example.headers,
                    body=as_recorded(example.body, recorded.body),
                    status=example.status,
                    response_headers=example.response_headers,
                    response=as_recorded(example.response, recorded.response),
                )
                == recorded
            )


def test_the_page_has_every_route_and_every_status(settings: Settings) -> None:
    paths = create_app(settings()).openapi()["paths"]
    answered = {(example.method, example.path) for example in EXAMPLES if example.status == 200}
    assert answered == {(method.upper(), path) for path, operations in paths.items() for method in operations}
    assert {example.status for example in EXAMPLES} == {200, *PROBLEM_RESPONSES}
    assert {json.loads(example.response)["error"] for example in EXAMPLES if example.status == 503} == {
        "Not ready",
        "Timeout",
        "Overloaded",
    }
    assert {example.headers.get("Accept") for example in EXAMPLES if example.path == "/metrics"} == {
        None,
        "application/json",
    }


def test_recorded_answers_have_the_fields_that_answers_have_now(settings: Settings) -> None:
    paths = create_app(settings()).openapi()["paths"]
    for exchange in recording().exchanges:
        model: Any = schemas.Problem
        if exchange.status == 200:
            answers = paths[exchange.path][exchange.method.lower()]["responses"]["200"]["content"]
            model = getattr(schemas, answers["application/json"]["schema"]["$ref"].split("/")[-1])
        if not isinstance(exchange.response, str):
            assert model.model_validate(exchange.response).model_dump(mode="json") == exchange.response


def test_openapi_shows_the_recorded_answers(settings: Settings) -> None:
    recorded = {exchange.name: exchange for exchange in recording().exchanges}
    for path, operations in create_app(settings()).openapi()["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                shown = {
                    name: example["value"]
                    for content in response["content"].values()
                    for name, example in content.get("examples", {}).items()
                }
                assert shown, f"{method} {path} has no example of {status}"
                for name, value in shown.items():
                    assert (value, status) == (recorded[name].response, str(recorded[name].status))
                    assert status != "200" or recorded[name].path == path
            if method == "post":
                content = operation["requestBody"]["content"]["application/json"]
                assert content["examples"].keys() == shown_of(operation, "200").keys()


def shown_of(operation: dict[str, Any], status: str) -> dict[str, Any]:
    examples: dict[str, Any] = operation["responses"][status]["content"]["application/json"]["examples"]
    return examples


def test_a_service_of_one_task_shows_the_examples_of_its_routes(settings: Settings) -> None:
    paths = create_app(settings(task_type="spelling")).openapi()["paths"]
    assert "/api/position_count/letter_count" not in paths
    assert shown_of(paths["/api/spelling/check"]["post"], "200").keys() == {"check"}


@pytest.fixture(scope="module")
def recorder() -> ModuleType:
    """What the script that records starts and asks services with."""
    spec = importlib.util.spec_from_file_location("example_services", DOCS / "example_services.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("environment", "command", "examples"), SERVICES, ids=["everything", "one task", "faulty"])
def test_a_running_service_answers_as_the_page_says(
    recorder: ModuleType, environment: dict[str, str], command: str, examples: list[Example]
) -> None:
    try:
        resolve_base(EMBEDDED)
    except LetterwiseError as error:
        pytest.skip(str(error))
    with recorder.running(environment, command) as client, ThreadPoolExecutor(1) as pool:
        # It takes ten seconds to be refused; the others are asked meanwhile.
        slow = [pool.submit(ask, recorder, client, example) for example in examples if example.status == 408]
        for example in examples:
            if example.path != "/health" and example.status != 503:
                recorder.wait_for(client, "/ready")
            response = slow.pop().result() if example.status == 408 else ask(recorder, client, example)
            where = f"{example.method} {example.path}"
            assert response.status_code == example.status, f"{where}: {response.text}"
            for name, value in example.response_headers.items():
                given = response.headers[name]
                varies = name in ("RateLimit", "Retry-After")
                assert (without_numbers(given) if varies else given) == (without_numbers(value) if varies else value)
            if example.response_headers["Content-Type"].startswith("application/json"):
                assert_alike(json.loads(example.response), response.json(), where)
            else:
                assert samples(example.response) <= samples(response.text)
            if "X-Request-ID" in example.headers:
                assert response.json()["request_id"] == example.headers["X-Request-ID"]


def ask(recorder: ModuleType, client: httpx2.Client, example: Example) -> httpx2.Response:
    request = (client, example.method, example.path, example.headers, example.body)
    if '"Overloaded"' in example.response:
        response: httpx2.Response = recorder.refused(*request)
    else:
        response = recorder.send(*request, ends=example.status != 408)
    return response


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "N", text)


def samples(text: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Names and labels of Prometheus samples, but for the version."""
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if name != "version"))
        for family in text_string_to_metric_families(f"{text}\n")
        for sample in family.samples
    }


def assert_alike(expected: Any, given: Any, where: str) -> None:
    """Equal but for what varies from request to request, and for the rounding of probabilities."""
    field = where.rpartition(".")[2]
    if isinstance(expected, dict):
        assert isinstance(given, dict), where
        assert expected.keys() == given.keys(), where
        for name, value in expected.items():
            assert_alike(value, given[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(expected) == len(given), where
        for place, (one, other) in enumerate(zip(expected, given, strict=True)):
            assert_alike(one, other, f"{where}[{place}]")
    elif field in VARYING:
        number = float | None if "/metrics" in where else float
        assert isinstance(given, str if isinstance(expected, str) else number), where
    elif field == "confidence":
        assert given == pytest.approx(expected, abs=TOLERANCE), where
    elif field == "details":
        assert without_numbers(given) == without_numbers(expected), where
    else:
        assert given == expected, where


def test_the_comparison_sees_a_difference() -> None:
    answer = {"count": 2, "confidence": 0.5, "processing_time": 0.1}
    assert_alike(answer, {"count": 2, "confidence": 0.52, "processing_time": 3.0}, "")
    for wrong in ({"count": 3}, {"confidence": 0.7}, {"processing_time": "0.1"}, {"mode": "direct"}):
        with pytest.raises(AssertionError):
            assert_alike(answer, answer | wrong, "")
