"""A hub and a leaf node, each with a JetStream domain of its own. The image runs at the leaf."""

from __future__ import annotations

import asyncio
import time
import uuid

import nats
import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.link_checks import exercise, served
from tests.blackbox.load import Load
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.conformance.stored import StoredBucket
from tests.containers.conftest import StartImage
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork
from tests.containers.promises import ANSWER_SECONDS, SERVED_AGAIN_SECONDS, TOGETHER_AGAIN_SECONDS

_LEAF_PORT = 7422


@pytest.fixture(scope="module")
def hub(network: ContainerNetwork, nats_image: str) -> NatsNode:
    hub = NatsNode(network, nats_image, "hub", f"leafnodes {{ port: {_LEAF_PORT} }}", jetstream="domain: hub")
    hub.start()
    return hub


@pytest.fixture(scope="module")
def leaf(hub: NatsNode, network: ContainerNetwork, nats_image: str) -> NatsNode:
    remotes = f'remotes: [ {{ url: "nats-leaf://{hub.name}:{_LEAF_PORT}" }} ], reconnect: 1'
    leaf = NatsNode(network, nats_image, "leaf", f"leafnodes {{ {remotes} }}", jetstream="domain: leaf")
    leaf.start()
    return leaf


@pytest.mark.timeout(150)
async def test_a_bucket_of_the_hub_is_served_at_the_leaf_and_again_after_the_hub_has_returned(
    hub: NatsNode, leaf: NatsNode, start_image: StartImage
) -> None:
    host = await start_image(RUST, leaf.url)
    of_the_leaf = StoredBucket(host.client, "same")
    await of_the_leaf.create()
    await host.client.request("$KV.same.text", b"the leaf's own", timeout=5)
    there, here = host.actor(), host.actor()
    await host.start_provider(
        [host.link(there, {"JS_DOMAIN": "hub", "BUCKET": "same"}), host.link(here, {"BUCKET": "same"})]
    )
    actor, local = Actor(host, there, "same", ANSWER_SECONDS), Actor(host, here, "same", ANSWER_SECONDS)
    await served(actor)
    await exercise(actor)
    await actor.set("text", "the hub's")
    async with Load(actor) as load:
        await asyncio.to_thread(hub.kill)
        try:
            await load.trouble("errors without the hub")
            assert await local.get("text") == "the leaf's own"
        finally:
            await asyncio.to_thread(hub.start)
        began = time.monotonic()
        await load.progress("answers with the hub", SERVED_AGAIN_SECONDS)
        print(f"hub back: served again after {time.monotonic() - began:.1f} s")
    assert load.slowest_seconds <= ANSWER_SECONDS
    assert await actor.get("text") == "the hub's"
    assert await local.get("text") == "the leaf's own"
    assert (await of_the_leaf.info())["state"]["messages"] == 1
    at_the_hub = await nats.connect(hub.url)
    assert await StoredBucket(at_the_hub, "same").payload("text") == b"the hub's"
    await at_the_hub.close()


@pytest.mark.timeout(150)
async def test_a_cache_spans_the_leaf_link_and_is_merged_after_the_link_was_cut(
    hub: NatsNode, leaf: NatsNode, start_image: StartImage, cuts: None
) -> None:
    lattice, issuer = f"lattice-{uuid.uuid4().hex[:12]}", KeyPair.generate("C")
    actors = []
    for node in (hub, leaf):
        host = await start_image(RUST, node.url, lattice=lattice, cluster=issuer)
        public_key = host.actor()
        await host.start_provider([host.link(public_key, {"BACKEND": "cache", "REPLAY_HEARTBEAT_SECS": "1"})])
        actors.append(Actor(host, public_key, caller_seconds=ANSWER_SECONDS))

    async def agree_on(total: str) -> None:
        async def do_agree() -> bool:
            return await asyncio.gather(*(actor.get("n") for actor in actors)) == [total, total]

        await eventually(do_agree, f"{total} on both sides", TOGETHER_AGAIN_SECONDS)

    await asyncio.gather(*(actor.increment("n") for actor in actors))
    await agree_on("2")
    await asyncio.to_thread(leaf.cut_from, hub)
    try:
        for _ in range(10):
            await asyncio.gather(*(actor.increment("n") for actor in actors))
        assert await asyncio.gather(*(actor.get("n") for actor in actors)) == ["12", "12"], "each knows its own"
    finally:
        await asyncio.to_thread(leaf.mend)
    await agree_on("22")
