"""Checks of a link: the reason why it is not served, an answer, every operation, a full store."""

from __future__ import annotations

import asyncio

from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh

_OPENED_SECONDS = 12.0


async def reason(actor: Actor) -> str:
    """Wait for an error other than that the store is being opened, and return it."""

    async def error() -> str:
        text = await actor.error("Get", "k")
        return "" if "being opened" in text else text

    found: str = await eventually(error, "a reason", _OPENED_SECONDS)
    return found


async def served(actor: Actor) -> None:
    """Wait until a link is served."""
    key = fresh()

    async def is_served() -> bool:
        try:
            return await actor.increment(key) > 0
        except CallFailedError:
            return False

    await eventually(is_served, "a link that is served", _OPENED_SECONDS)


async def gone(actor: Actor, key: str) -> None:
    """Wait until a key has expired."""

    async def is_absent() -> bool:
        return not await actor.contains(key)

    await eventually(is_absent, f"the end of {key}", 6)


async def exercise(actor: Actor) -> None:
    """Call every operation once or twice, expiry included."""
    await actor.set("text", "one")
    await actor.set("text", "two")
    assert await actor.get("text") == "two"
    assert await actor.delete("text") is True
    assert await actor.get("text") is None
    assert await actor.delete("text") is False
    assert await actor.increment("counter", 5) == 5
    totals = await asyncio.gather(*(actor.increment("counter") for _ in range(32)))
    assert sorted(totals) == list(range(6, 38))
    assert await actor.get("counter") == "37"
    for value in "abca":
        await actor.list_add("list", value)
        await actor.set_add("set", value)
        await actor.set_add("other", value.upper())
    assert await actor.list_del("list", "a") is True
    assert await actor.list_range("list") == list("bca")
    assert await actor.set_del("set", "a") == 1
    assert await actor.set_query("set") == set("bc")
    await actor.set_add("other", "b")
    assert await actor.set_union("set", "other", "missing") == set("bcABC")
    assert await actor.set_intersection("set", "other") == {"b"}
    assert await actor.set_clear("set") is True
    assert await actor.list_clear("list") is True
    assert await actor.contains("set") is False
    await actor.set("ends", "older")
    await actor.set("ends", "41", 1)
    assert await actor.increment("ends") == 42
    await gone(actor, "ends")
    assert await actor.get("ends") is None
    assert await actor.increment("ends") == 1
    assert await actor.get("ends") == "1"


async def filled(actor: Actor, value: str, keys: list[str]) -> str:
    """Set new keys until one is refused. Return the error; the keys are added to `keys`."""
    while len(keys) < 1000:
        key = fresh()
        try:
            await actor.set(key, value)
        except CallFailedError as error:
            return str(error)
        keys.append(key)
    raise AssertionError("the store takes 1,000 keys without being full")
