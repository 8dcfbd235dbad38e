"""What is done to a cluster while callers call: each fault begins, lasts, and is undone when its block ends.

How long a fault lasts is part of the fault, so here, and only here, time is waited for. The stream's election time-out
is 4 to 9 seconds, what a leader that was cut off believes in lasts for about eight: the lengths are chosen around that.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.blackbox.cluster import Nodes

Fault = Callable[[Nodes, str], AbstractAsyncContextManager[None]]


async def _lasting(least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(random.uniform(least_seconds, most_seconds))


def _others(nodes: Nodes, name: str) -> list[str]:
    others = [other for other in nodes.names if other != name]
    random.shuffle(others)
    return others


@asynccontextmanager
async def leader_killed(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    leader = await nodes.leader(bucket)
    nodes.kill(leader)
    try:
        await _lasting(0.5, 8)
        yield
    finally:
        nodes.start(leader)


@asynccontextmanager
async def follower_killed(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    follower, _ = _others(nodes, await nodes.leader(bucket))
    nodes.kill(follower)
    try:
        await _lasting(0.5, 5)
        yield
    finally:
        nodes.start(follower)


@asynccontextmanager
async def leader_frozen(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    leader = await nodes.leader(bucket)
    nodes.freeze(leader)
    try:
        await _lasting(1, 11)
        yield
    finally:
        nodes.thaw(leader)


@asynccontextmanager
async def _cut(nodes: Nodes, pairs: Iterable[tuple[str, str]], *, is_one_way: bool = False) -> AsyncIterator[None]:
    for sender, receiver in pairs:
        nodes.cut(sender, receiver, is_one_way=is_one_way)
    try:
        yield
    finally:
        nodes.heal()


@asynccontextmanager
async def leader_cut_off(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut the leader off from its peers, while clients stay connected to it."""
    leader = await nodes.leader(bucket)
    async with _cut(nodes, ((leader, other) for other in _others(nodes, leader))):
        await _lasting(4, 11)
        yield


@asynccontextmanager
async def leader_cut_off_in_turns(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut the leader off from one peer, and from the other when the first is about to stand for election.

    The second peer has entries that the first lacks. Asked for its vote it refuses, and stands for election itself, much
    sooner than after its own time-out.
    """
    leader = await nodes.leader(bucket)
    first, second = _others(nodes, leader)
    async with _cut(nodes, [(leader, first)]):
        await _lasting(3.5, 7)
        nodes.cut(leader, second)
        await _lasting(4, 6)
        yield


@asynccontextmanager
async def leader_half_cut_off(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut the leader off from one peer only: both talk to the third."""
    leader = await nodes.leader(bucket)
    async with _cut(nodes, [(leader, _others(nodes, leader)[0])]):
        await _lasting(4, 10)
        yield


@asynccontextmanager
async def leader_not_heard(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Drop what the leader sends, not what it is sent."""
    leader = await nodes.leader(bucket)
    async with _cut(nodes, ((leader, other) for other in _others(nodes, leader)), is_one_way=True):
        await _lasting(3, 9)
        yield


@asynccontextmanager
async def leader_deaf(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Drop what the leader is sent, not what it sends."""
    leader = await nodes.leader(bucket)
    async with _cut(nodes, ((other, leader) for other in _others(nodes, leader)), is_one_way=True):
        await _lasting(3, 9)
        yield


@asynccontextmanager
async def leader_comes_and_goes(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut the leader off and heal again, around the time that it takes the others to elect the next one."""
    for _ in range(2):
        leader = await nodes.leader(bucket)
        async with _cut(nodes, ((leader, other) for other in _others(nodes, leader))):
            await _lasting(4, 7)
        await _lasting(0.1, 1)
    yield


@asynccontextmanager
async def follower_cut_off(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut a follower off; it comes back having stood for election in vain."""
    follower, _ = _others(nodes, await nodes.leader(bucket))
    async with _cut(nodes, ((follower, other) for other in _others(nodes, follower))):
        await _lasting(3, 10)
        yield


@asynccontextmanager
async def majority_lost(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    """Cut everybody off from everybody."""
    async with _cut(nodes, itertools.combinations(nodes.names, 2)):
        await _lasting(2, 8)
        yield


@asynccontextmanager
async def leader_steps_down(nodes: Nodes, bucket: str) -> AsyncIterator[None]:
    for _ in range(3):
        await nodes.all_current(bucket)
        await nodes.step_down(bucket)
        await _lasting(0.2, 1.5)
    yield


FAULTS: dict[str, Fault] = {
    "leader killed": leader_killed,
    "follower killed": follower_killed,
    "leader frozen": leader_frozen,
    "leader cut off": leader_cut_off,
    "leader cut off in turns": leader_cut_off_in_turns,
    "leader half cut off": leader_half_cut_off,
    "leader not heard": leader_not_heard,
    "leader deaf": leader_deaf,
    "follower cut off": follower_cut_off,
    "majority lost": majority_lost,
    "leader steps down": leader_steps_down,
    "leader comes and goes": leader_comes_and_goes,
}
