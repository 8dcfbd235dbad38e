"""Entries with their revisions, and changes that depend on one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh

ABSENT = {"exists": False, "value": "", "kind": "", "revision": 0, "expires": 0}


async def entry(actor: Actor, key: str) -> dict[str, Any]:
    found: dict[str, Any] = await actor.call("KeyValueAtomics.GetEntry", key)
    return found


async def create(actor: Actor, key: str, value: str, expires: int = 0) -> tuple[bool, int]:
    answer = await actor.call("KeyValueAtomics.Create", {"key": key, "value": value, "expires": expires})
    return answer["success"], answer["revision"]


async def swap(actor: Actor, key: str, value: str, revision: int, expires: int = 0) -> tuple[bool, int]:
    argument = {"key": key, "value": value, "expires": expires, "revision": revision}
    answer = await actor.call("KeyValueAtomics.CompareAndSwap", argument)
    return answer["success"], answer["revision"]


async def delete_revision(actor: Actor, key: str, revision: int) -> tuple[bool, int]:
    answer = await actor.call("KeyValueAtomics.CompareAndDelete", {"key": key, "revision": revision})
    return answer["success"], answer["revision"]


async def test_an_entry_has_value_kind_and_revision(actor: Actor) -> None:
    key = fresh()
    assert await entry(actor, key) == ABSENT
    await actor.set(key, "text")
    first = await entry(actor, key)
    assert first == {"exists": True, "value": "text", "kind": "text", "revision": first["revision"], "expires": 0}
    await actor.increment(number := fresh(), 7)
    await actor.list_add(list_ := fresh(), "a")
    await actor.list_add(list_, "b")
    await actor.set_add(set_ := fresh(), "m")
    found = [await entry(actor, key) for key in (number, list_, set_)]
    assert [(one["kind"], one["value"]) for one in found] == [("counter", "7"), ("list", '["a","b"]'), ("set", '["m"]')]
    assert all(one["revision"] > 0 for one in found)


async def test_every_change_has_a_revision_of_its_own(actor: Actor) -> None:
    key, seen = fresh(), set()
    for value in ("a", "b", "a", "a"):
        await actor.set(key, value)
        seen.add((await entry(actor, key))["revision"])
    await actor.set_add(set_ := fresh(), "m")
    await actor.set_add(set_, "n")
    with_two = (await entry(actor, set_))["revision"]
    await actor.set_del(set_, "m")
    assert (await entry(actor, set_))["revision"] != with_two
    assert len(seen) == 4


async def test_an_entry_has_the_seconds_until_it_expires(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "v", 100)
    assert 98 <= (await entry(actor, key))["expires"] <= 100


async def test_create_writes_a_text_once_and_then_answers_the_existing_revision(actor: Actor) -> None:
    key = fresh()
    done, revision = await create(actor, key, "first")
    assert done
    assert (await entry(actor, key))["revision"] == revision
    assert await create(actor, key, "second") == (False, revision)
    assert await actor.get(key) == "first"
    await actor.delete(key)
    done, again = await create(actor, key, "third")
    assert done
    assert again != revision


async def test_one_of_many_concurrent_creates_of_a_key_succeeds(actor: Actor) -> None:
    key = fresh()
    answers = await asyncio.gather(*(create(actor, key, str(number)) for number in range(32)))
    winners = [number for number, (done, _) in enumerate(answers) if done]
    assert len(winners) == 1
    assert await actor.get(key) == str(winners[0])


async def test_a_lock_expires_and_is_released_only_by_its_owner(actor: Actor) -> None:
    key = fresh()
    _, first = await create(actor, key, "one", 1)
    assert not (await create(actor, key, "two", 1))[0]

    async def is_free() -> bool:
        return (await create(actor, key, "two", 60))[0]

    await eventually(is_free, "the end of the lock")
    assert not (await delete_revision(actor, key, first))[0]
    assert await actor.get(key) == "two"
    assert await delete_revision(actor, key, (await entry(actor, key))["revision"]) == (True, 0)
    assert not await actor.contains(key)
    assert await delete_revision(actor, key, 1) == (False, 0)


async def test_a_swap_succeeds_only_on_the_current_revision(actor: Actor) -> None:
    key = fresh()
    assert (await swap(actor, key, "x", 123456789)) == (False, 0)
    done, first = await swap(actor, key, "a", 0, 50)
    assert done
    assert (await entry(actor, key))["expires"] > 0
    done, second = await swap(actor, key, "b", first)
    assert done
    assert await swap(actor, key, "c", first) == (False, second)
    assert await swap(actor, key, "c", 0) == (False, second)
    found = await entry(actor, key)
    assert (found["value"], found["revision"], found["expires"]) == ("b", second, 0)


async def test_no_update_is_lost_when_many_callers_read_and_swap(actor: Actor) -> None:
    key, rounds = fresh(), 5
    await create(actor, key, "0")

    async def add_one() -> None:
        while True:
            found = await entry(actor, key)
            if (await swap(actor, key, str(int(found["value"]) + 1), found["revision"]))[0]:
                return

    async def work() -> None:
        for _ in range(rounds):
            await add_one()

    await asyncio.gather(*(work() for _ in range(8)))
    assert await actor.get(key) == str(8 * rounds)


async def test_a_swap_between_other_changes_sees_each_of_them(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "0")
    revision = (await entry(actor, key))["revision"]
    first, _, second, _ = await asyncio.gather(
        swap(actor, key, "10", revision), actor.increment(key), swap(actor, key, "20", revision), actor.increment(key)
    )
    assert not (first[0] and second[0])
    assert int(await actor.get(key) or "") - 2 in (0, 10, 20)


async def test_an_argument_without_its_revision_is_an_error(actor: Actor) -> None:
    argument = msgpack.packb({"key": "k", "value": "v", "expires": 0})
    error = await actor.raw_error("KeyValueAtomics.CompareAndSwap", argument)
    assert "malformed argument of KeyValueAtomics.CompareAndSwap" in error
    assert "revision" in error
