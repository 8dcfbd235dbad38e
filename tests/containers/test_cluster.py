"""A bucket with three replicas on three servers that are killed, frozen, cut off and restarted while callers call.

The promises are the same in all tests. An acknowledged change happened exactly once. An error without "outcome unknown"
means that nothing happened. Reads never go back. Every call is answered in time, and calls are served again within
`SERVED_AGAIN_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import nats.errors
import pytest

from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.load import Load
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.conformance.stored import StoredBucket
from tests.containers.container_cluster import ContainerCluster
from tests.containers.promises import ANSWER_SECONDS, SERVED_AGAIN_SECONDS, TOGETHER_AGAIN_SECONDS


async def linked(host: LatticeHost, urls: str, bucket: str) -> Actor:
    """Link an actor to a bucket with three replicas, and wait until it is served."""
    public_key = host.actor()
    await host.put_link(host.link(public_key, {"URL": urls, "REPLICAS": "3", "BUCKET": bucket}))
    actor = Actor(host, public_key, bucket, ANSWER_SECONDS)

    async def is_served() -> bool:
        try:
            return await actor.increment("served") > 0
        except CallFailedError:
            return False

    await eventually(is_served, "the first answer", SERVED_AGAIN_SECONDS)
    return actor


@asynccontextmanager
async def under_load(
    host: LatticeHost, cluster: ContainerCluster, bucket: str, *, around: str | None = None
) -> AsyncIterator[Load]:
    """Call all the time for the length of a block, and check the ledgers afterwards.

    Args:
        host: Host of the actors.
        cluster: Cluster that has the bucket.
        bucket: Name of the bucket.
        around: Node that all reads and no changes go through; `None`: both go through any node.
    """
    writer = await linked(host, cluster.urls(*[around] if around else []), bucket)
    reader = await linked(host, cluster.url(around) if around else cluster.urls(), bucket)
    async with Load(writer, reader) as load:
        yield load
    assert load.slowest_seconds <= ANSWER_SECONDS


async def made_bucket(host: LatticeHost, cluster: ContainerCluster) -> tuple[str, str]:
    """Create a bucket with a replica at every node, and return its name and its leader."""
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    await linked(host, cluster.urls(), bucket)
    await cluster.all_current(bucket)
    return bucket, await cluster.leader(bucket)


async def led_no_more(cluster: ContainerCluster, bucket: str, name: str) -> None:
    """Wait until a node that was cut off has noticed it and does not lead any more."""
    client = await nats.connect(cluster.url(name))

    async def has_stepped_down() -> bool:
        try:
            info = await StoredBucket(client, bucket).info()
        except nats.errors.Error:
            return True
        return bool(info["cluster"].get("leader") != name)

    try:
        await eventually(has_stepped_down, f"the end of {name}'s leadership", 25)
    finally:
        await client.close()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", ["killed", "frozen", "cut off"])
async def test_the_leader_fails_and_returns(host: LatticeHost, cluster: ContainerCluster, fault: str) -> None:
    begin, end = {
        "killed": (cluster.kill, cluster.start),
        "frozen": (cluster.freeze, cluster.thaw),
        "cut off": (cluster.cut_off, cluster.rejoin),
    }[fault]
    bucket, leader = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket, around=leader) as load:
        await asyncio.to_thread(begin, leader)
        began = time.monotonic()
        try:
            await load.trouble("errors without a leader")
            await load.progress("answers of the next leader", SERVED_AGAIN_SECONDS)
            print(f"leader {fault}: served again after {time.monotonic() - began:.1f} s")
            if fault == "cut off":
                await led_no_more(cluster, bucket, leader)
        finally:
            await asyncio.to_thread(end, leader)
        await all_served(load)


@pytest.mark.timeout(150)
async def test_the_leader_returns_before_it_has_noticed_that_it_was_cut_off(
    host: LatticeHost, cluster: ContainerCluster
) -> None:
    """The old leader still believes that it leads, and serves clients again before it hears of the new one."""
    bucket, leader = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket, around=leader) as load:
        await asyncio.to_thread(cluster.cut_off, leader)
        try:
            await load.progress("answers of the next leader", SERVED_AGAIN_SECONDS)
        finally:
            await asyncio.to_thread(cluster.rejoin, leader)
        await all_served(load)


async def all_served(load: Load) -> None:
    """Wait until reads and changes are served with all nodes."""
    reads = len(load.reads.served)
    await eventually(lambda: len(load.reads.served) > reads + 100, "reads with all nodes", TOGETHER_AGAIN_SECONDS)
    await load.progress("answers with all nodes", TOGETHER_AGAIN_SECONDS)


@pytest.mark.timeout(150)
async def test_nothing_is_acknowledged_without_a_majority_and_calls_are_served_again_with_it(
    host: LatticeHost, cluster: ContainerCluster
) -> None:
    bucket, leader = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket) as load:
        lost = [leader, next(name for name in cluster.names if name != leader)]
        for name in lost:
            await asyncio.to_thread(cluster.kill, name)
        try:
            await load.trouble("errors of a minority")
            # Calls under way have ended after the time limit of a call. From then on, no call may be served.
            await asyncio.sleep(ANSWER_SECONDS)
            served = len(load.increments.served)
            await load.trouble("errors of a minority, for longer than any deadline", 60, deadline_seconds=10)
            assert len(load.increments.served) == served
        finally:
            for name in lost:
                await asyncio.to_thread(cluster.start, name)
        began = time.monotonic()
        await load.progress("answers of a majority", SERVED_AGAIN_SECONDS)
        print(f"majority back: served again after {time.monotonic() - began:.1f} s")


@pytest.mark.timeout(150)
async def test_the_nodes_are_restarted_one_by_one_as_in_an_upgrade(
    host: LatticeHost, cluster: ContainerCluster
) -> None:
    bucket, _ = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket) as load:
        for name in cluster.names:
            await cluster.all_current(bucket)
            await asyncio.to_thread(cluster.stop, name)
            await asyncio.to_thread(cluster.start, name)
            await load.progress(f"answers after the restart of {name}", SERVED_AGAIN_SECONDS)
