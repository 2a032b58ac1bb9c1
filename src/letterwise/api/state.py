"""What the routes of one application share.

Knows which services there are and when they can be asked; knows nothing about their work.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from letterwise.api.services.answering import AnsweringService
from letterwise.api.services.batching import Batcher
from letterwise.api.services.spell_checking import SpellChecker
from letterwise.api.settings import ServiceSettings
from letterwise.api.utils.errors import ServiceProblem
from letterwise.api.utils.observability import ServiceMetrics


@dataclass
class ServiceState:
    """The parts of a running service; `answering` and `checker` are there once the model has answered a warm-up."""

    settings: ServiceSettings
    metrics: ServiceMetrics
    batcher: Batcher
    answering: AnsweringService | None = None
    checker: SpellChecker | None = None
    draining: bool = False
    startup_error: str | None = None
    """Why the model could not be loaded; the process then ends."""

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.answering is not None and self.batcher.alive and not self.draining


def state_of(request: Request) -> ServiceState:
    """The state of the application that a request came to."""
    state = request.app.state.service
    assert isinstance(state, ServiceState)
    return state


async def answering_of(request: Request) -> AnsweringService:
    """The service that answers.

    Raises:
        ServiceProblem: 503, it is not ready.
    """
    state = state_of(request)
    if state.ready and state.answering is not None:
        return state.answering
    details = "The model is being loaded, or the service is stopping."
    if state.answering is not None and not state.draining:
        details = "The service is broken, and its logs say why; it must be restarted."
    raise ServiceProblem(503, "Not ready", details, {"Retry-After": "5"})


async def checker_of(request: Request) -> SpellChecker:
    """The spell checker.

    Raises:
        ServiceProblem: 503, it is not ready.
    """
    await answering_of(request)
    checker = state_of(request).checker
    assert checker is not None
    return checker
