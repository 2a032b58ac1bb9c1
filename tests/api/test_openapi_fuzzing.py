"""Thousands of requests made up from the OpenAPI description, well-formed and malformed: every answer is as described.

schemathesis makes the requests and judges the answers, with all of its checks. What is left out is in `explained`, case
by case and with the reason.
"""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import schemathesis.engine
from hypothesis import strategies
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.python.asgi import get_client, shutdown_lifespans
from scripted_model import ScriptedEngine, served
from transformers import PreTrainedTokenizerBase

from letterwise.api.app import create_app
from letterwise.api.settings import ServiceSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CASES = 5_000
"""Requests that all runs together must send."""
KEY = "sesame"
RUNS: dict[str, tuple[int, dict[str, object]]] = {
    "one task": (208, {"task_type": "spelling"}),
    "the other task": (208, {"task_type": "position_count"}),
    "both, with keys": (208, {"api_key": KEY}),
}
"""Examples that are drawn for each operation, and settings. Requests beyond them cover the schemas' edges."""

words = strategies.from_regex(r"\A[A-Za-z]{1,32}\Z")
schemathesis.openapi.format(
    "spelling-question",
    words
    | strategies.builds("How do you spell '{}'?".format, words)
    | strategies.builds("Spell the word {}".format, words)
    | strategies.builds("  “{}” ".format, words),
)


@pytest.fixture
def app_of(
    tiny_tokenizer: PreTrainedTokenizerBase,
    settings: Callable[..., ServiceSettings],
    in_tests: None,
) -> Iterator[Callable[..., Any]]:
    """A ready application around a scripted model, living in schemathesis's event loop."""

    def make(**given: object) -> Any:
        model = served(tiny_tokenizer, ScriptedEngine(answer="1"), ScriptedEngine(answer="2"))
        app = create_app(settings(max_wait_ms=0, **given), lambda _: model)
        with get_client(app) as client:
            while client.get("/ready").status_code != 200:
                time.sleep(0.02)
        return app

    yield make
    shutdown_lifespans()


def items_of(body: object) -> list[dict[str, Any]]:
    """The questions in a body: itself, or those of a batch."""
    items = body.get("items", [body]) if isinstance(body, dict) else []
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def beyond_the_word(body: object) -> bool:
    """Whether a question asks for a letter after the last one: two fields together, which no JSON Schema can say."""
    return any(
        isinstance(item.get("word"), str) and item.get("position", 0) > len(item["word"]) for item in items_of(body)
    )


def normalized(value: Any) -> Any:
    """The body as the service reads it: full-width letters and ligatures are plain ones, and spaces around go."""
    if isinstance(value, str):
        return unicodedata.normalize("NFKC", value).strip()
    if isinstance(value, dict):
        return {name: normalized(each) for name, each in value.items()}
    return [normalized(each) for each in value] if isinstance(value, list) else value


def explained(openapi: dict[str, Any]) -> Callable[..., bool]:
    """A hook that keeps every failure but those whose reason is known."""

    def filter_failure(context: Any, failure: Any, case: schemathesis.Case, response: Any) -> bool:
        if isinstance(failure, RejectedPositiveData):
            return not beyond_the_word(case.body)
        if isinstance(failure, AcceptedNegativeData) and isinstance(case.body, dict):
            definition = case.operation.definition.raw["requestBody"]["content"]["application/json"]["schema"]
            schema = {**definition, "components": openapi["components"]}
            return not jsonschema_rs.is_valid(schema, normalized(case.body))
        return True

    return filter_failure


def run(app: Any, examples: int) -> tuple[Counter[str], list[str]]:
    """Send everything; gives the number of requests for each operation, and what was wrong."""
    keys = {"openapi": {"bearer": {"bearer": KEY}, "api_key": {"api_key": KEY}}}
    secured = "securitySchemes" in app.openapi()["components"]
    config = schemathesis.Config.from_dict(
        {
            "generation": {"max-examples": examples, "deterministic": True},
            "continue-on-failure": True,
            **({"auth": keys} if secured else {}),
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    schema.hook(explained(app.openapi()))
    sent: Counter[str] = Counter()
    wrong: list[str] = []
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            wrong.append(repr(event))
        elif isinstance(event, events.ScenarioFinished):
            sent[str(event.label)] += len(event.recorder.interactions)
            wrong += [
                f"{event.label}: {check.name}: {check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info
            ]
    return sent, wrong


def test_every_answer_is_as_openapi_describes_it(app_of: Callable[..., Any]) -> None:
    total = 0
    for name, (examples, given) in RUNS.items():
        app = app_of(**given)
        sent, wrong = run(app, examples)
        assert not wrong, f"{name}: {len(wrong)} wrong answers\n" + "\n\n".join(wrong[:5])
        operations = {f"{method.upper()} {path}" for path, item in app.openapi()["paths"].items() for method in item}
        assert sent.keys() == operations
        total += sum(sent.values())
        print(f"{name}: {sum(sent.values()):,} requests")
    assert total >= CASES
