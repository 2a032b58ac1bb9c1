"""Clients that misbehave: slow, gone in the middle, or not speaking HTTP.

Knows sockets; knows nothing about what the service should make of it, but that each of these ends within a time.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable

BODY = b'{"word": "strawberry", "letter": "r", "mode": "direct"}'
HEAD = (
    b"POST /api/position_count/letter_count HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"X-API-Key: KEY\r\nContent-Length: " + str(len(BODY)).encode() + b"\r\n\r\n"
)
ENDS_WITHIN_SECONDS = 60.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Faults:
    """Each method is one misbehaving client; it gives the first line of the answer, or '' where there is none."""

    def __init__(self, host: str, port: int, key: str, seed: int) -> None:
        self.host, self.port = host, port
        self.head = HEAD.replace(b"KEY", key.encode())
        self.random = random.Random(seed)

    @property
    def kinds(self) -> list[Callable[[], Awaitable[str]]]:
        """All of them."""
        return [
            self.slow_headers,
            self.slow_body,
            self.gone_in_the_headers,
            self.gone_in_the_body,
            self.gone_before_the_answer,
            self.gone_in_the_answer,
            self.says_nothing,
            self.no_http,
            self.endless_chunks,
            self.two_lengths,
        ]

    async def slow_headers(self) -> str:
        """One byte at a time, for ever."""
        return await self._dribble(self.head[:-2] + b"X-More: more\r\n" * 10_000, 0.05)

    async def slow_body(self) -> str:
        """A head at once, a body that never ends."""
        return await self._dribble(BODY[:-1] + b" " * 10_000, 0.2, self.head.replace(b"Length: 5", b"Length: 1005"))

    async def gone_in_the_headers(self) -> str:
        """Closes before it has said all."""
        return await self._send_and_leave(self.head[: self.random.randrange(1, len(self.head))])

    async def gone_in_the_body(self) -> str:
        """Closes in the middle of its body."""
        return await self._send_and_leave(self.head + BODY[: self.random.randrange(len(BODY))])

    async def gone_before_the_answer(self) -> str:
        """Asks, and is gone without waiting."""
        return await self._send_and_leave(self.head + BODY)

    async def gone_in_the_answer(self) -> str:
        """Asks for a long answer, reads a little of it, and is gone."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = await reader.read(100)
        self._reset(writer)
        return first.partition(b"\r\n")[0].decode("latin-1")

    async def says_nothing(self) -> str:
        """Connects and waits a little."""
        _, writer = await asyncio.open_connection(self.host, self.port)
        await asyncio.sleep(self.random.uniform(0, 2))
        self._reset(writer)
        return ""

    async def no_http(self) -> str:
        """Noise."""
        noise = self.random.choice(
            [
                self.random.randbytes(500),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
                b"POST /api/spelling/predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                b"\r\n\r\n\r\n",
            ]
        )
        return await self._send_and_read(noise + b"\r\n\r\n")

    async def endless_chunks(self) -> str:
        """A body in chunks, without an end and larger than allowed."""
        head = self.head.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
        return await self._send_and_read(head + (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 100)

    async def two_lengths(self) -> str:
        """Both ways to say how long the body is, as in request smuggling."""
        return await self._send_and_read(self.head[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    async def _dribble(self, data: bytes, seconds: float, head: bytes = b"") -> str:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        answer = asyncio.create_task(reader.readline())
        try:
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                writer.write(head)
                for place in range(len(data)):
                    if answer.done():
                        break
                    writer.write(data[place : place + 1])
                    await writer.drain()
                    await asyncio.sleep(seconds)
                return (await answer).decode("latin-1").strip()
        except ConnectionError:
            return answer.result().decode("latin-1").strip() if answer.done() and not answer.exception() else ""
        finally:
            answer.cancel()
            self._reset(writer)

    async def _send_and_leave(self, data: bytes) -> str:
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(data)
        await asyncio.sleep(self.random.uniform(0, 0.05))
        self._reset(writer)
        return ""

    async def _send_and_read(self, data: bytes) -> str:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                writer.write(data)
                return (await reader.readline()).decode("latin-1").strip()
        except ConnectionError:
            return ""
        finally:
            self._reset(writer)

    @staticmethod
    def _reset(writer: asyncio.StreamWriter) -> None:
        """Close without a farewell: the service gets a reset, as from a machine that lost its network."""
        with_socket = writer.get_extra_info("socket")
        if with_socket is not None and not writer.is_closing():
            with_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
