import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from fakeredis import TcpFakeServer
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from letterwise.api.utils import limits
from letterwise.api.utils.auth import KeyRing, require_key
from letterwise.api.utils.errors import install_error_handling
from letterwise.api.utils.limits import Quota, RateLimiter, limit_rate
from letterwise.errors import LetterwiseError


def app_of(limiter: RateLimiter, keys: str = "", trust_proxy_headers: bool = False) -> FastAPI:
    app = FastAPI()
    install_error_handling(app)
    guards = [Depends(require_key(KeyRing(SecretStr(keys)))), Depends(limit_rate(limiter, trust_proxy_headers))]

    @app.get("/", dependencies=guards)
    async def answer() -> None: ...

    return app


def client_of(app: FastAPI, address: str = "192.0.2.1") -> TestClient:
    return TestClient(app, client=(address, 50000))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis may take its time, as it does on a busy machine."""
    monkeypatch.setattr(limits, "_TIMEOUT_SECONDS", 10)


@contextmanager
def redis_at(port: int) -> Iterator[None]:
    """A Redis that speaks the real protocol and runs the real scripts, in this process."""
    server = TcpFakeServer(("127.0.0.1", port))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


# In memory


def test_requests_over_the_rate_are_refused_with_the_time_to_wait() -> None:
    client = client_of(app_of(RateLimiter("2/hour")))
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
    refused = client.get("/")
    wait = int(refused.headers["Retry-After"])
    assert 1 <= wait <= 3600
    assert refused.json()["error"] == "Too many requests"
    assert refused.json()["details"] == f"The limit for one caller is reached; ask again in {wait} s."


def test_answers_say_what_is_left() -> None:
    client = client_of(app_of(RateLimiter("2/hour")))
    answers = [client.get("/") for _ in range(3)]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"default";q=2;w=3600'}
    left = [answer.headers["RateLimit"].split(";t=") for answer in answers]
    assert [remaining for remaining, _ in left] == ['"default";r=1', '"default";r=0', '"default";r=0']
    assert all(1 <= int(wait) <= 3600 for _, wait in left)


def test_refused_caller_may_ask_again_later() -> None:
    client = client_of(app_of(RateLimiter("1/second")))
    assert client.get("/").status_code == 200
    # Not always the second request: the window may end between the two.
    refused = next(answer for answer in iter(lambda: client.get("/"), None) if answer.status_code == 429)
    time.sleep(int(refused.headers["Retry-After"]))
    assert client.get("/").status_code == 200


def test_each_key_has_its_own_limit_whatever_the_address() -> None:
    app = app_of(RateLimiter("1/hour"), keys="first,second")
    home, office = client_of(app, "192.0.2.1"), client_of(app, "192.0.2.2")
    assert home.get("/", headers={"X-API-Key": "first"}).status_code == 200
    assert office.get("/", headers={"X-API-Key": "first"}).status_code == 429
    assert home.get("/", headers={"X-API-Key": "second"}).status_code == 200


def test_wrong_keys_do_not_use_up_the_limit_of_others() -> None:
    client = client_of(app_of(RateLimiter("1/hour"), keys="first"))
    assert client.get("/", headers={"X-API-Key": "wrong"}).status_code == 401
    assert client.get("/", headers={"X-API-Key": "first"}).status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_without_keys_each_address_has_its_own_limit(one: str, other: str, same: bool) -> None:
    app = app_of(RateLimiter("1/hour"))
    assert client_of(app, one).get("/").status_code == 200
    assert client_of(app, other).get("/").status_code == (429 if same else 200)


def test_forwarded_address_counts_only_behind_a_trusted_proxy() -> None:
    def statuses(trust: bool, *forwarded: str) -> list[int]:
        client = client_of(app_of(RateLimiter("1/hour"), trust_proxy_headers=trust))
        return [client.get("/", headers={"X-Forwarded-For": hops}).status_code for hops in forwarded]

    assert statuses(False, "198.51.100.1", "198.51.100.2") == [200, 429]
    assert statuses(True, "198.51.100.1", "198.51.100.2") == [200, 200]
    # What stands before the proxy's own entry was made up by the client.
    assert statuses(True, "10.0.0.1, 198.51.100.1", "10.0.0.2, 198.51.100.1") == [200, 429]
    # A proxy that set nothing of use is one client.
    assert statuses(True, "", "") == [200, 429]


def test_off_counts_nothing() -> None:
    client = client_of(app_of(RateLimiter("off", "redis://no.such.host")))
    answers = [client.get("/") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers


@pytest.mark.parametrize("rate", ["", "fast", "10", "10/fortnight", "0/minute", "-1/minute", "1/second; 9/minute"])
def test_rate_that_cannot_be_understood_stops_the_start(rate: str) -> None:
    with pytest.raises(LetterwiseError, match="write one rate such as 600/minute, or off"):
        RateLimiter(rate)


@pytest.mark.parametrize("storage", ["", "disk://x", "redis", "redis://:secret@host:port"])
def test_storage_that_cannot_be_understood_stops_the_start_unshown(storage: str) -> None:
    with pytest.raises(LetterwiseError, match="RATE_LIMIT_STORAGE must be") as caught:
        RateLimiter("1/minute", storage)
    assert "secret" not in str(caught.value)


# In Redis


@pytest.mark.usefixtures("patient")
def test_replicas_share_their_counts_in_redis() -> None:
    port = free_port()
    replicas = [RateLimiter("3/hour", f"redis://127.0.0.1:{port}/0") for _ in range(2)]

    async def ask() -> list[tuple[bool, int]]:
        quotas = []
        for replica in [*replicas, *replicas]:
            await replica.check()
            quota = await replica.hit("key:1234")
            assert quota is not None
            quotas.append((quota.allowed, quota.remaining))
        for replica in replicas:
            await replica.close()
        return quotas

    with redis_at(port):
        assert asyncio.run(ask()) == [(True, 2), (True, 1), (True, 0), (False, 0)]


def test_redis_that_does_not_answer_at_the_start_lets_everybody_pass_without_showing_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = RateLimiter("1/minute", f"redis://:secret@127.0.0.1:{free_port()}/0")

    async def start_and_ask() -> Quota | None:
        await limiter.check()
        return await limiter.hit("key:1234")

    assert asyncio.run(start_and_ask()) is None
    (message,) = caplog.messages
    assert re.fullmatch(r"Rate limits are off while Redis at 127\.0\.0\.1:\d+ fails: it does not answer", message)


@pytest.mark.usefixtures("patient")
def test_counting_begins_when_redis_comes_up_after_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PAUSE_SECONDS", 0.05)
    port = free_port()
    limiter = RateLimiter("1/hour", f"redis://127.0.0.1:{port}")

    async def start_and_ask() -> list[bool | None]:
        await limiter.check()
        with redis_at(port):
            await asyncio.sleep(0.1)
            quotas = [await limiter.hit("key:1234") for _ in range(2)]
            await limiter.close()
        return [quota and quota.allowed for quota in quotas]

    assert asyncio.run(start_and_ask()) == [True, False]


def test_memory_needs_no_start() -> None:
    asyncio.run(RateLimiter("1/minute").check())
    asyncio.run(RateLimiter("off", "redis://no.such.host").check())


def test_redis_that_fails_later_lets_everybody_pass_and_is_told_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(now=0, monotonic=lambda: clock.now)
    monkeypatch.setattr(limits, "time", clock)
    client = client_of(app_of(RateLimiter("1/hour", f"redis://:secret@127.0.0.1:{free_port()}")))
    messages = []
    for clock.now in range(0, 120, 2):
        assert client.get("/").status_code == 200
        messages.append(len(caplog.messages))
    assert messages == [1] * 30 + [2] * 30
    assert "Rate limits are off while Redis at 127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_failing_redis_is_left_alone_for_a_while() -> None:
    """A Redis that accepts connections and says nothing costs its timeout once, not once a request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limiter = RateLimiter("1/hour", f"redis://127.0.0.1:{silent.getsockname()[1]}")

        async def ask() -> float:
            assert await limiter.hit("key:1234") is None
            started = time.perf_counter()
            for _ in range(100):
                assert await limiter.hit("key:1234") is None
            elapsed = time.perf_counter() - started
            await limiter.close()
            return elapsed

        assert asyncio.run(ask()) < 1


@pytest.mark.usefixtures("patient")
def test_counting_begins_again_when_redis_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_PAUSE_SECONDS", 0.05)
    port = free_port()
    limiter = RateLimiter("1/hour", f"redis://127.0.0.1:{port}")

    async def ask() -> list[bool | None]:
        quotas = [await limiter.hit("key:1234")]
        with redis_at(port):
            await asyncio.sleep(0.1)
            quotas += [await limiter.hit("key:1234") for _ in range(2)]
            await limiter.close()
        return [quota and quota.allowed for quota in quotas]

    assert asyncio.run(ask()) == [None, True, False]
