"""Run the service until it is told to stop.

Knows the server and its signals; knows nothing about routes.
"""

from __future__ import annotations

import math
import signal
import sys
from contextlib import suppress
from typing import Any

import uvicorn

from letterwise.api.app import create_app
from letterwise.api.services.loading import find_model, load_served
from letterwise.api.settings import ServiceSettings
from letterwise.api.state import ServiceState
from letterwise.api.utils.connections import GuardedProtocol
from letterwise.api.utils.logs import configure_logging
from letterwise.errors import LetterwiseError

SWITCH_SECONDS = 0.0005
"""How long the event loop may keep the interpreter from the model's thread, a tenth of Python's default: a forward pass
takes the interpreter back hundreds of times, and under load would wait that long each time."""

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than load balancers do (60 s is usual), for who closes first may meet a
request that is on its way."""


def serve(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT; then accept nothing more, finish what is in flight, and return.

    Raises:
        LetterwiseError: a setting does not make sense, or the model cannot be loaded.
    """
    source = find_model(settings)  # a wrong path is better said before a server starts
    first = True

    def load(settings: ServiceSettings) -> Any:
        nonlocal first
        found, first = (source if first else find_model(settings)), False
        return load_served(settings, found)

    sys.setswitchinterval(SWITCH_SECONDS)
    configure_logging(settings.log_level)  # before the server's first line
    app = create_app(settings, load)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=GuardedProtocol,
        # Our own formatter and access log are set up by the application.
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom to believe is decided where rates are limited (TRUST_PROXY_HEADERS).
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_seconds)),
    )
    # uvicorn raises the signal again once it has stopped; by then it has done its work.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server = uvicorn.Server(config)
    with suppress(SystemExit):  # uvicorn's own end when it cannot listen
        server.run()
    state: ServiceState = app.state.service
    if state.startup_error:
        raise LetterwiseError(state.startup_error)
    if not server.started:
        raise LetterwiseError(
            f"The service could not begin to listen on {settings.host}:{settings.port}; the log says why."
        )
