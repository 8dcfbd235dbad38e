"""Two actors on one bucket use the extensions: a lock, a race that one of them loses, and a watch."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from contracts import extensions, keyvalue
from contracts.extensions import HandleChange, SwapResponse
from contracts.nkeys import KeyKind
from provider.commands.demo.walkthrough import Outcome
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.listener import listening
from provider.commands.dev_lattice.start import DevLattice, link_definition
from provider.commands.minting import make_public_key

_LIMIT_SECONDS = 10.0
"""A watch begins within a second. More than this means that it never will."""


async def show_two_actors(lattice: DevLattice) -> list[Outcome]:
    """Run the lattice's own actor and a second one, which watches."""
    changes: asyncio.Queue[HandleChange] = asyncio.Queue()
    identity = replace(lattice.identity, actor_id=make_public_key(KeyKind.MODULE))
    definition = link_definition(identity, {"BUCKET": lattice.settings.bucket, "WATCH": "orders.*"})
    host = lattice.hosts[0]
    one, other = lattice.actor, Actor(lattice.connection, identity)
    await host.put_link(definition)
    try:
        async with listening(lattice.connection, identity, changes.put_nowait):
            outcomes = [*await _lock(one, other), *await _race(one, other), await _many(one)]
            return [*outcomes, *await _watch(one, changes)]
    finally:
        await host.delete_link(definition)


async def _lock(one: Actor, other: Actor) -> list[Outcome]:
    request = extensions.Create("lock", "mine", 30)
    answers: list[SwapResponse] = await asyncio.gather(one.call(request), other.call(request))
    owner, loser = (one, other) if answers[0].success else (other, one)
    revision = max(answer.revision for answer in answers)
    taken = Outcome("Create, by two actors", "lock mine --expires 30", _both(answers), "mine", _has_one_winner(answers))
    stolen = await loser.call(extensions.CompareAndDelete("lock", revision + 1))
    released = await owner.call(extensions.CompareAndDelete("lock", revision))
    again = await loser.call(request)
    return [
        taken,
        Outcome("CompareAndDelete", "lock, not its revision", _text(stolen), "mine", not stolen.success),
        Outcome("CompareAndDelete", f"lock {revision}", _text(released), None, released.success),
        Outcome("Create, by the other", "lock mine --expires 30", _text(again), "mine", again.success),
    ]


async def _race(one: Actor, other: Actor) -> list[Outcome]:
    await one.call(keyvalue.Set("page", "draft", 0))
    entry = await one.call(extensions.GetEntry("page"))
    read = Outcome("GetEntry", "page", f"{entry.kind} {entry.value!r} {entry.revision}", "draft", entry.exists)
    answers: list[SwapResponse] = await asyncio.gather(
        one.call(extensions.CompareAndSwap("page", "mine", 0, entry.revision)),
        other.call(extensions.CompareAndSwap("page", "yours", 0, entry.revision)),
    )
    stored = (await one.call(keyvalue.Get("page"))).value
    argument = f"page mine|yours {entry.revision}"
    return [read, Outcome("CompareAndSwap, by two", argument, _both(answers), stored, _has_one_winner(answers))]


async def _many(one: Actor) -> Outcome:
    items = [extensions.SetManyItem(f"many.{number}", str(number), 0) for number in range(3)]
    await one.call(extensions.SetMany(items))
    page = await one.call(extensions.ListKeys("many.", "", 10))
    is_whole = sorted(page.keys) == [item.key for item in items] and not page.cursor
    return Outcome("SetMany, ListKeys", "many.0 many.1 many.2", sorted(page.keys), None, is_whole)


async def _watch(one: Actor, changes: asyncio.Queue[HandleChange]) -> list[Outcome]:
    """Write to a key until the watch has begun. From then on it must deliver exactly the changes, in order."""
    async with asyncio.timeout(_LIMIT_SECONDS):
        while changes.empty():
            await one.call(keyvalue.Increment("orders.warm", 1))
            await asyncio.sleep(0.05)
        await one.call(keyvalue.Set("orders.1", "two apples", 0))
        await one.call(keyvalue.Set("other.1", "not watched", 0))
        put = await _next_change(changes)
        await one.call(keyvalue.Del("orders.1"))
        deleted = await _next_change(changes)
    return [
        Outcome(
            "HandleChange", "Set orders.1", _change(put), put.value, (put.operation, put.value) == ("put", "two apples")
        ),
        Outcome("HandleChange", "Del orders.1", _change(deleted), None, deleted.operation == "delete"),
    ]


async def _next_change(changes: asyncio.Queue[HandleChange]) -> HandleChange:
    while True:
        change = await changes.get()
        if change.key != "orders.warm":
            return change


def _has_one_winner(answers: list[SwapResponse]) -> bool:
    return sorted(answer.success for answer in answers) == [False, True]


def _both(answers: list[SwapResponse]) -> str:
    return ", ".join(map(_text, answers))


def _text(answer: SwapResponse) -> str:
    return "yes" if answer.success else f"no, the revision is {answer.revision}"


def _change(change: HandleChange) -> str:
    return f"{change.operation} {change.key} {change.kind} revision {change.revision}".replace("  ", " ")
