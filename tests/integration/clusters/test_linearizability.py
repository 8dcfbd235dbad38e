"""Concurrent calls at three servers with faults are linearizable, and the checker finds those that are not.

`make soak` plays many more rounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.blackbox.nats.cluster import Cluster
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor
from tests.linearizability.providers import Providers, served
from tests.linearizability.rounds import play

pytestmark = pytest.mark.slow

ROUNDS_TO_SEE_STALE_READS = 8
LEASE_SECONDS = 3.0


@pytest_asyncio.fixture(loop_scope="session")
async def providers(lattice_server: NatsServer, tmp_path: Path) -> AsyncIterator[Providers]:
    async with Cluster(tmp_path) as cluster, Providers(cluster, lattice_server.url, tmp_path) as providers:
        yield providers


@pytest.mark.timeout(240)
async def test_the_checker_finds_stale_reads_of_a_leader_that_was_cut_off_without_a_lease(providers: Providers) -> None:
    for _ in range(ROUNDS_TO_SEE_STALE_READS):
        one = await play(providers, "leader cut off", consistency="leader")
        print(f"{len(one.violations)} keys had stale reads; {dict(one.outcomes)} {one.undecided} {one.trouble}")
        if one.violations:
            break
    else:
        pytest.fail("there was no stale read: does the checker work, and is a reader connected to the leader?")
    names = {violation.operation.name for violation in one.violations}
    assert names <= {"Get", "Contains", "ListRange", "SetQuery"}, "changes are exact without a lease too"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["leader cut off", "leader frozen"])
async def test_calls_are_linearizable_with_a_lease(providers: Providers, fault: str) -> None:
    one = await play(providers, fault)
    assert one.is_survived, "\n".join([*map(str, one.violations), one.undecided, one.trouble])


async def last_sequence(cluster: Cluster, bucket: str) -> int:
    sequence: int = (await StoredBucket(cluster.client, bucket).info())["state"]["last_seq"]
    return sequence


async def test_reads_alone_cost_one_small_write_per_lease(cluster: Cluster, make_actor: MakeActor) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    await cluster.all_current(actor.bucket)
    before, began = await last_sequence(cluster, actor.bucket), time.monotonic()
    reads = 0

    async def has_read_long_enough() -> bool:
        nonlocal reads
        await asyncio.gather(*(actor.get("k") for _ in range(20)))
        reads += 20
        return time.monotonic() > began + 2.5 * LEASE_SECONDS

    await eventually(has_read_long_enough, "the end of two leases", 20)
    written = await last_sequence(cluster, actor.bucket) - before
    assert 1 <= written <= (time.monotonic() - began) / LEASE_SECONDS + 1, f"{written} writes for {reads} reads"


async def test_the_lease_costs_no_write_while_writes_flow(cluster: Cluster, make_actor: MakeActor) -> None:
    """The first read writes the first lease. After that, a stall of the machine may cost one more write, but not one per lease."""
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    await cluster.all_current(actor.bucket)
    changes = 0

    async def change_and_read() -> None:
        nonlocal changes
        changes += 1
        assert await actor.increment("k") == changes
        assert await actor.get("k") == str(changes)

    await change_and_read()
    before, began = await last_sequence(cluster, actor.bucket) - changes, time.monotonic()

    async def has_done_both_long_enough() -> bool:
        await change_and_read()
        return time.monotonic() > began + 3.5 * LEASE_SECONDS

    await eventually(has_done_both_long_enough, "the end of three leases", 20)
    written = await last_sequence(cluster, actor.bucket) - before - changes
    assert written <= 1, f"{written} writes beside {changes} changes"
