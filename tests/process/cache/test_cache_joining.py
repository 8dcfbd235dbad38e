"""Replicas that come late, end, are killed and come back: they get all values, whatever happened before."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import Any

import pytest

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.replica_load import ReplicaLoad
from tests.process.cache.replicas import State, all_see, converged, heartbeats_pass, sees, state
from tests.process.conftest import MakeReplicas

MANY = 5_000
MANY_SECONDS = 15.0
"""For so many keys to reach a joiner, reading them all included."""
CALLS_TOGETHER = 500


async def fill(actor: Actor, count: int) -> State:
    """Write so many keys, of each kind a quarter, and return the expected values."""
    expected: State = {}
    calls: list[Any] = []
    for number in range(0, count, 4):
        calls += [
            actor.set(f"t:{number}", f"text {number}"),
            actor.increment(f"n:{number}", number),
            actor.list_add(f"l:{number}", f"element {number}"),
            actor.set_add(f"s:{number}", f"member {number}"),
        ]
        expected |= {
            f"t:{number}": f"text {number}",
            f"n:{number}": str(number),
            f"l:{number}": [f"element {number}"],
            f"s:{number}": {f"member {number}"},
        }
    for start in range(0, len(calls), CALLS_TOGETHER):
        await asyncio.gather(*calls[start : start + CALLS_TOGETHER])
    return expected


@pytest.mark.slow
async def test_a_late_joiner_gets_thousands_of_keys_of_every_kind_and_no_deleted_one(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here = await replicas.start(0)
    expected = await fill(here, MANY)
    for number in range(0, 400, 4):
        await asyncio.gather(
            here.delete(f"t:{number}"),
            here.delete(f"n:{number}"),
            here.list_del(f"l:{number}", f"element {number}"),
            here.set_del(f"s:{number}", f"member {number}"),
        )
        expected |= {f"t:{number}": None, f"n:{number}": None, f"l:{number}": [], f"s:{number}": set()}
    there = await replicas.start(1)
    await sees(there, expected, MANY_SECONDS)
    assert await there.increment("n:400", 1) == 401
    assert await here.delete("t:400")
    await all_see([here, there], expected | {"n:400": "401", "t:400": None})


async def test_a_joiner_delays_nobody_and_misses_nothing_that_is_written_meanwhile(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(3)
    first, second = await asyncio.gather(replicas.start(0), replicas.start(1))
    expected = await fill(first, 2_000)
    async with ReplicaLoad([first, second], 6) as load:
        await load.progress("before")
        late = await replicas.start(2)
        async with ReplicaLoad([late], 7, ledger=load.ledger) as late_load:
            await late_load.progress("at the joiner", 50)
        await load.progress("after the join")
    # The load increments some of the keys that were there.
    keys = [key for key in expected if key not in load.ledger.keys]
    found = await converged([first, second, late], [*keys, *load.ledger.keys])
    assert {key: found[key] for key in keys} == {key: expected[key] for key in keys}
    assert load.ledger.unanswered == []
    assert load.ledger.refused == []


async def test_texts_longer_than_one_message_reach_a_joiner(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here = await replicas.start(0)
    texts = {f"t:long-{number}": chr(0x4E00 + number) * 100_000 for number in range(20)}
    await asyncio.gather(*(here.set(key, text) for key, text in texts.items()))
    members = {f"{number}-{'x' * 500}" for number in range(1_600)}
    waiting = sorted(members)
    for start in range(0, len(waiting), 100):  # a busy machine answers so many in time
        await asyncio.gather(*(here.set_add("s:large", member) for member in waiting[start : start + 100]))
    there = await replicas.start(1)
    await all_see([here, there], {**texts, "s:large": members}, MANY_SECONDS)


async def test_values_nearly_as_large_as_a_message_are_replicated(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    for length in (100_000, 500_000, 900_000):
        await here.call("Set", {"key": f"t:{length}", "value": "x" * length, "expires": 0})
        await sees(there, {f"t:{length}": "x" * length}, MANY_SECONDS)


async def test_an_expiry_is_a_moment_not_a_duration_wherever_the_value_goes(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here = await replicas.start(0)
    wrote = time.monotonic()
    await asyncio.gather(here.set("t:short", "v", 3), here.set("t:long", "v", 60), here.set("n:short", "5", 3))
    assert await here.increment("n:short") == 6
    late = await replicas.start(1)
    await sees(late, {"t:short": "v", "t:long": "v", "n:short": "6"}, 2)
    replicas.lattice.cut()
    for actor in (here, late):
        while await actor.contains("t:short"):
            assert time.monotonic() - wrote < 4
            await asyncio.sleep(0.02)
        assert time.monotonic() - wrote > 2.5
        assert await state(actor, ["t:short", "t:long"]) == {"t:short": None, "t:long": "v"}
    await replicas.lattice.heal()
    await heartbeats_pass(1)
    last = await replicas.start(1)
    await all_see([here, late, last], {"t:short": None, "n:short": None, "t:long": "v"}, 1)


async def test_a_plain_set_on_either_side_clears_an_expiry(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await here.set("t:kept", "old", 2)
    await here.set("t:gone", "old", 2)
    await all_see([here, there], {"t:kept": "old", "t:gone": "old"})
    replicas.lattice.cut()
    await there.set("t:kept", "new")
    await eventually(lambda: _is_gone(here, "t:gone"), "the expiry", 3)
    await replicas.lattice.heal()
    await all_see([here, there], {"t:kept": "new", "t:gone": None})
    await heartbeats_pass(1)
    await all_see([here, there], {"t:kept": "new", "t:gone": None}, 0)


async def _is_gone(actor: Actor, key: str) -> bool:
    return not await actor.contains(key)


async def test_a_replica_killed_under_load_and_started_again_catches_up(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    first, second, third = await replicas.start_all()
    expected = await fill(third, 400)
    await all_see([first, second], expected)
    operations = ["increment", "list_add", "set_add", "owned_text", "owned_member", "read"]
    async with ReplicaLoad([first, second], 8, operations) as load:
        await load.progress("before the kill")
        third.host.provider.signal(signal.SIGKILL)
        await third.host.provider.exited()
        await load.progress("after the kill")
        third = await replicas.start(2)
        await load.progress("after the start")
    found = await converged([first, second, third], {*expected, *load.ledger.keys})
    keys = set(expected) - set(load.ledger.keys)
    assert {key: found[key] for key in keys} == {key: expected[key] for key in keys}
    assert load.ledger.unanswered == []
    assert load.ledger.refused == []


@pytest.mark.parametrize("way", ["shutdown", "SIGTERM"])
async def test_what_was_acknowledged_before_a_graceful_stop_is_at_the_others(
    make_replicas: MakeReplicas, way: str
) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    expected = await fill(here, 1_000)
    late = {f"t:late-{number}": str(number) for number in range(200)}
    await asyncio.gather(*(here.set(key, value) for key, value in late.items()))
    if way == "shutdown":
        await here.host.shutdown()
    else:
        here.host.provider.signal(signal.SIGTERM)
    assert await here.host.provider.exited() == 0
    await sees(there, expected | late)
    assert (await there.host.health()).is_healthy


async def test_a_graceful_stop_right_after_a_heal_hands_on_what_the_others_lack(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await heartbeats_pass(1)
    replicas.lattice.cut()
    expected = await fill(here, 1_000)
    await replicas.lattice.heal()
    await here.host.shutdown()
    assert await here.host.provider.exited() == 0
    await sees(there, expected)


async def test_a_graceful_stop_hands_on_what_it_has_to_those_it_never_heard_of(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, REPLAY_HEARTBEAT_SECS="30")
    replicas.lattice.cut()
    here, there = await asyncio.gather(replicas.start(0), replicas.start(1))
    expected = await fill(here, 100)
    await replicas.lattice.heal()
    await here.host.shutdown()
    assert await here.host.provider.exited() == 0
    await sees(there, expected)


async def test_a_stop_while_cut_off_is_as_quick_as_any(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    replicas.lattice.cut(1)
    replicas.lattice.freeze(2)
    for actor in actors:
        await fill(actor, 100)
    for actor in actors:
        assert await actor.host.shutdown() < actor.host.family.shutdown_seconds
        assert await actor.host.provider.exited() == 0


async def test_a_joiner_told_to_wait_answers_its_first_call_with_what_the_others_have(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here = await replicas.start(0)
    await fill(here, 400)
    await here.set("t:there", "yes")
    for _ in range(3):
        late = await replicas.start(1, JOIN_WAIT_SECS="5", REPLAY_HEARTBEAT_SECS="30")
        began = time.monotonic()
        assert await late.get("t:there") == "yes"
        assert time.monotonic() - began < 1
        assert await late.increment("n:4", 0) == 4
        late.host.provider.signal(signal.SIGKILL)


async def test_a_joiner_told_to_wait_for_others_that_are_not_there_answers_within_its_limit(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(1)
    began = time.monotonic()
    alone = await replicas.start(0, JOIN_WAIT_SECS="1")
    assert await alone.increment("n:alone") == 1
    assert time.monotonic() - began < 5
    assert (await alone.host.health()).is_healthy


async def test_a_replica_alone_serves_at_once(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(1)
    alone = await replicas.start(0)
    began = time.monotonic()
    assert await alone.increment("n:alone") == 1
    assert time.monotonic() - began < 1
    assert (await alone.host.health()).is_healthy


async def test_messages_stay_below_what_the_servers_carry(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, server_config="max_payload: 32768")
    here, there = await replicas.start_all()
    source = random.Random(1)
    expected: State = {f"t:{number}": _dense(source, 300) for number in range(400)}
    here.host.provider.freeze()  # so that many arrive at once
    calls = [asyncio.ensure_future(here.set(key, text)) for key, text in expected.items()]
    await asyncio.sleep(0)
    await here.host.client.flush()
    here.host.provider.signal(signal.SIGCONT)
    await asyncio.gather(*calls)
    await asyncio.gather(*(here.set_add("s:many", source.randbytes(100).hex()) for _ in range(100)))
    await sees(there, expected)
    assert len(await there.set_query("s:many")) == 100
    late = await replicas.start(1)
    await sees(late, expected | {"s:many": await here.set_query("s:many")})
    assert await here.set_clear("s:many")
    await asyncio.gather(*(here.delete(key) for key in expected))
    await all_see([here, there, late], dict.fromkeys(expected))


def _dense(source: random.Random, length: int) -> str:
    """Return a text that hardly compresses."""
    return "".join(chr(source.randrange(0x4E00, 0x9FFF)) for _ in range(length))


async def test_changed_settings_of_a_link_keep_what_only_this_replica_has(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(1)
    alone = await replicas.start(0)
    expected = await fill(alone, 100)
    for values in (
        {"MAX_KEYS": "1000"},
        {"MAX_BYTES": "1000000"},
        {"REPLAY_HEARTBEAT_SECS": "2"},
        {"FORGET_SECS": "60"},
    ):
        await alone.host.put_link(alone.host.link(alone.public_key, {"BACKEND": "cache"} | values))
        await alone.increment("n:changes")
    await sees(alone, expected | {"n:changes": "4"}, 1)


async def test_a_process_that_was_frozen_catches_up_when_it_goes_on(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    first, second, third = await replicas.start_all()
    operations = ["increment", "list_add", "set_add", "owned_text", "owned_member", "read"]
    async with ReplicaLoad([first, second], 9, operations) as load:
        await load.progress("before")
        third.host.provider.freeze()
        await load.progress("while one is frozen", 500)
        await heartbeats_pass(2)
        third.host.provider.signal(signal.SIGCONT)
        await load.progress("afterwards")
    load.ledger.check(await converged([first, second, third], load.ledger.keys))


# --- replicas that are gone for long


async def test_what_a_forgotten_replica_wrote_stays_and_counts_once(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3, FORGET_SECS="2")
    first, second, third = await replicas.start_all()
    expected = await fill(third, 40)
    await third.increment("n:shared", 10)
    await first.increment("n:shared", 1)
    await all_see([first, second, third], expected | {"n:shared": "11"})
    third.host.provider.signal(signal.SIGKILL)
    await third.host.provider.exited()
    await heartbeats_pass(4)
    await second.increment("n:shared", 100)
    third = await replicas.start(2)
    await third.increment("n:shared", 1_000)
    await all_see([first, second, third], expected | {"n:shared": "1111"})


@pytest.mark.slow
async def test_what_was_deleted_while_a_replica_was_away_too_long_does_not_come_back_with_it(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(3, FORGET_SECS="2")
    first, second, third = await replicas.start_all()
    await asyncio.gather(*(third.set(f"t:{number}", "old") for number in range(20)))
    await third.increment("n:counted", 5)
    gone: State = {f"t:{number}": None for number in range(20)}
    await all_see([first, second], dict.fromkeys(gone, "old") | {"n:counted": "5"})
    replicas.lattice.cut(2)
    await asyncio.gather(*(first.delete(key) for key in gone))
    await third.set("t:alone", "written while away")
    await third.increment("n:counted", 1)
    await first.increment("n:counted", 10)
    await heartbeats_pass(5)
    late = await replicas.start(0)
    await all_see([first, second, late], gone)
    await replicas.lattice.heal()
    keys = [*gone, "t:alone", "n:counted"]
    found = await converged([first, second, third, late], keys, 5)
    await heartbeats_pass(2)
    assert await converged([first, second, third, late], keys, 0) == found
    assert {key: found[key] for key in gone} == gone
    assert found["n:counted"] == "16"
    assert found["t:alone"] == "written while away"
