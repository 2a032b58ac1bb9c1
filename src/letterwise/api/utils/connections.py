"""Connections that are kept only while they make sense of themselves.

uvicorn waits for ever for the head of a request, keeps however much there is of one, answers what is not HTTP in plain
text, and closes idle connections the moment it stops, often just when the next request is on its way. Here a head has a
time and a size, refusals look like all others, and idle connections get a last call. Knows HTTP's framing; knows
nothing about applications.
"""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from letterwise.api.schemas import Problem
from letterwise.api.utils.request_id import REQUEST_ID_HEADER

HEAD_SECONDS = 10.0
"""How long the head of a request may take: request line and headers."""
MAX_HEAD_BYTES = 32_768
LAST_CALL_SECONDS = 0.2
"""How long an idle connection stays open once the server stops: a request that is under way is answered."""


class _HeadTooLargeError(Exception):
    """Ends the parser's work; no request comes of this head."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection; uvicorn's `http` setting takes it."""

    _in_head = True
    _head_bytes = 0
    _too_large = False
    _head_timer: asyncio.TimerHandle | None = None
    _stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: whoever connects has something to say."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass the data on, unless the head has become too large."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._start_timer()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse_large_head()

    def on_headers_complete(self) -> None:
        """The head is there; the body's time and size are the application's business."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._too_large = True  # though it came in one piece, and has an end
            raise _HeadTooLargeError
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """What comes next is the head of another request; its clock starts with its first byte."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close soon; what arrives before is answered."""
        self._stopping = True
        if self._idle:
            asyncio.get_running_loop().call_later(LAST_CALL_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._idle and not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser did not take to its end, because it is not HTTP or too large."""
        if self._too_large:
            self._refuse_large_head()
        else:
            self._refuse(400, "Invalid request", "This is not a valid HTTP/1.1 request.")

    def _start_timer(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "Timeout", f"The request's headers took longer than {HEAD_SECONDS:g} s.")

    def _refuse_large_head(self) -> None:
        self._refuse(431, "Headers too large", f"Path and headers must not be larger than {MAX_HEAD_BYTES} bytes.")

    def _refuse(self, status: int, error: str, details: str) -> None:
        request_id = uuid.uuid4().hex
        body = Problem(error=error, details=details, request_id=request_id).model_dump_json().encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{REQUEST_ID_HEADER}: {request_id}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
