"""Is the service alive, ready, and how does it do? And the playground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from letterwise import __version__
from letterwise.api.schemas import Health, Metrics, Readiness
from letterwise.api.state import answering_of, state_of

router = APIRouter(tags=["operations"])
STATIC = Path(__file__).parents[1] / "static"


@router.get("/", include_in_schema=False)
async def playground() -> FileResponse:
    """The page on which to try the model."""
    return FileResponse(STATIC / "index.html")


@router.get("/docs", include_in_schema=False)
async def documentation(request: Request) -> HTMLResponse:
    """Every route, to read and to try; the files of Swagger UI come from here, not from a CDN."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{request.app.title} {__version__}",
        swagger_js_url="swagger/swagger-ui-bundle.js",
        swagger_css_url="swagger/swagger-ui.css",
        swagger_favicon_url="static/favicon.svg",
    )


@router.get("/health")
async def health() -> Health:
    """The process is alive; says nothing about the model."""
    return Health(version=__version__)


@router.get("/ready")
async def ready(request: Request) -> Readiness:
    """The model is loaded, has answered a warm-up request, and the service is not stopping."""
    answering = await answering_of(request)
    model, settings = answering.model, state_of(request).settings
    return Readiness(
        model=model.name,
        revision=model.revision,
        engine=model.engine_name,
        models=list(model.engines),
        tasks=list(settings.tasks),
        max_batch_size=settings.max_batch_size,
        default_modes=answering.default_modes,
    )


@router.get("/metrics", response_model=Metrics, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
    """Performance of model and service: JSON where `Accept: application/json` asks for it, else Prometheus text."""
    measured = state_of(request).metrics
    if "application/json" in accept:
        return JSONResponse(measured.report().model_dump())
    body, content_type = measured.exposition(accept)
    return Response(body, media_type=content_type)
