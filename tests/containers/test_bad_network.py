"""A lossy and a slow network between provider and store: deadlines are kept, and answers are correct."""

from __future__ import annotations

import asyncio
import time

from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.link_checks import served
from tests.blackbox.load import Load
from tests.blackbox.nats.tcp_proxy import Proxy
from tests.conformance.actor import Actor, fresh
from tests.containers.nats_node import CLIENT_PORT, NatsNode
from tests.containers.promises import ANSWER_SECONDS

LOST_PART = 0.2
FAULT_SECONDS = 4


async def linked(host: LatticeHost, url: str) -> Actor:
    public_key, bucket = host.actor(), fresh("b")
    await host.put_link(host.link(public_key, {"URL": url, "BUCKET": bucket}))
    return Actor(host, public_key, bucket, ANSWER_SECONDS)


async def test_every_call_is_answered_in_time_and_correctly_while_a_fifth_of_all_packets_is_lost(
    host: LatticeHost, node: NatsNode, cuts: None
) -> None:
    actor = await linked(host, node.url)
    await served(actor)
    async with Load(actor) as load:
        await asyncio.to_thread(node.lose, LOST_PART)
        try:
            await asyncio.sleep(FAULT_SECONDS)  # the length of the fault
        finally:
            await asyncio.to_thread(node.mend)
        await load.progress("answers of a network that was mended")
    assert load.slowest_seconds <= ANSWER_SECONDS


async def test_a_slow_store_serves_and_one_that_is_too_slow_gives_errors_in_time(
    host: LatticeHost, node: NatsNode
) -> None:
    async with Proxy(CLIENT_PORT, node.address, delay_seconds=0.1) as far:
        actor = await linked(host, far.url)
        await served(actor)
        async with Load(actor) as load:
            assert not load.errors
        assert load.slowest_seconds <= ANSWER_SECONDS
        assert not load.errors
    async with Proxy(CLIENT_PORT, node.address, delay_seconds=1.5) as too_far:
        actor = await linked(host, too_far.url)
        for operation, argument in (("Get", "k"), ("Increment", {"key": "k", "value": 1})):
            began = time.monotonic()
            assert await actor.error(operation, argument)
            assert time.monotonic() - began <= ANSWER_SECONDS
