"""The quickest way to say no: requests that cannot be answered soon are refused before anything is done for them.

Where much more is asked than can be answered, the refusals are most of the work, and they take the processor from the
model. Knows paths and whether the queue is closed; knows nothing about bodies, keys or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from letterwise.api.utils.errors import ServiceProblem, problem_response


def overloaded() -> ServiceProblem:
    """What a refused request is told."""
    return ServiceProblem(
        503,
        "Overloaded",
        "More requests are waiting than can be answered soon; try again later.",
        {"Retry-After": "1"},
    )


class OverloadMiddleware:
    """Refuse requests to some routes while `closed` says so.

    Keys and bodies are not looked at, and what is refused does not count towards a caller's rate.

    Args:
        app: what answers the others.
        routes: those that need the queue, by path.
        closed: whether it takes nothing at the moment.
        on_refusal: called for each refused request.
    """

    def __init__(
        self, app: ASGIApp, routes: Mapping[str, Any], closed: Callable[[], bool], on_refusal: Callable[[], None]
    ) -> None:
        self.app = app
        self.routes = routes
        self.closed = closed
        self.on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and self.closed():
            route = self.routes.get(scope["path"].removeprefix(scope.get("root_path", "")))
            if route is not None:
                scope["route"] = route  # as the router would have, for the metrics
                self.on_refusal()
                await problem_response(overloaded())(scope, receive, send)
                return
        await self.app(scope, receive, send)
