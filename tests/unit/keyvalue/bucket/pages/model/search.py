"""The search: every order of steps, one state after the other, until a fault is found or the bound is reached."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.keyvalue.bucket.pages.model.bystanders import events
from tests.unit.keyvalue.bucket.pages.model.world import Sent, World, deliver, fault_of


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        fault: The fault; "" if no state has one.
        states: Number of states that were visited.
        is_whole: Whether these were all states.
        path: The states that lead to the fault.
    """

    fault: str
    states: int
    is_whole: bool
    path: tuple[World, ...] = ()


def search(first: World, most_states: int) -> Found:
    """Visit the states that can follow a state, the nearest first."""
    seen: dict[World, World | None] = {first: None}
    waiting = deque([first])
    while waiting:
        before = waiting.popleft()
        for world in _next(before):
            if world in seen:
                continue
            seen[world] = before
            if fault := fault_of(world):
                return Found(fault, len(seen), is_whole=False, path=_path(seen, world))
            waiting.append(world)
        if len(seen) >= most_states:
            return Found("", len(seen), is_whole=False)
    return Found("", len(seen), is_whole=True)


def told(path: tuple[World, ...]) -> str:
    """Return a path as text: a line for each state, with all that has changed since the one before."""
    lines: list[str] = []
    for before, world in itertools.pairwise(path):
        changed = [
            f"{name}: {getattr(world, name)}" for name in world._fields if getattr(world, name) != getattr(before, name)
        ]
        lines.append("; ".join(changed))
    return "\n".join(lines)


def _path(seen: dict[World, World | None], last: World) -> tuple[World, ...]:
    path: list[World] = []
    world: World | None = last
    while world is not None:
        path.append(world)
        world = seen[world]
    return tuple(reversed(path))


def _next(world: World) -> Iterator[World]:
    for index, process in enumerate(world.processes):
        yield from process.steps(world, index)
    for sent in dict.fromkeys(world.sent):
        yield from _delivered(world, sent)
    yield from events(world)


def _delivered(world: World, sent: Sent) -> Iterator[World]:
    after, reply, revision = deliver(world, sent)
    sender, number = sent.sender, sent.number
    yield after.processes[sender].on_reply(after, sender, number, reply, revision)
    if reply != "refused":
        yield after  # stored, and the answer is lost
    if world.is_replicated and reply != "refused" and not world.processes[sender].is_collector:
        # A leader that was deposed refuses it, and its successor may store it later.
        yield world.processes[sender].on_reply(world, sender, number, "refused", 0)
