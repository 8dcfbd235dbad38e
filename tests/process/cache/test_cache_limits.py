"""The limits of a cache: a write over the limit is refused with both numbers, reading and deleting go on."""

from __future__ import annotations

import asyncio
import re
import signal
import time

import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.replicas import converged, sees, state
from tests.process.conftest import MakeReplicas

MAX_KEYS = 10
MAX_BYTES = 50_000
VALUE_BYTES = 1_000
EXPIRING = 9_000

only_rust = pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)


def numbers(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"\d+", text)}


async def fill(actor: Actor, prefix: str, count: int) -> list[str]:
    """Set so many texts and return the keys of those that were not refused."""
    calls = [actor.set(f"t:{prefix}-{number}", "x" * VALUE_BYTES) for number in range(count)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, CallFailedError) for outcome in outcomes), outcomes
    return [f"t:{prefix}-{number}" for number, outcome in enumerate(outcomes) if outcome is None]


async def test_a_key_over_the_limit_is_refused_and_a_delete_makes_room(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, MAX_KEYS=str(MAX_KEYS))
    here = await replicas.start(0)
    there = await replicas.start(1)
    stored = await fill(here, "k", MAX_KEYS + 5)
    assert len(stored) == MAX_KEYS
    writes = {
        "Set": {"key": "new", "value": "v", "expires": 0},
        "Increment": {"key": "new", "value": 1},
        "ListAdd": {"listName": "new", "value": "v"},
        "SetAdd": {"setName": "new", "value": "v"},
    }
    await sees(there, dict.fromkeys(stored, "x" * VALUE_BYTES))
    for actor in (here, there):
        for operation, argument in writes.items():
            said = await actor.error(operation, argument)
            assert {MAX_KEYS, MAX_KEYS + 1} <= numbers(said), said
            assert "MAX_KEYS" in said
        assert not await actor.contains("new")
        await actor.set(stored[0], "overwriting is no new key")
        assert await actor.get(stored[0]) == "overwriting is no new key"
    assert await there.delete(stored[1])
    await sees(here, {stored[1]: None})
    await here.set("t:new", "v")
    await sees(there, {"t:new": "v"})


async def test_bytes_over_the_limit_are_refused_and_a_delete_makes_room(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, MAX_BYTES=str(MAX_BYTES))
    here, there = await replicas.start_all()
    stored = await fill(here, "b", 100)
    assert MAX_BYTES / VALUE_BYTES / 2 < len(stored) < MAX_BYTES / VALUE_BYTES
    await sees(there, dict.fromkeys(stored, "x" * VALUE_BYTES))
    for actor in (here, there):
        said = await actor.error("Set", {"key": "large", "value": "x" * 5_000, "expires": 0})
        assert MAX_BYTES in numbers(said), said
        assert [number for number in numbers(said) if MAX_BYTES < number < MAX_BYTES + 10_000], said
        for operation, argument in {
            "ListAdd": {"listName": "large", "value": "x" * 5_000},
            "SetAdd": {"setName": "large", "value": "x" * 5_000},
        }.items():
            assert MAX_BYTES in numbers(await actor.error(operation, argument))
        assert not await actor.contains("large")
        await actor.set(stored[0], "smaller")
    assert await there.delete(stored[1])
    for key in stored[2:12]:
        assert await here.delete(key)
    await here.set("t:large", "x" * 5_000)
    await sees(there, {"t:large": "x" * 5_000})


async def test_churn_at_the_limit_never_runs_out_of_room(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, MAX_KEYS=str(MAX_KEYS), MAX_BYTES=str(MAX_BYTES))
    here, there = await replicas.start_all()
    for number in range(300):
        await here.set(f"t:churn-{number}", "x" * VALUE_BYTES)
        assert await here.list_add(f"l:churn-{number}", "x" * VALUE_BYTES) == 1
        assert await here.list_del(f"l:churn-{number}", "x" * VALUE_BYTES)
        assert await here.delete(f"t:churn-{number}")
    keys = [f"t:churn-{number}" for number in range(300)]
    assert set((await converged([here, there], keys)).values()) == {None}
    await there.set("t:after", "x" * VALUE_BYTES)


async def test_replicas_that_together_are_over_the_limit_still_agree_and_take_no_more(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2, MAX_KEYS=str(MAX_KEYS))
    here, there = await replicas.start_all()
    for number in range(2):
        await here.delete(f"t:started-{number}")
    await sees(there, {"t:started-0": None, "t:started-1": None})
    replicas.lattice.cut()
    keys = [*await fill(here, "here", MAX_KEYS), *await fill(there, "there", MAX_KEYS)]
    assert len(keys) == 2 * MAX_KEYS
    await replicas.lattice.heal()
    found = await converged([here, there], keys)
    assert all(found.values())
    for actor in (here, there):
        said = await actor.error("Set", {"key": "new", "value": "v", "expires": 0})
        assert MAX_KEYS in numbers(said), said
    for key in keys[: MAX_KEYS + 1]:
        assert await there.delete(key)
    await sees(here, dict.fromkeys(keys[: MAX_KEYS + 1]))
    await here.set("t:new", "v")
    left = [*keys, "t:new"]
    assert await state(here, left) == await converged([here, there], left)


async def test_a_counter_that_is_deleted_and_counted_again_takes_no_room_and_no_time(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2, MAX_BYTES=str(MAX_BYTES))
    here, absent = await replicas.start_all()
    absent.host.provider.signal(signal.SIGKILL)
    await absent.host.provider.exited()

    async def count_and_delete(caller: int) -> float:
        began = time.monotonic()
        for _ in range(100):
            await here.increment(f"n:{caller % 2}")
            await here.delete(f"n:{caller % 2}")
            await here.set("n:set", "0")
            await here.increment("n:set")
        return time.monotonic() - began

    rounds = [await asyncio.gather(*(count_and_delete(caller) for caller in range(4))) for _ in range(5)]
    seconds = [max(each) for each in rounds]
    assert max(seconds[1:]) < 3 * seconds[0] + 0.5, seconds
    assert await here.increment("n:set", 0) in range(5)


@only_rust
async def test_many_keys_that_expire_together_make_room_at_once(host: LatticeHost) -> None:
    actor = Actor(host, host.actor(), "", 2)
    await host.start_provider([host.link(actor.public_key, {"BACKEND": "cache", "MAX_KEYS": str(EXPIRING)})])
    for start in range(0, EXPIRING, 1000):
        items = [{"key": f"old{start + number}", "value": "v", "expires": 1} for number in range(1000)]
        assert all(result["done"] for result in await actor.call("KeyValueBatch.SetMany", items))

    async def has_room() -> bool:
        items = [{"key": f"new{number}", "value": "v", "expires": 0} for number in range(EXPIRING)]
        return all(result["done"] for result in await actor.call("KeyValueBatch.SetMany", items))

    await eventually(has_room, "room for as many again, sooner than by a slice every half second", EXPIRING / 1000)
