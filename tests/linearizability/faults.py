"""Faults of a cluster, for the time in which callers call. Each begins, lasts, and is undone before it returns.

The length of a fault is part of it, so these functions, and no others, wait for a time. A follower's election timeout is
4 to 9 seconds, and a leader that was cut off believes for about eight that it still leads. The lengths lie around that.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.blackbox.nats.cluster import Nodes

Fault = Callable[[Nodes, str], Awaitable[None]]
"""Called with the cluster and the name of the bucket whose stream is hit."""

_State = Callable[[Nodes, str], AbstractAsyncContextManager[None]]
"""The state of one server, by name, for the length of a block."""


async def _lasting(least_seconds: float, most_seconds: float) -> None:
    await asyncio.sleep(random.uniform(least_seconds, most_seconds))


def _others(nodes: Nodes, name: str) -> list[str]:
    others = [other for other in nodes.names if other != name]
    random.shuffle(others)
    return others


# --- the state of one server


@asynccontextmanager
async def _killed(nodes: Nodes, name: str) -> AsyncIterator[None]:
    nodes.kill(name)
    try:
        yield
    finally:
        nodes.start(name)


@asynccontextmanager
async def _frozen(nodes: Nodes, name: str) -> AsyncIterator[None]:
    nodes.freeze(name)
    try:
        yield
    finally:
        nodes.thaw(name)


@asynccontextmanager
async def _cut(nodes: Nodes, pairs: Iterable[tuple[str, str]], *, is_one_way: bool = False) -> AsyncIterator[None]:
    for sender, receiver in pairs:
        nodes.cut(sender, receiver, is_one_way=is_one_way)
    try:
        yield
    finally:
        nodes.heal()


def _cut_off(nodes: Nodes, name: str) -> AbstractAsyncContextManager[None]:
    """Cut a server off from its peers, while clients stay connected to it."""
    return _cut(nodes, ((name, other) for other in _others(nodes, name)))


def _half_cut_off(nodes: Nodes, name: str) -> AbstractAsyncContextManager[None]:
    """Cut a server off from one peer. Both still reach the third server."""
    return _cut(nodes, [(name, _others(nodes, name)[0])])


def _not_heard(nodes: Nodes, name: str) -> AbstractAsyncContextManager[None]:
    """Drop the messages that a server sends, but not those that it receives."""
    return _cut(nodes, ((name, other) for other in _others(nodes, name)), is_one_way=True)


def _deaf(nodes: Nodes, name: str) -> AbstractAsyncContextManager[None]:
    """Drop the messages that a server receives, but not those that it sends."""
    return _cut(nodes, ((other, name) for other in _others(nodes, name)), is_one_way=True)


def _leader(state: _State, least_seconds: float, most_seconds: float) -> Fault:
    """Return the fault that puts the stream's leader into a state for a time."""

    async def fault(nodes: Nodes, bucket: str) -> None:
        async with state(nodes, await nodes.leader(bucket)):
            await _lasting(least_seconds, most_seconds)

    return fault


def _follower(state: _State, least_seconds: float, most_seconds: float) -> Fault:
    """Return the fault that puts one of the stream's followers into a state for a time."""

    async def fault(nodes: Nodes, bucket: str) -> None:
        async with state(nodes, _others(nodes, await nodes.leader(bucket))[0]):
            await _lasting(least_seconds, most_seconds)

    return fault


# --- faults with more than one step


async def _leader_cut_off_in_turns(nodes: Nodes, bucket: str) -> None:
    """Cut the leader off from one peer, and from the other when the first is about to stand for election.

    The second peer has entries that the first lacks. It refuses the first its vote, and stands for election itself, much
    sooner than after its own timeout.
    """
    leader = await nodes.leader(bucket)
    first, second = _others(nodes, leader)
    async with _cut(nodes, [(leader, first)]):
        await _lasting(3.5, 7)
        nodes.cut(leader, second)
        await _lasting(4, 6)


async def _leader_comes_and_goes(nodes: Nodes, bucket: str) -> None:
    """Cut the leader off for about as long as its peers take to elect another one, and do it again to that one."""
    for _ in range(2):
        await _leader(_cut_off, 4, 7)(nodes, bucket)
        await _lasting(0.1, 1)


async def _majority_lost(nodes: Nodes, bucket: str) -> None:
    """Cut every server off from every other."""
    async with _cut(nodes, itertools.combinations(nodes.names, 2)):
        await _lasting(2, 8)


async def _leader_steps_down(nodes: Nodes, bucket: str) -> None:
    """Ask the leader three times to hand over. No server fails, only the leadership moves."""
    for _ in range(3):
        await nodes.all_current(bucket)
        await nodes.step_down(bucket)
        await _lasting(0.2, 1.5)


FAULTS: dict[str, Fault] = {
    "leader killed": _leader(_killed, 0.5, 8),
    "follower killed": _follower(_killed, 0.5, 5),
    "leader frozen": _leader(_frozen, 1, 11),
    "leader cut off": _leader(_cut_off, 4, 11),
    "leader cut off in turns": _leader_cut_off_in_turns,
    "leader half cut off": _leader(_half_cut_off, 4, 10),
    "leader not heard": _leader(_not_heard, 3, 9),
    "leader deaf": _leader(_deaf, 3, 9),
    "follower cut off": _follower(_cut_off, 3, 10),
    "majority lost": _majority_lost,
    "leader steps down": _leader_steps_down,
    "leader comes and goes": _leader_comes_and_goes,
}
