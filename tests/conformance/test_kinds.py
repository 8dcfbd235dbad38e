"""Wrong kinds: an error that names the key and both kinds, and nothing changes."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from tests.conformance.actor import Actor, fresh
from tests.conformance.stored import StoredBucket

LIST_OPERATIONS = ["ListAdd", "ListDel", "ListRange", "ListClear"]
SET_OPERATIONS = ["SetAdd", "SetDel", "SetQuery", "SetClear", "SetUnion", "SetIntersection"]
WRONG = [
    *(("text", operation, "list") for operation in LIST_OPERATIONS),
    *(("text", operation, "set") for operation in SET_OPERATIONS),
    ("text", "Increment", "counter"),
    *(("counter", operation, "list") for operation in LIST_OPERATIONS),
    *(("counter", operation, "set") for operation in SET_OPERATIONS),
    ("list", "Get", "text"),
    ("list", "Increment", "counter"),
    *(("list", operation, "set") for operation in SET_OPERATIONS),
    ("set", "Get", "text"),
    ("set", "Increment", "counter"),
    *(("set", operation, "list") for operation in LIST_OPERATIONS),
]


def argument(operation: str, key: str) -> object:
    match operation:
        case "Increment":
            return {"key": key, "value": 1}
        case "ListAdd" | "ListDel":
            return {"listName": key, "value": "x"}
        case "ListRange":
            return {"listName": key, "start": 0, "stop": -1}
        case "SetAdd" | "SetDel":
            return {"setName": key, "value": "x"}
        case "SetUnion" | "SetIntersection":
            return [key]
    return key


async def fill(actor: Actor, kind: str, key: str) -> None:
    match kind:
        case "text":
            await actor.set(key, "x")
        case "counter":
            await actor.increment(key)
        case "list":
            await actor.list_add(key, "x")
        case "set":
            await actor.set_add(key, "x")


@pytest.mark.parametrize(("kind", "operation", "wanted"), WRONG)
async def test_an_operation_for_another_kind_names_key_and_kinds_and_changes_nothing(
    actor: Actor, stored: StoredBucket, kind: str, operation: str, wanted: str
) -> None:
    key = fresh()
    await fill(actor, kind, key)
    before = await stored.revision(key), await actor.read_all(key)
    error = await actor.error(operation, argument(operation, key))
    assert key in error
    assert kind in error.split(key)[1]
    assert wanted in error.split(key)[1]
    assert "outcome unknown" not in error
    assert (await stored.revision(key), await actor.read_all(key)) == before


@pytest.mark.parametrize("operation", ["SetUnion", "SetIntersection"])
async def test_a_key_of_another_kind_among_sets_is_an_error_with_its_name(actor: Actor, operation: str) -> None:
    first, second, other = fresh("set"), fresh("set"), fresh("list")
    await actor.set_add(first, "a")
    await actor.set_add(second, "a")
    await actor.list_add(other, "a")
    for keys in ([first, other], [other, first], [first, second, other]):
        error = await actor.error(operation, keys)
        assert other in error
        assert first not in error


@pytest.mark.parametrize("kind", ["text", "counter", "list", "set"])
async def test_a_key_of_any_kind_is_contained_and_can_be_deleted(actor: Actor, kind: str) -> None:
    key = fresh()
    await fill(actor, kind, key)
    assert await actor.contains(key) is True
    assert await actor.delete(key) is True
    assert await actor.contains(key) is False


async def test_a_text_that_looks_like_a_list_is_a_text(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, '["a","b"]')
    assert "text" in await actor.error("ListAdd", {"listName": key, "value": "c"})
    assert "text" in await actor.error("SetQuery", key)
    assert await actor.get(key) == '["a","b"]'


@pytest.mark.parametrize("backend", ["bucket"], indirect=True)
async def test_a_binary_value_from_outside_can_only_be_deleted_or_overwritten(
    actor: Actor, stored: StoredBucket
) -> None:
    key = fresh()
    client: Client = actor.host.client
    for operation in ("Get", "Increment", *LIST_OPERATIONS, *SET_OPERATIONS):
        await client.request(f"$KV.{actor.bucket}.{key}", b"\xff\xfe\x00", timeout=5)
        assert key in await actor.error(operation, argument(operation, key))
        assert await stored.payload(key) == b"\xff\xfe\x00"
    assert await actor.contains(key) is True
    assert await actor.delete(key) is True
    assert await actor.get(key) is None
    await client.request(f"$KV.{actor.bucket}.{key}", b"\xff", timeout=5)
    await actor.set(key, "text")
    assert await actor.get(key) == "text"
