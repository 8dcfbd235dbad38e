"""Values at the sizes where pages begin, with contents and keys of all kinds: nothing shows that there are pages."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import pytest
import pytest_asyncio

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor
from tests.conformance.pages.test_paged_values import is_gone, is_paged

MAX_PAYLOAD = 2**20
INLINE_BYTES = 64 * 1024

ODD_KEYS = [
    " ",
    ".",
    "..a",
    "*",
    ">",
    "a b",
    "Ä€𐍈",
    "line\nbreak\r\n",
    "Kv-Page-Of: other",
    "=pages",
    "\x00",
    "k" * 1000,
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def actor(make_actor: MakeActor) -> AsyncIterator[Actor]:
    yield await make_actor(BACKEND="bucket")


async def many(calls: Iterable[Awaitable[Any]], most: int = 500) -> list[Any]:
    turns, results = asyncio.Semaphore(most), list[Any]()

    async def one(call: Awaitable[Any]) -> Any:
        async with turns:
            return await call

    results += await asyncio.gather(*map(one, calls))
    return results


async def test_texts_of_every_size_around_that_of_a_message(actor: Actor) -> None:
    key, were_paged = fresh("text"), []
    for size in (*range(MAX_PAYLOAD - 420, MAX_PAYLOAD + 61, 60), MAX_PAYLOAD - 420, 0, MAX_PAYLOAD * 2, 1):
        text = "é" * (size // 2) + "x" * (size % 2)
        await actor.set(key, text)
        assert await actor.get(key) == text
        were_paged.append(await is_paged(actor, key))
    assert not were_paged[0]
    assert were_paged[8]
    assert were_paged[-4:] == [False, False, True, False]


@pytest.mark.parametrize("kind", ["List", "Set"])
async def test_a_collection_that_goes_to_and_fro_over_the_size_where_pages_begin(actor: Actor, kind: str) -> None:
    key, name = fresh(kind), f"{kind.lower()}Name"
    elements = [f"{number:04}:{'x' * 500}" for number in range(INLINE_BYTES // 508 + 40)]
    states, expected = [], list[str]()
    for last in (len(elements), 5, len(elements), 0, len(elements)):
        for element in elements[len(expected) : last]:
            await actor.call(f"{kind}Add", {name: key, "value": element})
        await many(
            actor.call(f"{kind}Del", {name: key, "value": element}) for element in elements[last : len(expected)]
        )
        expected = elements[:last]
        found = await (actor.list_range(key) if kind == "List" else actor.set_query(key))
        assert sorted(found) == expected
        states.append(await is_paged(actor, key))
        assert await actor.contains(key) == bool(expected)
    assert states == [True, False, True, False, True]


async def test_elements_that_are_empty_equal_or_as_large_as_they_may_be(actor: Actor) -> None:
    key, set_ = fresh("list"), fresh("set")
    largest = "z" * (MAX_PAYLOAD // 2)
    elements = ["", "same", "same", "", largest, "€" * 1000, "same"] * 12
    for start in range(0, len(elements), 7):
        await many(actor.list_add(key, element) for element in elements[start : start + 7])
    assert Counter(await actor.list_range(key, 0, 41)) == Counter(elements[:42])
    assert await many(actor.set_add(set_, element) for element in elements) != []
    assert await actor.set_query(set_) == set(elements)
    assert await actor.set_del(set_, "") == 1
    assert await actor.set_del(set_, "") == 0
    assert await actor.set_del(set_, largest) == 1
    assert await actor.set_add(set_, "") == 1
    assert await actor.set_query(set_) == set(elements) - {largest}
    for element, count in Counter(elements).items():
        found = await many(actor.list_del(key, element) for _ in range(count + 1))
        assert sorted(found) == [False] + [True] * count
    assert not await actor.contains(key)
    assert await actor.list_add(key, "") == 1


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_a_value_with_pages_may_have_any_key(actor: Actor, key: str) -> None:
    text = "t" * (MAX_PAYLOAD + 1)
    await actor.set(key, text)
    assert await actor.get(key) == text
    assert await actor.delete(key)
    members = [f"{number:03}{'x' * 700}" for number in range(100)]
    assert await many(actor.set_add(key, member) for member in members) == [1] * 100
    assert await actor.set_query(key) == set(members)
    assert await actor.set_union(key, fresh()) == set(members)
    assert await actor.set_intersection(key, key) == set(members)
    assert await actor.set_clear(key)
    assert not await actor.contains(key)


async def test_the_end_of_a_text_with_pages(actor: Actor) -> None:
    key, text = fresh("end"), "t" * (MAX_PAYLOAD * 2)
    await actor.set(key, text, 2)
    await actor.set(key, text + "2")
    ended = fresh("ended")
    await actor.set(ended, text, 1)
    await eventually(lambda: is_gone(actor, ended), "the value has ended")
    assert await actor.set_add(ended, "member") == 1
    assert await actor.set_query(ended) == {"member"}
    assert await actor.increment(fresh()) == 1
    await asyncio.sleep(1.2)
    assert await actor.get(key) == text + "2", "a later value without an end has none"


async def test_sets_of_all_forms_are_joined_and_intersected(actor: Actor) -> None:
    rng = random.Random(11)
    members = [f"{number:04}{'x' * 90}" for number in range(3000)]
    large, other, small, absent, empty = (fresh(name) for name in ("large", "other", "small", "absent", "empty"))
    content = {large: set(members), other: set(rng.sample(members, 1500)), small: {*rng.sample(members, 20), "more"}}
    for key, found in content.items():
        await many(actor.set_add(key, member) for member in found)
    await actor.set_add(empty, "x")
    await actor.set_del(empty, "x")
    content |= {absent: set(), empty: set()}
    for _ in range(12):
        keys = rng.choices(list(content), k=rng.randint(1, 4))
        sets = [content[key] for key in keys]
        assert await actor.set_union(*keys) == set().union(*sets)
        assert await actor.set_intersection(*keys) == sets[0].intersection(*sets)
    assert await actor.set_union() == set()
    assert await actor.set_intersection() == set()
    text = fresh("text")
    await actor.set(text, "t" * (MAX_PAYLOAD * 2))
    assert "text" in await actor.error("SetUnion", [large, text])
    assert "text" in await actor.error("SetIntersection", [text, large])
