"""A stranger who may only ping makes no caller believe anything false about a write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import nkeys
import pytest_asyncio

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.operator_mode import SigningKey

CALLERS, CALLS = 4, 60


@pytest_asyncio.fixture
async def restricted(tmp_path: Path) -> AsyncIterator[LatticeHost]:
    """A lattice whose provider may publish everywhere but below `stranger`."""
    user = SigningKey(nkeys.PREFIX_BYTE_USER)
    config = (
        "no_auth_user: host\nauthorization { users: [ { user: host, password: host },"
        f' {{ nkey: {user.public}, permissions: {{ publish: {{ deny: ["stranger.>"] }} }} }} ] }}'
    )
    with NatsServer(tmp_path / "server", config) as server:
        async with LatticeHost(RUST, server.url, tmp_path) as host:
            actor = host.actor()
            await host.start_provider([host.link(actor)], lattice_rpc_user_seed=user.seed)
            yield host


def address(host: LatticeHost) -> str:
    url = host.client.connected_url
    assert url is not None, "the host is connected"
    return url.geturl()


@contextlib.asynccontextmanager
async def pinging(url: str, replies: AsyncIterator[str]) -> AsyncIterator[list[int]]:
    """Ping every service, in the name of the reply subjects given; yield the growing list of pings."""
    stranger = await nats.connect(url)
    sent: list[int] = []

    async def ping() -> None:
        async for reply in replies:
            await stranger.publish("$SRV.PING", b"", reply=reply)
            await stranger.flush()
            sent.append(1)

    task = asyncio.create_task(ping())
    try:
        yield sent
    finally:
        while not task.done():
            task.cancel()  # which may be lost in nats-py: it waits with `asyncio.wait_for`
            await asyncio.wait({task}, timeout=0.1)
        await stranger.close()


async def counted(host: LatticeHost, actor: str) -> tuple[int, int, list[str]]:
    """Increment one counter; return how many calls were acknowledged, how many are unknown, and all errors."""
    acknowledged, unknown, texts = 0, 0, []

    async def caller() -> None:
        nonlocal acknowledged, unknown
        for _ in range(CALLS):
            try:
                await host.increment(actor, "k")
                acknowledged += 1
            except CallFailedError as error:
                texts.append(str(error))
                unknown += "outcome unknown" in str(error)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return acknowledged, unknown, texts


async def test_a_refusal_of_a_strangers_subject_is_no_refusal_of_a_write(restricted: LatticeHost) -> None:
    host = restricted
    actor = host.actor()
    await host.put_link(host.link(actor))
    await host.increment(actor, "k", 0)

    async def quoting() -> AsyncIterator[str]:
        while True:
            for before in ('"', '"\\"', '" "', "'"):
                yield f"stranger.{before}$KV.{host.default_bucket}.k".replace(" ", "_")

    async with pinging(address(host), quoting()) as sent:
        acknowledged, unknown, texts = await counted(host, actor)
    assert sent
    assert (acknowledged, unknown, texts) == (CALLERS * CALLS, 0, [])
    assert await host.get(actor, "k") == str(acknowledged)
    assert "nats_permission_refused" in host.provider.stderr, "the server has refused the stranger's subjects"
