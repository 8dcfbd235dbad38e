"""Sets and lists of thousands in a cache: calls about them are carried out in slices, and replicas agree as with small ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.actor import Actor
from tests.process.cache.replicas import all_see, sees
from tests.process.conftest import MakeReplicas

MANY = 4_500
"""Members: more than are read at once, and more than one event removes by their dots."""
CALLS_TOGETHER = 500
SECONDS = 20.0


async def fill(actor: Actor, prefix: str) -> tuple[set[str], list[str]]:
    """Add thousands of members to a set and of elements to a list, and return them."""
    members = [f"{prefix} {number}" for number in range(MANY)]
    for start in range(0, MANY, CALLS_TOGETHER):
        some = members[start : start + CALLS_TOGETHER]
        await asyncio.gather(*(actor.set_add("s:large", member) for member in some))
        await asyncio.gather(*(actor.list_add("l:large", "x") for _ in some[1:]))
    for element in ("first", "x", "first"):
        await actor.list_add("l:large", element)
    return set(members), ["x"] * (MANY - MANY // CALLS_TOGETHER) + ["first", "x", "first"]


@pytest.mark.slow
async def test_large_sets_and_lists_are_read_changed_cleared_and_taken_over(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    members, elements = await fill(here, "member")
    await all_see([here, there], {"s:large": members, "l:large": elements}, SECONDS)

    async def union(actor: Actor) -> set[str]:
        return set(await actor.call("SetUnion", ["s:large", "s:small", "s:large"]))

    await there.set_add("s:small", "small")
    await there.set_add("s:small", "member 7")
    assert await union(there) == members | {"small"}
    assert await there.call("SetIntersection", ["s:large", "s:small"]) == ["member 7"]
    assert await there.call("ListRange", {"listName": "l:large", "start": -3, "stop": -1}) == ["first", "x", "first"]
    deleted: list[Any] = await asyncio.gather(*(there.list_del("l:large", "first") for _ in range(3)))
    assert sorted(deleted) == [False, True, True]
    elements = [element for element in elements if element != "first"]
    # Reads that go on while others change the set see it before or after each change.
    reading = [asyncio.create_task(there.set_query("s:large")) for _ in range(5)]
    await asyncio.gather(
        *(there.set_add("s:large", f"new {number}") for number in range(100)),
        *(there.set_del("s:large", f"member {number}") for number in range(100)),
    )
    for found in await asyncio.gather(*reading):
        assert members - {f"member {number}" for number in range(100)} <= found
        assert found <= members | {f"new {number}" for number in range(100)}
    members -= {f"member {number}" for number in range(100)}
    members |= {f"new {number}" for number in range(100)}
    late = await replicas.start(0)
    await all_see([here, there, late], {"s:large": members, "l:large": elements}, SECONDS)
    assert await late.call("SetClear", "s:large") is True
    await late.set("l:large", "a text")
    assert await late.set_query("s:large") == set()
    await sees(here, {"s:large": set(), "t:large": None}, SECONDS)
    await all_see([here, there, late], {"s:large": set()}, SECONDS)
    for actor in (here, there, late):
        assert await actor.get("l:large") == "a text"
    last = await replicas.start(1)
    await sees(last, {"s:large": set(), "s:small": {"small", "member 7"}}, SECONDS)
    assert await last.get("l:large") == "a text"
