"""Calls of components through a real nats-server, with a host's side that is written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts import wrpc
from contracts.component_values import UNLIMITED
from provider import errors
from provider.lattice.wasmcloud1.component_calls import ComponentCaller
from provider.lattice.wasmcloud1.reply_subjects import DEFAULT_PREFIX, inbox_check
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.nats_server import NatsServer

SUBJECT = "lattice.comp.wrpc.0.0.1.wrpc:keyvalue/watcher@0.2.0-draft.on-set"
LARGE = bytes(range(256)) * 10_000
"""2.5 MB: three messages."""


@contextlib.asynccontextmanager
async def calling(server: NatsServer, wait_seconds: float) -> AsyncIterator[ComponentCaller]:
    async with Connection(ConnectionSettings((server.url,)), "caller", 5) as connection:
        yield ComponentCaller(connection, "lattice", "prov", wait_seconds, inbox_check([DEFAULT_PREFIX]))


@pytest_asyncio.fixture(loop_scope="session")
async def caller(lattice_server: NatsServer) -> AsyncIterator[ComponentCaller]:
    async with calling(lattice_server, 10.0) as caller:
        yield caller


@pytest_asyncio.fixture(loop_scope="session")
async def impatient_caller(lattice_server: NatsServer) -> AsyncIterator[ComponentCaller]:
    """Return a caller whose time for one step runs out in a test."""
    async with calling(lattice_server, 0.5) as caller:
        yield caller


@pytest_asyncio.fixture(loop_scope="session")
async def client(lattice_server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(lattice_server.url)
    yield client
    await client.close()


async def settled(client: Client) -> None:
    """Wait until the server has handled all messages so far. `flush` of nats-py overtakes those still in its buffer."""
    inbox = client.new_inbox()
    own = await client.subscribe(inbox)
    await client.publish(inbox, b"")
    await own.next_msg()


class Host:
    """The host of a component: takes calls and notes them."""

    def __init__(self, client: Client, rest: str = "_INBOX.host.1") -> None:
        self.client = client
        self.rest = rest
        self.headers: list[dict[str, Any]] = []
        self.calls: list[wrpc.WrpcCall] = []
        self.ends = True

    async def listen(self) -> None:
        await self.client.subscribe(SUBJECT, queue="lattice.comp", cb=self._begin)
        await settled(self.client)

    async def _begin(self, message: Msg) -> None:
        self.headers.append(dict(message.headers or {}))
        reader = wrpc.ParameterReader(wrpc.OnSet, UNLIMITED)
        rest = await self.client.subscribe(f"{self.rest}.params")
        await self.client.publish(message.reply, b"", reply=self.rest)
        call = reader.feed(message.data)
        while call is None:
            call = reader.feed((await rest.next_msg()).data)
        assert (await rest.next_msg()).data == b""
        await rest.unsubscribe()
        self.calls.append(call)
        if self.ends:
            await self.client.publish(f"{message.reply}.results", b"")


@pytest.mark.parametrize("value", [b"v", b"", b"\xff\x00", LARGE], ids=len)
async def test_a_component_is_called_with_a_value_of_any_size(
    caller: ComponentCaller, client: Client, value: bytes
) -> None:
    host = Host(client)
    await host.listen()
    call = wrpc.OnSet("0", "k", value)
    await caller.call("comp", call)
    (called,) = host.calls
    assert isinstance(called, wrpc.OnSet)
    assert (called.bucket, called.key, bytes(called.value)) == ("0", "k", value)
    assert host.headers == [{"source-id": "prov", "target-id": "comp"}]


async def test_a_component_that_does_not_end_is_not_waited_for_longer(
    impatient_caller: ComponentCaller, client: Client
) -> None:
    host = Host(client)
    host.ends = False
    await host.listen()
    await impatient_caller.call("comp", wrpc.OnSet("0", "k", b"v"))
    assert len(host.calls) == 1


async def test_a_component_that_no_host_runs_is_unreachable(caller: ComponentCaller) -> None:
    with pytest.raises(errors.ActorUnreachableError, match="no host"):
        await caller.call("nowhere", wrpc.OnDelete("0", "k"))


@pytest.mark.parametrize("component_id", ["", "*", "a b", "x\r\nPUB anything 0\r\n\r\nPUB y", ">"])
async def test_an_id_that_no_subject_can_have_is_not_sent(
    caller: ComponentCaller, client: Client, component_id: str
) -> None:
    seen = await client.subscribe("anything")
    await settled(client)
    with pytest.raises(errors.ActorFailedError, match="no subject may have"):
        await caller.call(component_id, wrpc.OnSet("0", "k", b"v"))
    await settled(client)
    assert seen.pending_msgs == 0


async def test_a_host_that_names_no_inbox_gets_nothing_more(impatient_caller: ComponentCaller, client: Client) -> None:
    seen: list[bytes] = []

    async def note(message: Msg) -> None:
        seen.append(message.data)

    await client.subscribe("anything.params", cb=note)
    host = Host(client, rest="anything")
    await host.listen()
    with pytest.raises(errors.ActorFailedError, match="no host has taken the call in time"):
        await impatient_caller.call("comp", wrpc.OnSet("0", "k", b"v"))
    await settled(client)
    assert seen == []
