"""How often one caller may ask.

Knows callers as strings and counts their requests, in memory or in Redis; knows nothing about keys or routes.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request, Response
from limits import parse_many
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from letterwise.api.utils.errors import ServiceProblem
from letterwise.errors import LetterwiseError

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 0.5
"""How long Redis may take to connect or to answer."""
_PAUSE_SECONDS = 5.0
"""How long a failing Redis is left alone, so that requests do not all wait for its timeout."""
_WARNING_SECONDS = 60.0


@dataclass(frozen=True)
class Quota:
    """What a caller has left."""

    allowed: bool
    remaining: int
    """Requests."""
    reset: int
    """Whole seconds, at least one, until more are allowed."""


class RateLimiter:
    """Counts requests of each caller in a sliding window.

    The window's count is that of the current fixed window plus the previous one's, weighted by how much of it the
    sliding window still covers. A moving window would be exact, but stores a time for every request; two counters a
    caller are enough to refuse a flood, and cost Redis one short script a request.

    Args:
        rate: such as ``600/minute`` (syntax of the package `limits`), or ``off``.
        storage: ``memory://``, or a Redis URL where several replicas share the counts.

    Raises:
        LetterwiseError: `rate` or `storage` cannot be understood.
    """

    def __init__(self, rate: str, storage: str = "memory://") -> None:
        self.enabled = rate.strip().lower() != "off"
        self._paused_until = self._silent_until = -math.inf
        self._pool: ConnectionPool | None = None
        if not self.enabled:
            return
        try:
            (self._limit,) = parse_many(rate)
        except ValueError:
            raise LetterwiseError(f"RATE_LIMIT is {rate!r}; write one rate such as 600/minute, or off.") from None
        if self._limit.amount < 1:
            raise LetterwiseError("RATE_LIMIT lets nobody ask; write one rate such as 600/minute, or off.")
        try:
            self._strategy = SlidingWindowCounterRateLimiter(self._open(storage))
        except ValueError:
            # Not the URL itself, which may hold a password.
            raise LetterwiseError("RATE_LIMIT_STORAGE must be memory:// or such as redis://host:6379.") from None

    def _open(self, storage: str) -> Storage:
        url = urlsplit(storage)
        if url.scheme == "memory":
            return MemoryStorage()
        if url.scheme not in ("redis", "rediss"):
            raise ValueError("unknown scheme")
        self._place = f"{url.hostname or 'localhost'}:{url.port or 6379}"
        # Once more at once, because a connection that lay idle may have been closed.
        self._pool = ConnectionPool.from_url(
            storage,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        return RedisStorage(
            "async+redis://",
            wrap_exceptions=True,
            implementation="redispy",
            connection_pool=self._pool,  # type: ignore[arg-type]  # documented, but not in the annotation
        )

    @property
    def policy(self) -> str:
        """The limit as a RateLimit-Policy header says it."""
        return f'"default";q={self._limit.amount};w={self._limit.get_expiry()}'

    async def check(self) -> None:
        """Ask the storage for a sign of life; where it gives none, say so and go on, as when it fails later."""
        if self.enabled and not await self._strategy.storage.check():
            self._pause("it does not answer")

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.aclose()

    async def hit(self, caller: str) -> Quota | None:
        """Count one request of `caller`; None, and nothing counted, while the storage fails.

        A service without rate limits for a while is better than none, so a failing Redis stops nobody.
        """
        if time.monotonic() < self._paused_until:
            return None
        try:
            allowed = await self._strategy.hit(self._limit, caller)
            window = await self._strategy.get_window_stats(self._limit, caller)
        except StorageError as error:
            self._pause(error)
            return None
        return Quota(allowed, window.remaining, max(1, math.ceil(window.reset_time - time.time())))

    def _pause(self, reason: object) -> None:
        """Leave the storage alone for a while, and say why, but not each time."""
        now = time.monotonic()
        self._paused_until = now + _PAUSE_SECONDS
        if now >= self._silent_until:
            self._silent_until = now + _WARNING_SECONDS
            logger.warning("Rate limits are off while Redis at %s fails: %s", self._place, reason)


def limit_rate(limiter: RateLimiter, trust_proxy_headers: bool = False) -> Callable[..., Awaitable[None]]:
    """A FastAPI dependency that counts the request for its caller and refuses it over the limit.

    The caller is the key that `require_key` found, which therefore must come first, or else the client's address.
    Answers say what is left in the headers of draft-ietf-httpapi-ratelimit-headers (RateLimit-Policy and RateLimit),
    as the Hugging Face Hub does: unlike X-RateLimit-Reset, they have one meaning.

    Args:
        limiter: where requests are counted.
        trust_proxy_headers: take the address from X-Forwarded-For.
    """

    async def within_limit(request: Request, response: Response) -> None:
        if not limiter.enabled:
            return
        key = getattr(request.state, "caller", None)
        quota = await limiter.hit(f"key:{key}" if key else f"address:{_address(request, trust_proxy_headers)}")
        if quota is None:
            return
        headers = {
            "RateLimit-Policy": limiter.policy,
            "RateLimit": f'"default";r={quota.remaining};t={quota.reset}',
        }
        if not quota.allowed:
            raise ServiceProblem(
                429,
                "Too many requests",
                f"The limit for one caller is reached; ask again in {quota.reset} s.",
                headers={**headers, "Retry-After": str(quota.reset)},
            )
        response.headers.update(headers)

    return within_limit


def _address(request: Request, trust_proxy_headers: bool) -> str:
    """The client's address; of IPv6 the /64 network, since one client has all of its addresses."""
    address = request.client.host if request.client else "unknown"
    if trust_proxy_headers:
        # Only the last hop was written by our proxy; the ones before it came from the client.
        hops = ",".join(request.headers.getlist("X-Forwarded-For"))
        address = hops.rpartition(",")[2].strip() or address
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
