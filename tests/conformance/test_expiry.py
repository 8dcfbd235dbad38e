"""Expiry: values expire in time, and changes keep or clear their expiry. Every wait is for a key to vanish."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh

SLACK_SECONDS = 0.6


async def gone(actor: Actor, key: str) -> None:
    async def is_absent() -> bool:
        return not await actor.contains(key)

    await eventually(is_absent, f"the end of {key}", 6)


async def test_a_value_expires_in_time_and_not_before(actor: Actor) -> None:
    key = fresh()
    began = time.monotonic()
    await actor.set(key, "short", 1)
    assert await actor.get(key) == "short"
    await gone(actor, key)
    took = time.monotonic() - began
    assert 0.9 <= took <= 1 + SLACK_SECONDS, took
    assert await actor.get(key) is None
    assert await actor.delete(key) is False


async def test_an_expired_counter_starts_at_zero_again(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "41", 1)
    await gone(actor, key)
    assert await actor.increment(key) == 1
    assert await actor.increment(key) == 2


async def test_a_value_written_over_an_expired_one_does_not_expire(actor: Actor) -> None:
    keys = {kind: fresh(kind) for kind in ("text", "counter", "list", "set")}
    await asyncio.gather(*(actor.set(key, "1", 1) for key in keys.values()))
    for key in keys.values():
        await gone(actor, key)
    witness = fresh("witness")
    await actor.set(keys["text"], "again")
    assert await actor.increment(keys["counter"], 7) == 7
    assert await actor.list_add(keys["list"], "a") == 1
    assert await actor.set_add(keys["set"], "a") == 1
    await actor.set(witness, "x", 2)
    await gone(actor, witness)
    assert await actor.get(keys["text"]) == "again"
    assert await actor.get(keys["counter"]) == "7"
    assert await actor.list_range(keys["list"]) == ["a"]
    assert await actor.set_query(keys["set"]) == {"a"}


async def test_an_increment_keeps_the_expiry(actor: Actor) -> None:
    key = fresh()
    began = time.monotonic()
    await actor.set(key, "5", 2)
    while time.monotonic() - began < 1.2:
        await actor.increment(key)
    assert await actor.contains(key) is True
    await gone(actor, key)
    took = time.monotonic() - began
    assert 1.9 <= took <= 2 + SLACK_SECONDS, took
    assert await actor.increment(key) == 1


async def test_a_plain_set_clears_the_expiry_and_another_expiry_replaces_it(actor: Actor) -> None:
    cleared, prolonged, shortened, witness = (fresh() for _ in range(4))
    await actor.set(cleared, "old", 1)
    await actor.set(cleared, "new")
    await actor.set(prolonged, "old", 1)
    await actor.set(prolonged, "new", 60)
    await actor.set(shortened, "old", 60)
    await actor.set(shortened, "new", 1)
    await actor.set(witness, "x", 2)
    await gone(actor, witness)
    assert await actor.get(cleared) == "new"
    assert await actor.get(prolonged) == "new"
    assert await actor.get(shortened) is None


async def test_an_expiry_can_be_added_to_a_value(actor: Actor) -> None:
    text, items = fresh(), fresh()
    await actor.set(text, "stays")
    await actor.list_add(items, "a")
    await actor.set(text, "goes", 1)
    await actor.set(items, "goes too", 1)
    await gone(actor, text)
    await gone(actor, items)


async def test_a_value_written_after_a_deletion_does_not_have_the_old_expiry(actor: Actor) -> None:
    key, witness = fresh(), fresh()
    await actor.set(key, "5", 1)
    assert await actor.delete(key) is True
    assert await actor.increment(key, 3) == 3
    await actor.set(witness, "x", 2)
    await gone(actor, witness)
    assert await actor.get(key) == "3"


async def test_many_values_expire_at_the_same_time(actor: Actor) -> None:
    keys = [fresh(str(number)) for number in range(200)]
    began = time.monotonic()
    await asyncio.gather(*(actor.set(key, "x", 1) for key in keys))
    written = time.monotonic()

    async def are_absent() -> bool:
        return not any(await asyncio.gather(*(actor.contains(key) for key in keys)))

    await eventually(are_absent, "the end of all", 6)
    assert time.monotonic() - began >= 0.9
    assert time.monotonic() - written <= 1 + SLACK_SECONDS


@pytest.mark.parametrize("expires", [60, 86_400 * 365, 2**31, 2**32 - 1])
async def test_long_lifetimes_are_accepted(actor: Actor, expires: int) -> None:
    key = fresh()
    await actor.set(key, "7", expires)
    assert await actor.get(key) == "7"
    assert await actor.increment(key) == 8
