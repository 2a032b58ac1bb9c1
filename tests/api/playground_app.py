"""A stand-in for the service, with a scripted model that is wrong on purpose; no model is loaded.

To look at the playground: ``uvicorn --app-dir tests/api --factory playground_app:create_app``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import letterwise.api.schemas as bodies
from letterwise import __version__
from letterwise.api.inputs import word_in_question

STATIC = Path(bodies.__file__).parent / "static"
CONTENT_SECURITY_POLICY = "default-src 'self'"
HOSTILE = "<img/src=x/onerror=\"document.title='hostile'\">"

TOKENS = {"strawberry": ["str", "aw", "berry"], "rhythm": ["rh", "ythm"], "hostile": [HOSTILE, "tile"]}
MISSPELLED = {"recieve": "receive", "algoritm": "algorithm"}
REFUSALS = {"busy": (429, "7"), "overloaded": (503, "2"), "broken": (500, None)}
"""Words that are refused, each with its status and Retry-After."""


def refusal(status: int, details: str, retry_after: str | None = None) -> JSONResponse:
    problem = bodies.Problem(error=f"Problem {status}", details=details, request_id="request-1")
    return JSONResponse(
        problem.model_dump(),
        status,
        {"X-Request-ID": "request-1"} | ({"Retry-After": retry_after} if retry_after else {}),
    )


class Refused(Exception):  # noqa: N818 - not an error of this app
    def __init__(self, status: int, details: str, retry_after: str | None = None) -> None:
        self.response = refusal(status, details, retry_after)


def refuse_scripted(word: str) -> None:
    if word in REFUSALS:
        status, retry_after = REFUSALS[word]
        raise Refused(status, "scripted", retry_after)


class ScriptedModel:
    """Right but for the letter after a doubled one (and, as `base`, every vowel), with a fixed confidence for each."""

    def __init__(self, name: bodies.ModelName) -> None:
        self.name = name

    def spelling(self, word: str) -> str:
        spelled = word.replace("rr", "r").replace("tt", "t")
        return spelled.replace("e", "a").replace("y", "i") if self.name == "base" else spelled

    def spell(self, request: bodies.SpellingRequest) -> bodies.SpellingAnswer:
        word = word_in_question(request.text)
        refuse_scripted(word)
        spelled = self.spelling(word)
        return bodies.SpellingAnswer(
            input=request.text,
            output=f"{word} is spelled {'-'.join(spelled)}.",
            word=word,
            tokens=TOKENS.get(word, [word]),
            letters=[
                bodies.SpelledLetter(letter=letter, confidence=1 - 0.07 * place % 0.9)
                for place, letter in enumerate(spelled)
            ],
            model=self.name,
            expected=word if request.verify else None,
            correct=spelled == word if request.verify else None,
            confidence=0.62,
            processing_time=0.01,
        )

    def count(self, request: bodies.LetterCountRequest) -> bodies.LetterCountAnswer:
        refuse_scripted(request.word)
        spelled, truth = self.spelling(request.word), request.word.count(request.letter)
        count = spelled.count(request.letter)
        return bodies.LetterCountAnswer(
            word=request.word,
            letter=request.letter,
            count=count,
            mode=request.mode or "computed",
            model=self.name,
            spelling=None if request.mode == "direct" else spelled,
            expected=truth if request.verify else None,
            correct=count == truth if request.verify else None,
            confidence=0.91 if count < 2 else 0.48,
            processing_time=0.01,
        )

    def letter_at(self, request: bodies.LetterPositionRequest) -> bodies.LetterPositionAnswer:
        refuse_scripted(request.word)
        spelled, truth = self.spelling(request.word), request.word[request.position - 1]
        letter = spelled[request.position - 1] if request.position <= len(spelled) else None
        return bodies.LetterPositionAnswer(
            word=request.word,
            position=request.position,
            letter=letter,
            mode=request.mode or "computed",
            model=self.name,
            spelling=None if request.mode == "direct" else spelled,
            expected=truth if request.verify else None,
            correct=letter == truth if request.verify else None,
            confidence=0.997 if request.position == 1 else 0.74,
            processing_time=0.01,
        )


def check(request: bodies.SpellCheckRequest) -> bodies.SpellCheckAnswer:
    refuse_scripted(request.word)
    suggestion = MISSPELLED.get(request.word)
    return bodies.SpellCheckAnswer(
        word=request.word, is_correct=suggestion is None, suggestion=suggestion, confidence=0.83, processing_time=0.01
    )


def create_app(
    *,
    api_key: str | None = None,
    models: tuple[bodies.ModelName, ...] = ("finetuned", "base"),
    tasks: tuple[str, ...] = ("spelling", "position_count"),
    max_batch_size: int = 32,
    refuse_first: int = 0,
) -> FastAPI:
    """The service, asking for `api_key`; the first `refuse_first` questions are refused with 503."""
    app = FastAPI(title="letterwise")
    app.state.requests = requests = Counter[str]()
    scripted: dict[str, ScriptedModel] = {name: ScriptedModel(name) for name in models}

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        requests[path] += 1
        if api_key and path.startswith("/api") and request.headers.get("Authorization") != f"Bearer {api_key}":
            return refusal(401, "send a key as Authorization: Bearer KEY")
        if path.startswith("/api") and sum(count for path, count in requests.items() if "/api" in path) <= refuse_first:
            return refusal(503, "the queue is full", "0")
        response = await call_next(request)
        if not path.startswith(("/docs", "/openapi")):
            response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return error.response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return refusal(400, error.errors()[0]["msg"])

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, error.detail)

    @app.get("/health")
    def health() -> bodies.Health:
        return bodies.Health(version=__version__)

    @app.get("/ready")
    def ready() -> bodies.Readiness:
        return bodies.Readiness(
            model="scripted + adapter",
            revision="1",
            engine="scripted",
            models=list(models),
            tasks=list(tasks),
            max_batch_size=max_batch_size,
            default_modes={"letter_count": "computed", "letter_position": "computed"},
        )

    @app.get("/metrics", response_model=None)
    def metrics(request: Request) -> bodies.Metrics | Response:
        if "application/json" not in request.headers.get("Accept", ""):
            return PlainTextResponse("# HELP letterwise_requests_total Requests.\n")
        report = bodies.MetricsReport(
            spelling=bodies.SpellingMetrics(accuracy=0.5, character_level_accuracy=0.8, levenshtein_distance=None),
            position_count=bodies.PositionCountMetrics(letter_count_accuracy=0.4, letter_position_accuracy=None),
            transfer_learning=bodies.TransferMetrics(correlation=None, transfer_efficiency=None),
        )
        return bodies.Metrics(**dict(report), live=report)

    def limited(items: list[bodies.Request] | list[bodies.SpellCheckRequest]) -> None:
        if len(items) > max_batch_size:
            raise Refused(400, f"give at most {max_batch_size} items")

    spelling, position_count = APIRouter(prefix="/api/spelling"), APIRouter(prefix="/api/position_count")

    @spelling.post("/predict")
    def predict(request: bodies.SpellingRequest) -> bodies.SpellingAnswer:
        return scripted[request.model].spell(request)

    @spelling.post("/predict/batch")
    def predict_batch(batch: bodies.SpellingBatch) -> bodies.SpellingAnswers:
        limited(batch.items)
        return bodies.SpellingAnswers(results=[predict(item) for item in batch.items], processing_time=0.1)

    @spelling.post("/check")
    def check_one(request: bodies.SpellCheckRequest) -> bodies.SpellCheckAnswer:
        return check(request)

    @spelling.post("/check/batch")
    def check_batch(batch: bodies.SpellCheckBatch) -> bodies.SpellCheckAnswers:
        limited(batch.items)
        return bodies.SpellCheckAnswers(results=[check(item) for item in batch.items], processing_time=0.1)

    @position_count.post("/letter_count")
    def letter_count(request: bodies.LetterCountRequest) -> bodies.LetterCountAnswer:
        return scripted[request.model].count(request)

    @position_count.post("/letter_count/batch")
    def letter_count_batch(batch: bodies.LetterCountBatch) -> bodies.LetterCountAnswers:
        limited(batch.items)
        return bodies.LetterCountAnswers(results=[letter_count(item) for item in batch.items], processing_time=0.1)

    @position_count.post("/letter_position")
    def letter_position(request: bodies.LetterPositionRequest) -> bodies.LetterPositionAnswer:
        return scripted[request.model].letter_at(request)

    @position_count.post("/letter_position/batch")
    def letter_position_batch(batch: bodies.LetterPositionBatch) -> bodies.LetterPositionAnswers:
        limited(batch.items)
        results = [letter_position(item) for item in batch.items]
        return bodies.LetterPositionAnswers(results=results, processing_time=0.1)

    for task, router in (("spelling", spelling), ("position_count", position_count)):
        if task in tasks:
            app.include_router(router)

    @app.get("/", include_in_schema=False)
    def playground() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a free port of this machine; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
