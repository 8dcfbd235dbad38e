"""The read lease: its conditions, its cost, and reads without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from provider import errors
from provider.keyvalue.bucket.lease import LEASE_SECONDS, Proof, ReadLease
from provider.tasks import TaskOwner


class Stream:
    """A stream that counts its requests; each takes a turn of the event loop or more."""

    def __init__(self, tasks: TaskOwner) -> None:
        self.lease = ReadLease(self.write, self.is_everywhere, tasks)
        self.writes = 0
        self.questions = 0
        self.is_followed = True
        self.lags_for = 0
        self.is_reachable = True

    async def write(self, deadline: float) -> int:
        await asyncio.sleep(0)
        if not self.is_reachable:
            raise errors.NotConnectedError
        self.writes += 1
        self.lease.note_write(asyncio.get_running_loop().time(), self.writes)
        return self.writes

    async def is_everywhere(self, revision: int, deadline: float) -> bool:
        await asyncio.sleep(0)
        self.questions += 1
        return self.is_followed and self.questions > self.lags_for


@pytest.fixture
async def stream() -> AsyncIterator[Stream]:
    tasks = TaskOwner()
    yield Stream(tasks)
    await tasks.close()


async def hold(stream: Stream) -> Proof:
    return await stream.lease.hold(now() + 1)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_readers_that_come_together_share_one_write(stream: Stream) -> None:
    began = now()
    proofs = await asyncio.gather(*(hold(stream) for _ in range(50)))
    assert stream.writes == stream.questions == 1
    assert all(began < proof.until <= now() + LEASE_SECONDS for proof in proofs)


async def test_a_lease_that_runs_costs_nothing(stream: Stream) -> None:
    await hold(stream)
    for _ in range(100):
        await hold(stream)
    assert stream.writes == stream.questions == 1


async def test_a_callers_recent_write_replaces_the_small_one(stream: Stream) -> None:
    sent_at = now()
    stream.lease.note_write(sent_at, 7)
    assert (await hold(stream)).until == sent_at + LEASE_SECONDS
    assert stream.writes == 0


async def test_an_acknowledged_write_alone_is_no_lease(stream: Stream) -> None:
    """A majority has it; a deposed leader may still answer."""
    stream.is_followed = False
    stream.lease.note_write(now(), 7)
    proof = await hold(stream)
    assert proof.until == 0
    assert proof.revision == stream.writes == 1


async def test_without_a_lease_every_reader_gets_a_write_sent_after_it_asked(stream: Stream) -> None:
    stream.is_followed = False
    first = asyncio.ensure_future(hold(stream))
    await asyncio.sleep(0)  # the first reader's write is under way
    others = [asyncio.ensure_future(hold(stream)) for _ in range(20)]
    assert (await first).revision == 1
    assert {(await other).revision for other in others} == {2}


async def test_a_replica_that_is_slightly_behind_costs_no_second_write(stream: Stream) -> None:
    stream.lags_for = 2
    assert (await hold(stream)).until
    assert stream.writes == 1
    assert stream.questions == 3


async def test_a_lease_comes_back_when_all_replicas_follow_again(stream: Stream) -> None:
    stream.is_followed = False
    assert (await hold(stream)).until == 0
    stream.is_followed = True

    async def until() -> float:
        return (await hold(stream)).until

    deadline = now() + 5
    while not await until():
        assert now() < deadline
        await asyncio.sleep(0.01)


async def test_a_reader_that_cannot_reach_a_majority_gets_the_error(stream: Stream) -> None:
    stream.is_reachable = False
    with pytest.raises(errors.NotConnectedError):
        await hold(stream)
    stream.is_reachable = True
    assert (await hold(stream)).until
