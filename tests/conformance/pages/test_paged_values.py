"""Values that do not fit into one message: every operation has the results that it has on a small one."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor
from tests.conformance.stored import StoredBucket

MEMBERS = [f"member:{number:05}:{'x' * 100}" for number in range(800)]
"""More than 64 KiB together."""


async def at_once(calls: list[object], most: int = 500) -> list[object]:
    results: list[object] = []
    for start in range(0, len(calls), most):
        results += await asyncio.gather(*calls[start : start + most])  # type: ignore[call-overload]
    return results


@pytest.fixture(scope="module")
def paged() -> dict[str, Actor]:
    return {}


async def paging_actor(paged: dict[str, Actor], make_actor: MakeActor) -> Actor:
    if "actor" not in paged:
        paged["actor"] = await make_actor(BACKEND="bucket")
    return paged["actor"]


async def is_gone(actor: Actor, key: str) -> bool:
    return not await actor.contains(key)


async def is_paged(actor: Actor, key: str) -> bool:
    message = await StoredBucket(actor.host.client, actor.bucket).message(key)
    return message is not None and message.headers.get("Kv-Kind") == "paged"


async def test_a_set_gets_pages_as_it_grows_and_loses_them_as_it_shrinks(
    paged: dict[str, Actor], make_actor: MakeActor
) -> None:
    actor, key = await paging_actor(paged, make_actor), fresh("set")
    order = random.Random(5).sample(MEMBERS, len(MEMBERS))
    assert await at_once([actor.set_add(key, member) for member in order[:100]]) == [1] * 100
    assert not await is_paged(actor, key)
    assert await at_once([actor.set_add(key, member) for member in order[100:]]) == [1] * (len(order) - 100)
    assert await is_paged(actor, key)
    assert await at_once([actor.set_add(key, member) for member in order[:50]]) == [0] * 50
    assert await actor.set_query(key) == set(MEMBERS)
    assert await actor.contains(key)
    small, other = fresh("small"), fresh("other")
    await at_once([actor.set_add(small, member) for member in [MEMBERS[7], "a", "z"]])
    assert await actor.set_intersection(key, small) == {MEMBERS[7]}
    assert await actor.set_union(small, key, other) == set(MEMBERS) | {"a", "z"}
    assert "set" in await actor.error("Get", key)
    assert "set" in await actor.error("ListAdd", {"listName": key, "value": "x"})
    assert "set" in await actor.error("Increment", {"key": key, "value": 1})
    deletions = random.Random(6).sample(MEMBERS, len(MEMBERS) - 10)
    assert await at_once([actor.set_del(key, member) for member in deletions]) == [1] * len(deletions)
    assert not await is_paged(actor, key)
    assert await actor.set_query(key) == set(MEMBERS) - set(deletions)
    assert await actor.set_del(key, deletions[0]) == 0
    assert await actor.set_clear(key)
    assert not await actor.contains(key)


async def test_a_list_keeps_its_order_in_pages(paged: dict[str, Actor], make_actor: MakeActor) -> None:
    actor, key = await paging_actor(paged, make_actor), fresh("list")
    for start in range(0, 800, 200):
        lengths = await at_once([actor.list_add(key, member) for member in MEMBERS[start : start + 200]])
        assert lengths == list(range(start + 1, start + 201))
    assert await is_paged(actor, key)
    assert await actor.list_range(key) == MEMBERS
    assert await actor.list_range(key, 400, 499) == MEMBERS[400:500]
    assert await actor.list_range(key, -3, -1) == MEMBERS[-3:]
    assert await actor.list_range(key, 790, 9999) == MEMBERS[790:]
    assert await actor.list_del(key, MEMBERS[400])
    assert not await actor.list_del(key, MEMBERS[400])
    assert await actor.list_del(key, MEMBERS[-1])
    assert await actor.list_del(key, MEMBERS[0])
    rest = [member for member in MEMBERS if member not in (MEMBERS[0], MEMBERS[400], MEMBERS[-1])]
    assert await actor.list_range(key) == rest
    assert await actor.list_add(key, "last") == len(rest) + 1
    assert await actor.list_clear(key)
    assert await actor.list_range(key) == []
    assert await actor.list_add(key, "first") == 1


async def test_a_text_may_be_larger_than_a_message(paged: dict[str, Actor], make_actor: MakeActor) -> None:
    actor, key = await paging_actor(paged, make_actor), fresh("text")
    text = "".join(random.Random(7).choices("aé€𐍈", k=600_000))
    await actor.set(key, text)
    assert await is_paged(actor, key)
    assert await actor.get(key) == text
    assert "not a decimal number" in await actor.error("Increment", {"key": key, "value": 1})
    assert "text" in await actor.error("SetAdd", {"setName": key, "value": "x"})
    await actor.set(key, text[1:])
    assert await actor.get(key) == text[1:]
    entry = await actor.call("KeyValueAtomics.GetEntry", key)
    assert (entry["kind"], entry["value"]) == ("text", text[1:])
    swap = {"key": key, "value": text[2:], "expires": 0, "revision": entry["revision"]}
    assert (await actor.call("KeyValueAtomics.CompareAndSwap", swap))["success"]
    assert not (await actor.call("KeyValueAtomics.CompareAndSwap", swap))["success"]
    assert await actor.call("KeyValueBatch.GetMany", [key, "absent"]) == [
        {"key": key, "value": text[2:], "exists": True},
        {"key": "absent", "value": "", "exists": False},
    ]
    await actor.set(key, "short")
    assert await actor.get(key) == "short"
    await actor.set(key, text, 1)
    assert await actor.get(key) == text
    await eventually(lambda: is_gone(actor, key), "the value has ended")
    assert await actor.delete(key) is False


async def test_the_head_is_json_and_pages_go_when_their_value_goes(
    paged: dict[str, Actor], make_actor: MakeActor
) -> None:
    actor, key = await paging_actor(paged, make_actor), fresh("head")
    await at_once([actor.set_add(key, member) for member in MEMBERS])
    stored = StoredBucket(actor.host.client, actor.bucket)
    head = json.loads(await stored.payload(key) or b"")
    assert (head["kind"], head["count"], head["bytes"]) == ("set", 800, sum(map(len, MEMBERS)))
    assert await actor.delete(key)
    assert not await actor.contains(key)


async def test_limits_hold_for_the_whole_value_and_for_an_element(make_actor: MakeActor) -> None:
    actor = await make_actor(BACKEND="bucket", MAX_VALUE_SIZE="90000")
    set_, list_ = fresh("set"), fresh("list")
    await at_once([actor.set_add(set_, member) for member in MEMBERS[:700]])
    assert await is_paged(actor, set_)
    errors = [
        error for error in await asyncio.gather(*(actor.set_add(set_, m) for m in MEMBERS[700:]), return_exceptions=True)
        if isinstance(error, Exception)
    ]  # fmt: skip
    assert errors
    assert all("over the bucket's MAX_VALUE_SIZE: the maximum is 90000" in str(error) for error in errors)
    assert sum(map(len, await actor.set_query(set_))) <= 90_000
    await actor.list_add(list_, "x")
    error = await actor.error("ListAdd", {"listName": list_, "value": "x" * 600_000})
    assert "element of 600000 bytes" in error
    assert "the maximum is 524288 bytes" in error
    assert await actor.list_range(list_) == ["x"]


async def test_batches_set_read_and_delete_large_texts(paged: dict[str, Actor], make_actor: MakeActor) -> None:
    actor = await paging_actor(paged, make_actor)
    keys = [fresh("many") for _ in range(3)]
    texts = [str(number) * 1_200_000 for number in range(3)]
    items = [{"key": key, "value": text, "expires": 0} for key, text in zip(keys, texts, strict=True)]
    assert await actor.call("KeyValueBatch.SetMany", items) == [{"key": key, "done": True} for key in keys]
    found = await actor.call("KeyValueBatch.GetMany", [*keys, keys[0]])
    assert [one["value"] for one in found] == [*texts, texts[0]]
    assert await actor.call("KeyValueBatch.DeleteMany", keys) == [{"key": key, "done": True} for key in keys]
    assert not any([await actor.contains(key) for key in keys])
