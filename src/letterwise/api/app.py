"""The service: settings, routes and middlewares put together.

Start it with ``letterwise serve`` or ``uvicorn letterwise.api.app:app``. Knows no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles

from letterwise import __version__
from letterwise.api.examples import document_examples
from letterwise.api.lifecycle import LoadModel, living
from letterwise.api.routes import operations, position_count, spelling
from letterwise.api.services.batching import Batch, Batcher
from letterwise.api.services.loading import ServedModel, find_model, load_served
from letterwise.api.settings import ServiceSettings, load_settings
from letterwise.api.state import ServiceState
from letterwise.api.utils.auth import KeyRing, require_key
from letterwise.api.utils.errors import (
    ALWAYS,
    PROBLEM_RESPONSES,
    BodyLimitMiddleware,
    TimeoutMiddleware,
    install_error_handling,
)
from letterwise.api.utils.limits import RateLimiter, limit_rate
from letterwise.api.utils.logs import configure_logging
from letterwise.api.utils.observability import MetricsMiddleware, ServiceMetrics
from letterwise.api.utils.overload import OverloadMiddleware
from letterwise.api.utils.request_id import RequestIdMiddleware
from letterwise.api.utils.security_headers import SecurityHeadersMiddleware
from letterwise.api.utils.tracing import TracingMiddleware, configure_tracing, record_batch

INTRODUCTION = "A language model that was taught to spell, and nothing else."
ABILITIES = {"spelling": "It spells words.", "position_count": "It counts letters and names the letter at a position."}
HONESTY = "These answers are the model's own; nothing computes them from the word."
SPELL_CHECK = "Only the spell check does without the model: word lists and word frequencies answer there."


def load_model(settings: ServiceSettings) -> ServedModel:
    """Find and load what `MODEL_PATH` names.

    Raises:
        LetterwiseError: there is no such model, or it is broken.
    """
    return load_served(settings, find_model(settings))


def create_app(settings: ServiceSettings, load: LoadModel = load_model) -> FastAPI:
    """Make the application; the model is loaded once it has started.

    Args:
        settings: of the service.
        load: gives the model; run in a thread, at the start and at each reload.

    Raises:
        LetterwiseError: a setting does not make sense.
    """
    metrics = ServiceMetrics()

    def on_batch(batch: Batch) -> None:
        metrics.observe_batch(batch)
        record_batch(batch)

    batcher = Batcher(
        settings.max_batch_size,
        settings.max_wait_ms / 1000,
        settings.queue_size,
        settings.max_queue_ms / 1000,
        on_batch,
        metrics.queue_rejected.inc,
    )
    metrics.queue_capacity.set(settings.queue_size)
    metrics.queue_length.set_function(lambda: batcher.waiting)
    state = ServiceState(settings, metrics, batcher)
    metrics.ready.set_function(lambda: state.ready)
    keys = KeyRing(settings.api_key, settings.api_keys_file)
    limiter = RateLimiter(settings.rate_limit, settings.rate_limit_storage)
    stop_tracing = configure_tracing(__version__)

    app = FastAPI(
        title="letterwise",
        version=__version__,
        description=_description(settings),
        lifespan=_lifespan(state, load, limiter, stop_tracing),
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = state
    guards = [Depends(require_key(keys)), Depends(limit_rate(limiter, settings.trust_proxy_headers))]
    routers = {"spelling": spelling.router, "position_count": position_count.router}
    asking: dict[str, Any] = {}
    for task in settings.tasks:
        app.include_router(routers[task], dependencies=guards, responses=PROBLEM_RESPONSES)
        asking |= {getattr(route, "path", ""): route for route in routers[task].routes}
    for path in spelling.WITHOUT_MODEL:
        asking.pop(path, None)
    app.include_router(operations.router, responses={status: PROBLEM_RESPONSES[status] for status in ALWAYS})
    app.mount("/static", StaticFiles(directory=operations.STATIC), name="static")
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="swagger")

    # From here on the later one is the outer one: every answer, a middleware's too, is counted and has a request id.
    install_error_handling(app)
    _document_batch_size(app, settings.max_batch_size)
    document_examples(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(TimeoutMiddleware, seconds=settings.request_timeout_seconds)
    app.add_middleware(
        OverloadMiddleware,
        routes=asking,
        closed=lambda: batcher.closed,
        on_refusal=metrics.queue_rejected.inc,
    )
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy"],
        )
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    if stop_tracing:
        app.add_middleware(TracingMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app


def _description(settings: ServiceSettings) -> str:
    """What the service is, for OpenAPI; of a task that it leaves out, nothing."""
    parts = [INTRODUCTION, *(ABILITIES[task] for task in settings.tasks), HONESTY]
    if "spelling" in settings.tasks:
        parts.append(SPELL_CHECK)
    return " ".join(parts)


def _document_batch_size(app: FastAPI, most: int) -> None:
    """Let OpenAPI say how many items a batch may have, which is a setting."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        schema = build()
        for name, body in schema.get("components", {}).get("schemas", {}).items():
            if name.endswith("Batch"):
                body["properties"]["items"]["maxItems"] = most
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change it


def _lifespan(
    state: ServiceState, load: LoadModel, limiter: RateLimiter, stop_tracing: Callable[[], None] | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        configure_logging(state.settings.log_level)
        await limiter.check()
        async with living(state, load):
            yield
        await limiter.close()
        if stop_tracing:
            await asyncio.to_thread(stop_tracing)

    return lifespan


def __getattr__(name: str) -> Any:
    """`app` is made when a server asks for it: importing this module reads no environment."""
    if name == "app":
        return create_app(load_settings())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
