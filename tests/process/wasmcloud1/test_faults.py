"""Calls of components end also when a server is frozen or out of reach."""

from __future__ import annotations

import asyncio

from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.tcp_proxy import Proxy
from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.component import Component
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import OTHER, ComponentError


async def ended(component: Component, function: str, *arguments: object) -> BaseException | None:
    """Return the error that a call ends with."""
    try:
        await component.call(function, *arguments)
    except ComponentError as error:
        return error
    return None


async def test_an_answer_waits_for_the_connection_to_the_lattice(
    host: Wasmcloud1Host, own_nats_server: NatsServer, nats_server: NatsServer
) -> None:
    async with Proxy(int(nats_server.url.rpartition(":")[2])) as proxy:
        link = host.link(config={"URL": own_nats_server.url, "STORAGE": "memory"})
        provider = await host.start_provider([link], lattice_rpc_url=proxy.url, default_rpc_timeout_ms=500)
        component = await host.component()
        await component.call("set", "", "k", b"v")
        own_nats_server.freeze()
        calls = [asyncio.ensure_future(ended(component, "get", "", "k")) for _ in range(20)]
        await eventually(lambda: component.handshakes >= 21, "the handshakes")
        proxy.refuse()
        await eventually(lambda: "nats_disconnected" in provider.stderr, "the loss of the connection")
        await asyncio.sleep(0.5)  # the calls reach their deadline meanwhile
        proxy.admit()
        for error in await asyncio.gather(*calls):
            assert isinstance(error, ComponentError)
            assert error.case == OTHER


async def test_a_frozen_store_does_not_delay_the_end(host: Wasmcloud1Host, own_nats_server: NatsServer) -> None:
    link = host.link(config={"URL": own_nats_server.url, "STORAGE": "memory"})
    provider = await host.start_provider([link])
    component = await host.component()
    await component.call("set", "", "k", b"v")
    own_nats_server.freeze()
    calls = [asyncio.ensure_future(ended(component, "set", "", "k", b"w")) for _ in range(50)]
    await eventually(lambda: component.handshakes >= 51, "the handshakes")
    seconds = await host.shut_down(timeout_seconds=2)
    assert seconds is not None
    assert seconds < 0.3
    errors = await asyncio.gather(*calls)
    assert all("outcome unknown" in str(error) for error in errors)
    assert await provider.exited() == 0
