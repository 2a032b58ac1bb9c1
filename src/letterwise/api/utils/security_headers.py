"""What every answer tells browsers and caches.

Knows headers and the paths that need other ones; knows nothing about what is answered.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
}
# Swagger UI starts from a script in its page, sets styles there and draws its icons from data URLs.
_DOCS_POLICY = (
    f"{_SECURITY_HEADERS['Content-Security-Policy']}; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class SecurityHeadersMiddleware:
    """Tell browsers to run nothing but our own files, and caches to keep no answer of the API.

    A route that sets one of these headers itself keeps its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if path == "/docs":
                    headers.setdefault("Content-Security-Policy", _DOCS_POLICY)
                if path.startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)
