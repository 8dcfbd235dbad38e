"""Many keys in one call, each with a result or an error of its own, and pages of keys."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor


async def list_keys(actor: Actor, prefix: str, limit: int = 1000, cursor: str = "") -> tuple[list[str], str]:
    answer = await actor.call("KeyValueStore.ListKeys", {"prefix": prefix, "cursor": cursor, "limit": limit})
    return answer["keys"], answer["cursor"]


async def all_keys(actor: Actor, prefix: str, limit: int) -> list[list[str]]:
    pages, cursor = [], ""
    while True:
        keys, cursor = await list_keys(actor, prefix, limit, cursor)
        pages.append(keys)
        if not cursor:
            return pages


async def test_many_texts_are_set_and_read_in_order(actor: Actor) -> None:
    keys = [fresh() for _ in range(50)]
    items = [{"key": key, "value": f"v{number}", "expires": 0} for number, key in enumerate(keys)]
    assert await actor.call("KeyValueBatch.SetMany", items) == [{"key": key, "done": True} for key in keys]
    missing = fresh()
    found = await actor.call("KeyValueBatch.GetMany", [*reversed(keys), missing])
    wanted = [{"key": key, "value": f"v{number}", "exists": True} for number, key in enumerate(keys)]
    assert found == [*reversed(wanted), {"key": missing, "value": "", "exists": False}]
    assert await actor.get(keys[7]) == "v7"


async def test_an_answer_that_would_be_too_large_is_an_error_with_the_limit(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "x" * 900_000)
    error = await actor.error("KeyValueBatch.GetMany", [key] * 19)
    assert "16777216 bytes" in error
    assert "fewer" in error
    assert [found["exists"] for found in await actor.call("KeyValueBatch.GetMany", [key])] == [True]


async def test_many_keys_are_deleted_and_each_answer_shows_whether_the_key_existed(actor: Actor) -> None:
    there, missing = fresh(), fresh()
    await actor.set_add(there, "m")
    answer = await actor.call("KeyValueBatch.DeleteMany", [there, missing, there])
    assert [one["done"] for one in answer] == [True, False, False]
    assert not await actor.contains(there)


async def test_an_error_of_one_key_does_not_affect_the_others(actor: Actor) -> None:
    good, list_ = fresh(), fresh()
    await actor.list_add(list_, "a")
    items = [{"key": "", "value": "v", "expires": 0}, {"key": good, "value": "v", "expires": 0}]
    first, second = await actor.call("KeyValueBatch.SetMany", items)
    assert (first["done"], first["error"]) == (False, "key is empty")
    assert second == {"key": good, "done": True}
    texts = await actor.call("KeyValueBatch.GetMany", [list_, good])
    assert "list" in texts[0]["error"]
    assert texts[1] == {"key": good, "value": "v", "exists": True}


async def test_the_same_key_twice_has_the_later_value(actor: Actor) -> None:
    key = fresh()
    await actor.call("KeyValueBatch.SetMany", [{"key": key, "value": value, "expires": 0} for value in "abc"])
    assert await actor.get(key) == "c"


@pytest.mark.parametrize("operation", ["SetMany", "GetMany", "DeleteMany"])
async def test_an_empty_batch_has_an_empty_answer(actor: Actor, operation: str) -> None:
    assert await actor.call(f"KeyValueBatch.{operation}", []) == []


async def test_more_keys_than_the_limit_are_refused(actor: Actor) -> None:
    items = [{"key": "k", "value": "v", "expires": 0}] * 10_001
    for operation, argument in (("SetMany", items), ("GetMany", ["k"] * 10_001), ("DeleteMany", ["k"] * 10_001)):
        error = await actor.error(f"KeyValueBatch.{operation}", argument)
        assert "10001" in error
        assert "10000" in error


async def test_keys_are_listed_by_prefix_in_pages(actor: Actor) -> None:
    prefix = fresh()
    keys = {f"{prefix}.user:{number} ü" for number in range(25)}
    for key in keys:
        await actor.set(key, "v")
    await actor.set(f"{fresh()}other", "v")
    pages = await all_keys(actor, f"{prefix}.user:", 10)
    assert [len(page) for page in pages if page][:2] == [10, 10]
    assert {key for page in pages for key in page} == keys
    assert sum(map(len, pages)) == 25
    assert await list_keys(actor, f"{prefix}.user:2 ", 5) == ([f"{prefix}.user:2 ü"], "")
    assert await list_keys(actor, f"{prefix}nothing") == ([], "")


async def test_deleted_and_expired_keys_are_not_listed(actor: Actor) -> None:
    prefix = fresh()
    for name in ("a", "b", "c"):
        await actor.set(prefix + name, "v")
    await actor.set_add(f"{prefix}set", "m")
    await actor.delete(f"{prefix}b")
    await actor.set_del(f"{prefix}set", "m")
    assert sorted((await list_keys(actor, prefix))[0]) == [f"{prefix}a", f"{prefix}c"]


async def test_only_keys_of_the_link_are_listed_and_without_its_prefix(make_actor: MakeActor, backend: str) -> None:
    values: dict[str, Any] = {"BACKEND": backend, "BUCKET": fresh("b").replace(".", "-")}
    if backend == "cache":
        values["STATE_REPL_SUBJECT"] = fresh("state")
        values["REPLAY_REQ_SUBJECT"] = fresh("replay")
    ours = await make_actor(**values, KEY_PREFIX="ours.")
    whole = await make_actor(**values)
    await ours.set("a", "v")
    await whole.set("b", "v")
    assert await list_keys(ours, "") == (["a"], "")
    assert sorted((await list_keys(whole, ""))[0]) == ["b", "ours.a"]


@pytest.mark.parametrize("limit", [0, 10_001, -1])
async def test_a_page_of_zero_or_too_many_keys_is_refused(actor: Actor, limit: int) -> None:
    error = await actor.error("KeyValueStore.ListKeys", {"prefix": "", "cursor": "", "limit": limit})
    assert "limit" in error
