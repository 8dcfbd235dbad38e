"""A minimal NATS client that keeps a number of requests in flight and takes the time of each answer.

The client must not limit a measurement. So it knows only PUB, SUB, MSG, HMSG, PING and -ERR, it builds all frames before
the measurement, and it keeps answers as bytes until after it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast
from urllib.parse import unquote, urlsplit

from provider.commands.errors import NatsServerError

SILENCE_SECONDS = 10.0
"""Time without any answer that ends a measurement. The missing answers count as errors."""

_INBOX = b"_INBOX.keyvalue-nats-bench"
_CRLF = b"\r\n"
_DEFAULT_PORT = 4222


class Connection(asyncio.Protocol):
    """A connection with an inbox of its own.

    Args:
        connect_line: First line to send.
        wildcard: Last token of the subscription below the inbox.
    """

    def __init__(self, connect_line: bytes, wildcard: bytes) -> None:
        self._connect_line = connect_line
        self._wildcard = wildcard
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done: asyncio.Future[None] | None = None
        self._inbox = _INBOX + b"%d." % time.monotonic_ns()
        self._left = 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write(self._connect_line + b"SUB " + self._inbox + self._wildcard + b" 1\r\nPING\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc or 'closed by the server'}")

    async def until_ready(self) -> None:
        await asyncio.wait_for(asyncio.shield(self._ready), SILENCE_SECONDS)

    async def _until_done(self) -> None:
        assert self._done is not None
        left = -1
        while left != self._left:
            left = self._left
            done, _ = await asyncio.wait({self._done}, timeout=SILENCE_SECONDS)
            if done:
                return self._done.result()
        return None

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self._write(b"PONG\r\n")
        elif line == b"PONG" and not self._ready.done():
            self._ready.set_result(None)
        elif line.startswith(b"-ERR"):
            self._fail(line.decode(errors="replace"))

    def _fail(self, reason: str) -> None:
        for future in (self._ready, self._done):
            if future is not None and not future.done():
                future.set_exception(NatsServerError(reason))


_Connection = TypeVar("_Connection", bound=Connection)


class Pipeline(Connection):
    """A connection. `connect` makes it, and `run` may be called many times."""

    def __init__(self, connect_line: bytes) -> None:
        super().__init__(connect_line, b"*")
        self._frames: list[bytes] = []
        self._sent_ns: list[int] = []
        self._latency_ns: list[int] = []
        self._answers: list[bytes | None] = []
        self._next = 0
        self._is_paced = False

    async def run(
        self, subject: str, payloads: Sequence[bytes], in_flight: int
    ) -> tuple[list[int], list[bytes | None]]:
        """Send every payload as a request, with `in_flight` requests at a time.

        Returns:
            The latencies in nanoseconds, and the answers; `None` for a missing one.
        """
        self._prepare(subject, payloads, is_paced=False)
        self._send(in_flight)
        await self._until_done()
        return self._latency_ns, self._answers

    async def run_paced(
        self, subject: str, payloads: Sequence[bytes], pause_seconds: float, stop: asyncio.Event
    ) -> tuple[list[int], list[int], list[bytes | None]]:
        """Send payloads at a steady pace until `stop` is set, whether or not earlier ones are answered.

        A slow answer does not delay the next request, so every request shows the delay at its own time.

        Returns:
            For each request sent: its time by `time.perf_counter_ns`, its latency in nanoseconds, and its answer.
        """
        self._prepare(subject, payloads, is_paced=True)
        while not stop.is_set() and self._next < len(payloads):
            self._send(1)
            await asyncio.sleep(pause_seconds)
        sent = self._next
        self._left -= len(payloads) - sent
        if self._left:
            await self._until_done()
        self._done = None
        return self._sent_ns[:sent], self._latency_ns[:sent], self._answers[:sent]

    def _prepare(self, subject: str, payloads: Sequence[bytes], *, is_paced: bool) -> None:
        start = b"PUB " + subject.encode() + b" " + self._inbox
        self._frames = [
            b"%b%d %d\r\n%b\r\n" % (start, number, len(payload), payload) for number, payload in enumerate(payloads)
        ]
        self._sent_ns = [0] * len(payloads)
        self._latency_ns = [0] * len(payloads)
        self._answers = [None] * len(payloads)
        self._next, self._left = 0, len(payloads)
        self._is_paced = is_paced
        self._done = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        now_ns = time.perf_counter_ns()
        position = answered = 0
        while (end := buffer.find(_CRLF, position)) >= 0:
            kind = buffer[position : position + 4]
            if kind not in (b"MSG ", b"HMSG"):
                self._control(buffer[position:end])
                position = end + 2
                continue
            parts = buffer[position:end].split(b" ")
            stop = end + 2 + int(parts[-1])
            if len(buffer) < stop + 2:
                break
            number = int(parts[1][len(self._inbox) :])
            self._latency_ns[number] = now_ns - self._sent_ns[number]
            self._answers[number] = buffer[end + 2 + (int(parts[-2]) if kind == b"HMSG" else 0) : stop]
            position = stop + 2
            answered += 1
        self._rest = buffer[position:]
        if answered:
            self._left -= answered
            if not self._is_paced:
                self._send(answered)
            if self._left == 0 and self._done is not None and not self._done.done():
                self._done.set_result(None)

    def _send(self, count: int) -> None:
        first, last = self._next, min(self._next + count, len(self._frames))
        if first == last:
            return
        now_ns = time.perf_counter_ns()
        for number in range(first, last):
            self._sent_ns[number] = now_ns
        self._next = last
        self._write(b"".join(self._frames[first:last]))


async def connect(nats_url: str) -> Pipeline:
    """Connect a `Pipeline`; see `connect_as`."""
    return await connect_as(Pipeline, nats_url)


async def connect_as(make: Callable[[bytes], _Connection], nats_url: str) -> _Connection:
    """Connect and wait until the server has answered.

    The connection is plain TCP. User and password, or a token, come from the URL.

    Raises:
        NatsServerError: The URL is not `nats://`, or the server refuses the connection.
    """
    parts = urlsplit(nats_url if "//" in nats_url else f"nats://{nats_url}")
    if parts.scheme != "nats" or parts.hostname is None:
        raise NatsServerError(f"the load generator speaks plain nats:// only, not {parts.scheme}://")
    options: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "protocol": 1,
    }
    if parts.username and parts.password:
        options |= {"user": unquote(parts.username), "pass": unquote(parts.password)}
    elif parts.username:
        options["auth_token"] = unquote(parts.username)
    line = b"CONNECT " + json.dumps(options).encode() + _CRLF
    _, pipeline = await asyncio.get_running_loop().create_connection(
        lambda: make(line), parts.hostname, parts.port or _DEFAULT_PORT
    )
    await pipeline.until_ready()
    return pipeline
