"""Sets: members once each, union, intersection."""

from __future__ import annotations

import asyncio

from tests.conformance.actor import Actor, fresh


async def filled(actor: Actor, members: str) -> str:
    key = fresh("set")
    for member in members:
        assert await actor.set_add(key, member) == 1
    return key


async def test_a_member_is_in_a_set_once(actor: Actor) -> None:
    key = await filled(actor, "ab")
    assert await actor.set_add(key, "a") == 0
    assert await actor.set_query(key) == {"a", "b"}
    assert await actor.set_del(key, "a") == 1
    assert await actor.set_del(key, "a") == 0
    assert await actor.set_query(key) == {"b"}


async def test_a_missing_set_is_empty(actor: Actor) -> None:
    key = fresh()
    assert await actor.set_query(key) == set()
    assert await actor.set_del(key, "a") == 0
    assert await actor.set_clear(key) is False
    assert await actor.contains(key) is False


async def test_an_emptied_set_is_absent_and_its_key_may_have_any_kind(actor: Actor) -> None:
    key = await filled(actor, "a")
    assert await actor.set_del(key, "a") == 1
    assert await actor.contains(key) is False
    assert await actor.delete(key) is False
    assert await actor.list_add(key, "element") == 1


async def test_a_cleared_set_is_absent_and_starts_again(actor: Actor) -> None:
    key = await filled(actor, "abc")
    assert await actor.set_clear(key) is True
    assert await actor.set_query(key) == set()
    assert await actor.set_clear(key) is False
    assert await actor.set_add(key, "a") == 1


async def test_a_union_has_the_members_of_all(actor: Actor) -> None:
    first, second, third = await filled(actor, "abc"), await filled(actor, "bcd"), await filled(actor, "x")
    missing = fresh()
    assert await actor.set_union(first, second, third) == set("abcdx")
    assert await actor.set_union(first, missing) == set("abc")
    assert await actor.set_union(missing, first) == set("abc")
    assert await actor.set_union(first, first) == set("abc")
    assert await actor.set_union(first) == set("abc")
    assert await actor.set_union(missing) == set()
    assert await actor.set_union(missing, fresh()) == set()
    assert await actor.set_union() == set()


async def test_an_intersection_has_the_common_members(actor: Actor) -> None:
    first, second, third = await filled(actor, "abc"), await filled(actor, "bcd"), await filled(actor, "cxyz")
    missing = fresh()
    assert await actor.set_intersection(first, second) == set("bc")
    assert await actor.set_intersection(first, second, third) == set("c")
    assert await actor.set_intersection(first, first) == set("abc")
    assert await actor.set_intersection(first) == set("abc")
    assert await actor.set_intersection(first, missing) == set()
    assert await actor.set_intersection(missing, first) == set()
    assert await actor.set_intersection(missing) == set()
    assert await actor.set_intersection() == set()


async def test_a_deleted_set_is_missing_in_unions_and_intersections(actor: Actor) -> None:
    first, second = await filled(actor, "ab"), await filled(actor, "bc")
    assert await actor.delete(second) is True
    assert await actor.set_union(first, second) == set("ab")
    assert await actor.set_intersection(first, second) == set()


async def test_many_sets_are_united_and_intersected(actor: Actor) -> None:
    keys = [fresh(str(number)) for number in range(30)]
    await asyncio.gather(
        *(actor.set_add(key, member) for number, key in enumerate(keys) for member in ("common", f"own{number}"))
    )
    assert await actor.set_union(*keys) == {"common"} | {f"own{number}" for number in range(30)}
    assert await actor.set_intersection(*keys) == {"common"}


async def test_a_set_has_a_thousand_members(actor: Actor) -> None:
    key = fresh()
    members = {f"member {number} é" for number in range(1000)}
    assert await asyncio.gather(*(actor.set_add(key, member) for member in members)) == [1] * 1000
    assert await actor.set_query(key) == members
    assert await asyncio.gather(*(actor.set_add(key, member) for member in sorted(members)[:50])) == [0] * 50
    assert await asyncio.gather(*(actor.set_del(key, member) for member in sorted(members)[:500])) == [1] * 500
    assert await actor.set_query(key) == set(sorted(members)[500:])
