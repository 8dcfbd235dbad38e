"""Servers and providers are killed, frozen and cut off under load.

An acknowledged change happened exactly once. An error without "outcome unknown" means that it did not happen. Reads never
go back. Every call is answered in time while the provider and its lattice live.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.load import Load
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.tcp_proxy import Proxy
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import ANSWER_SECONDS, MakeActor, MakeServer


class HealthyCalls:
    """Calls on a healthy link of the same process. All of them must be served while other links have faults."""

    def __init__(self, actor: Actor) -> None:
        self.calls = 0
        self._actor = actor
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self._task
        assert await self._actor.get("beats") == str(self.calls)

    async def _beat(self) -> None:
        while not self._is_over:
            self.calls += 1
            assert await self._actor.increment("beats") == self.calls
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(loop_scope="session")
async def own_host(make_server: MakeServer, tmp_path: Path) -> AsyncIterator[tuple[LatticeHost, NatsServer]]:
    """A host on a server that the test may kill. Its provider is not started yet."""
    server = make_server()
    server.start()
    async with LatticeHost(RUST, server.url, tmp_path / "host") as host:
        yield host, server


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def own_actor(host: LatticeHost) -> Actor:
    public_key = host.actor()
    await host.start_provider([host.link(public_key, {"BUCKET": "own"})])
    return Actor(host, public_key, "own", ANSWER_SECONDS)


async def test_the_store_dies_and_returns_while_the_lattice_lives(
    make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    server = make_server()
    server.start()
    actor = await make_actor(URL=server.url)
    async with HealthyCalls(witness), Load(actor) as load:
        server.restart(is_killed=True)
        await load.progress("answers after a quick restart")
        server.kill()
        for _ in range(2):
            await load.trouble("errors of a dead server, for longer than any deadline", 60)
        health = await actor.host.health()
        assert not health.is_healthy
        assert actor.public_key in health.message
        server.start()
        await load.progress("answers after the restart")
    assert load.slowest_seconds <= ANSWER_SECONDS
    assert load.increments.refused, "a dead server refuses"


@pytest.mark.parametrize("seconds", [1, 3])
async def test_the_store_freezes_while_the_lattice_lives(
    make_actor: MakeActor, make_server: MakeServer, witness: Actor, seconds: int
) -> None:
    server = make_server()
    server.start()
    actor = await make_actor(URL=server.url)
    async with HealthyCalls(witness), Load(actor) as load:
        server.freeze()
        try:
            await asyncio.sleep(seconds)  # the length of the fault
        finally:
            server.thaw()
        await load.progress("answers after the thaw")
    assert load.slowest_seconds <= ANSWER_SECONDS
    if seconds > ANSWER_SECONDS:
        assert load.increments.unknown, "writes to a frozen server have an unknown outcome"


@pytest.mark.parametrize("seconds", [1, 3])
async def test_the_lattices_own_server_freezes(own_host: tuple[LatticeHost, NatsServer], seconds: int) -> None:
    host, server = own_host
    actor = await own_actor(host)
    async with Load(actor, may_be_unanswered=True) as load:
        server.freeze()
        try:
            await asyncio.sleep(seconds)  # the length of the fault
        finally:
            server.thaw()
        await load.progress("answers after the thaw")
    assert host.provider.exit_code is None


async def test_the_lattices_own_server_is_killed_and_restarted(own_host: tuple[LatticeHost, NatsServer]) -> None:
    host, server = own_host
    actor = await own_actor(host)
    async with Load(actor, may_be_unanswered=True) as load:
        for _ in range(2):
            server.restart(is_killed=True)
            await load.progress("answers after the restart")
    assert host.provider.exit_code is None


async def test_the_provider_is_killed_and_restarted(own_host: tuple[LatticeHost, NatsServer], tmp_path: Path) -> None:
    host, server = own_host
    actor = await own_actor(host)
    link = host.link(actor.public_key, {"BUCKET": "own"})
    who = host.who
    running = host
    async with AsyncExitStack() as hosts, Load(actor, may_be_unanswered=True) as load:
        for number in range(2):
            running.provider.signal(signal.SIGKILL)
            await running.provider.exited()
            running = LatticeHost(
                RUST,
                server.url,
                tmp_path / f"host{number}",
                lattice=who.lattice,
                provider_key=who.provider,
                cluster=who.cluster,
            )
            await hosts.enter_async_context(running)
            await running.start_provider([link])
            await load.progress("answers of the next provider")


async def test_half_open_connections_to_the_store_are_replaced(
    make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    """One connection loses both directions, another one the answers. Both are tested at once to save time."""

    async def half_open(*, requests: bool) -> None:
        server = make_server()
        server.start()
        async with Proxy(server.port) as proxy:
            actor = await make_actor(URL=proxy.url)
            async with Load(actor) as load:
                before = proxy.connections
                proxy.drop(requests=requests, replies=True)
                await load.trouble("errors of a half-open connection")
                await eventually(lambda: proxy.connections > before, "a new connection", 15)
                await load.progress("answers over the new connection")
            assert load.slowest_seconds <= ANSWER_SECONDS
            assert load.increments.unknown

    async with HealthyCalls(witness):
        await asyncio.gather(half_open(requests=True), half_open(requests=False))


async def test_writes_whose_acknowledgement_was_lost_are_found_again(
    make_actor: MakeActor, make_server: MakeServer
) -> None:
    """The server writes, but its answers and then the connection are lost. No caller gets an error."""
    server = make_server()
    server.start()
    async with Proxy(server.port) as proxy, connected(server.url) as client:
        actor = await make_actor(URL=proxy.url)
        async with Load(actor) as load:
            bucket = StoredBucket(client, actor.bucket)
            for _ in range(6):
                before = await bucket.revision("hot")
                proxy.drop(requests=False, replies=True)

                async def has_written(before: int = before) -> bool:
                    return await bucket.revision("hot") > before

                await eventually(has_written, "a write whose answer was lost", 3)
                proxy.cut()
                await load.progress("answers over the new connection")
        assert load.slowest_seconds <= ANSWER_SECONDS
        assert load.increments.unknown == [], "the outcome could be looked up"
