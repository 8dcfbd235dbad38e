"""A bucket with three replicas on three servers: killed, frozen, cut off, restarted one by one, while callers never stop.

The promise is the same in each: an acknowledged change happened exactly once, an error that does not say "outcome
unknown" means that nothing happened, no read goes back, every call is answered in time, and calls are served again
within `SERVED_AGAIN_SECONDS`.
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
from tests.containers.cluster import Cluster
from tests.containers.promises import ANSWER_SECONDS, SERVED_AGAIN_SECONDS, TOGETHER_AGAIN_SECONDS


async def linked(host: LatticeHost, urls: str, bucket: str) -> Actor:
    """Link an actor to a bucket with three replicas, and return it once it is served."""
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
    host: LatticeHost, cluster: Cluster, bucket: str, *, around: str | None = None
) -> AsyncIterator[Load]:
    """Call without end, and check the ledgers afterwards.

    Args:
        host: Whose actors call.
        cluster: Which has the bucket.
        bucket: Its name.
        around: A node that changes do not go through, and all reads do; `None`: both go through any.
    """
    writer = await linked(host, cluster.urls(*[around] if around else []), bucket)
    reader = await linked(host, cluster.url(around) if around else cluster.urls(), bucket)
    async with Load(writer, reader) as load:
        yield load
    assert load.slowest_seconds <= ANSWER_SECONDS


async def made_bucket(host: LatticeHost, cluster: Cluster) -> tuple[str, str]:
    """Make a bucket that all nodes have; returns its name and its leader's."""
    bucket = f"b-{uuid.uuid4().hex[:12]}"
    await linked(host, cluster.urls(), bucket)
    await cluster.all_current(bucket)
    return bucket, await cluster.leader(bucket)


async def led_no_more(cluster: Cluster, bucket: str, name: str) -> None:
    """Wait until a node that was cut off has noticed, and leads no more."""
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


@pytest.mark.timeout(90)
@pytest.mark.parametrize("fault", ["killed", "frozen", "cut off"])
async def test_the_leader_is_lost_and_comes_back(host: LatticeHost, cluster: Cluster, fault: str) -> None:
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


async def test_the_leader_comes_back_before_it_has_noticed_that_it_was_cut_off(
    host: LatticeHost, cluster: Cluster
) -> None:
    """It still takes itself for the leader, and is connected to clients again before it hears of the next one."""
    bucket, leader = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket, around=leader) as load:
        await asyncio.to_thread(cluster.cut_off, leader)
        try:
            await load.progress("answers of the next leader", SERVED_AGAIN_SECONDS)
        finally:
            await asyncio.to_thread(cluster.rejoin, leader)
        await all_served(load)


async def all_served(load: Load) -> None:
    """Wait for reads and changes to be served with all nodes there."""
    reads = len(load.reads.served)
    await eventually(lambda: len(load.reads.served) > reads + 100, "reads with all nodes", TOGETHER_AGAIN_SECONDS)
    await load.progress("answers with all nodes", TOGETHER_AGAIN_SECONDS)


@pytest.mark.timeout(90)
async def test_without_a_majority_nothing_is_acknowledged_and_with_it_all_goes_on(
    host: LatticeHost, cluster: Cluster
) -> None:
    bucket, leader = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket) as load:
        lost = [leader, next(name for name in cluster.names if name != leader)]
        for name in lost:
            await asyncio.to_thread(cluster.kill, name)
        try:
            await load.trouble("errors of a minority")
            # What was on its way is over after a call's time; from then on nothing may be served.
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


@pytest.mark.timeout(90)
async def test_the_nodes_are_restarted_one_by_one_as_for_an_upgrade(host: LatticeHost, cluster: Cluster) -> None:
    bucket, _ = await made_bucket(host, cluster)
    async with under_load(host, cluster, bucket) as load:
        for name in cluster.names:
            await cluster.all_current(bucket)
            await asyncio.to_thread(cluster.stop, name)
            await asyncio.to_thread(cluster.start, name)
            await load.progress(f"answers after the restart of {name}", SERVED_AGAIN_SECONDS)
