"""The time until another process sees a write, beside a bare round trip between the same two processes.

python -m tests.bench.cache.propagation follow NATS_URL NAME          prints {"ready": true}, runs until killed
python -m tests.bench.cache.propagation write NATS_URL NAME COUNT     prints the measurement

Each process has one `Cache` on one `Connection`, like a provider, but there are no signatures and no invocations. The
follower does not poll. After each message that its cache has handled, it does a Get, and if the value is new it publishes
it with the time. The writer takes the time before the Set, by the same clock, which all processes of a machine share.

A bare round trip is a message of about the size of a delta. The follower sends it back from the callback that receives it,
over the same connection. Writes and round trips take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import sys
import time
from collections.abc import AsyncIterator, Callable
from statistics import median
from typing import Any

import uvloop

from contracts import keyvalue
from contracts.nkeys import KeyKind, encode_seed
from provider.keyvalue.cache.store import Cache, CacheLink
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.connections import ConnectionPool
from provider.keyvalue.given_values import canonical_values
from provider.keyvalue.link_config import parse_link
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.nats.wire import Handler
from provider.tasks import TaskOwner
from tests.bench.cache.cache_report import Propagation
from tests.bench.load_generator import write_json

_KEY = "bench.propagated"
_PATIENCE_SECONDS = 10.0
_FIRST_SIGN_SECONDS = 0.1
_TURNS = 500
"""Turns of the event loop that are measured, of which the median counts."""

_BARE = bytes(100)
"""About the size of a delta with one short value."""


class _Watched(Connection):
    """A connection that calls a function after it has handled a message of one subject."""

    def __init__(self, settings: ConnectionSettings, subject: str, on_handled: Callable[[], None]) -> None:
        super().__init__(settings, "keyvalue-nats bench", _PATIENCE_SECONDS)
        self._subject = subject
        self._on_handled = on_handled

    async def listen(self, subject: str, handler: Handler, queue: str = "") -> int:
        if subject != self._subject:
            return await super().listen(subject, handler, queue)

        def handle(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
            handler(subject, reply, header, payload)
            self._on_handled()

        return await super().listen(subject, handle, queue)


@contextlib.asynccontextmanager
async def _cache(
    nats_url: str, name: str, on_handled: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[CacheLink, Connection]]:
    """Run a replica of a cache, and call a function after each message of another replica that it has handled."""
    settings = ConnectionSettings(servers=(nats_url,))
    values = canonical_values({"BACKEND": "cache"}).known
    config = parse_link(values, lattice=name, link_name="bench", lattice_connection=settings)
    async with _Watched(settings, config.cache.state_subject, on_handled) as connection:
        # Both processes make the same key out of the name that they were given.
        seed = encode_seed(KeyKind.CLUSTER, hashlib.sha256(name.encode()).digest()).text
        keys = ClusterKeys(name, seed, [])
        cache = Cache(ConnectionPool(connection, ""), settings, config.cache, keys, TaskOwner(), lambda: None)
        cache.start()
        try:
            yield CacheLink(config, cache), connection
        finally:
            await cache.close()


class _Call:
    """A call that keeps its result."""

    deadline = math.inf
    is_done = False
    result: Any = None

    async def take_room(self, size_bytes: int) -> None:
        raise AssertionError("a cache has no answers that wait for room")

    def answer(self, result: Any) -> None:
        self.is_done = True
        self.result = result

    def fail(self, error: BaseException) -> None:
        raise error


def _ask(link: CacheLink, request: keyvalue.Request) -> Any:
    """Carry out an operation. A cache answers at once, since it waits for no other replica."""
    call = _Call()
    link.submit(request, call)
    assert call.is_done
    return call.result


def _seen_subject(name: str) -> str:
    return f"{name}.seen"


def _echo_subject(name: str) -> str:
    return f"{name}.echo"


async def follow(nats_url: str, name: str) -> None:
    """Publish each new value with the time at which it is seen, and return messages on the echo subject."""
    last = ""
    seen_subject = _seen_subject(name).encode()

    def look() -> None:
        nonlocal last
        answer = _ask(link, keyvalue.Get(_KEY))
        if answer.exists and answer.value != last:
            last = answer.value
            connection.publish(seen_subject, f"{last} {time.perf_counter_ns()}".encode())

    def send_back(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        connection.publish(reply, payload)

    async with _cache(nats_url, name, look) as (link, connection):
        await connection.listen(_echo_subject(name), send_back)
        await connection.flush(_PATIENCE_SECONDS)
        write_json({"ready": True})
        await asyncio.Event().wait()


class _Writer:
    """The writing process: it takes the time until the follower has seen each write."""

    def __init__(self, link: CacheLink, connection: Connection, name: str) -> None:
        self._link = link
        self._connection = connection
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._seen: asyncio.Future[int] = self._loop.create_future()

    async def start(self) -> None:
        """Write until the follower has seen a value for the first time."""
        await self._connection.listen(_seen_subject(self._name), self._on_seen)
        await self._connection.listen(f"{self._name}.back", self._on_back)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(TimeoutError):
                    await self.write_ns(_FIRST_SIGN_SECONDS)
                    return

    async def write_ns(self, patience_seconds: float = _PATIENCE_SECONDS) -> int:
        """Write once, and return the nanoseconds from before the Set until the follower has seen the value."""
        self._number += 1
        self._seen = self._loop.create_future()
        began = time.perf_counter_ns()
        _ask(self._link, keyvalue.Set(_KEY, str(self._number), 0))
        return await asyncio.wait_for(self._seen, patience_seconds) - began

    async def round_trip_ns(self) -> int:
        self._seen = self._loop.create_future()
        began = time.perf_counter_ns()
        reply = f"{self._name}.back".encode()
        self._connection.publish_request(_echo_subject(self._name).encode(), reply, _BARE)
        return await asyncio.wait_for(self._seen, _PATIENCE_SECONDS) - began

    def _on_seen(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        number, _, seen_ns = payload.partition(b" ")
        if int(number) == self._number and not self._seen.done():
            self._seen.set_result(int(seen_ns))

    def _on_back(self, subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        if not self._seen.done():
            self._seen.set_result(time.perf_counter_ns())


async def write(nats_url: str, name: str, count: int) -> Propagation:
    async with _cache(nats_url, name) as (link, connection):
        writer = _Writer(link, connection, name)
        await writer.start()
        turns, trips, writes = [], [], []
        for _ in range(_TURNS):
            began = time.perf_counter_ns()
            await asyncio.sleep(0)
            turns.append(time.perf_counter_ns() - began)
        for _ in range(count):
            trips.append(await writer.round_trip_ns())
            writes.append(await writer.write_ns())
    return Propagation(
        writes=count,
        visible_p50_us=median(writes) / 1000,
        visible_p99_us=sorted(writes)[count * 99 // 100] / 1000,
        round_trip_p50_us=median(trips) / 1000,
        turn_p50_us=median(turns) / 1000,
    )


def main() -> None:
    match sys.argv[1:]:
        case "follow", url, name:
            uvloop.run(follow(url, name))
        case "write", url, name, count:
            write_json(uvloop.run(write(url, name, int(count))))
        case arguments:
            sys.exit(f"unknown arguments {arguments}")


if __name__ == "__main__":
    main()
