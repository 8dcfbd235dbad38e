"""Replicas of a cache on servers of their own, the links between them cut, frozen and healed while callers go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.replica_load import COUNTERS, ReplicaLoad
from tests.process.cache.replicas import State, all_see, converged, heartbeats_pass, sees, state
from tests.process.conftest import MakeReplicas

Change = Callable[[Actor, str], Awaitable[object]]

FAST_SECONDS = 2.0
"""No answer of a cache waits for anybody else; this is for machines that do other work."""

_AT_ONCE = 100
"""Calls in flight together: few enough to be answered within a host's two seconds on a busy machine."""


# --- sums


@pytest.mark.parametrize("count", [2, 3])
async def test_after_a_heal_counters_are_exactly_the_sum_of_what_was_acknowledged(
    make_replicas: MakeReplicas, count: int
) -> None:
    replicas = await make_replicas(count)
    actors = await replicas.start_all()
    async with ReplicaLoad(actors, 1, ["increment", "increment", "read"]) as load:
        await load.progress("before the cut")
        replicas.lattice.cut()
        await load.progress("while cut off", 300)
        await replicas.lattice.heal()
        await load.progress("after the heal")
    found = await converged(actors, COUNTERS)
    load.ledger.check(dict.fromkeys(load.ledger.keys, "") | found)


async def test_increments_of_a_key_that_nobody_had_are_summed(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    replicas.lattice.cut()
    for amount, actor in enumerate(actors, 1):
        assert await actor.increment("n:new", amount) == amount
    await replicas.lattice.heal()
    await all_see(actors, {"n:new": "6"})


async def test_increments_on_both_sides_are_added_to_the_text_that_both_saw(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await here.set("n:text", "100")
    await sees(there, {"n:text": "100"})
    replicas.lattice.cut()
    await asyncio.gather(*(here.increment("n:text", 3) for _ in range(10)))
    await asyncio.gather(*(there.increment("n:text", -1) for _ in range(10)))
    assert await here.get("n:text") == "130"
    assert await there.get("n:text") == "90"
    await replicas.lattice.heal()
    await all_see([here, there], {"n:text": "120"})


async def test_a_sum_beyond_what_one_increment_may_reach_is_the_same_everywhere(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    replicas.lattice.cut()
    await here.increment("n:big", 2**31 - 1)
    await there.increment("n:big", 2**31 - 1)
    await replicas.lattice.heal()
    await all_see([here, there], {"n:big": str(2**32 - 2)})
    for actor in (here, there):
        assert "n:big" in await actor.error("Increment", {"key": "n:big", "value": 1})
    assert await here.increment("n:big", -(2**31) + 1) == 2**31 - 1
    await all_see([here, there], {"n:big": str(2**31 - 1)})


async def test_a_deleted_counter_keeps_only_the_increments_that_the_delete_did_not_see(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await here.increment("n:deleted", 10)
    await there.increment("n:quiet", 10)
    await all_see([here, there], {"n:deleted": "10", "n:quiet": "10"})
    await there.increment("n:deleted", 20)
    await all_see([here, there], {"n:deleted": "30"})
    replicas.lattice.cut()
    assert await here.delete("n:deleted")
    assert await here.delete("n:quiet")
    assert await there.increment("n:deleted", 5) == 35
    await replicas.lattice.heal()
    await all_see([here, there], {"n:deleted": "5", "n:quiet": None})
    await heartbeats_pass(2)
    await all_see([here, there], {"n:deleted": "5", "n:quiet": None}, 0)


async def test_increments_after_a_delete_start_from_nothing_on_the_side_that_deleted(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await here.increment("n:again", 7)
    await sees(there, {"n:again": "7"})
    replicas.lattice.cut()
    await here.delete("n:again")
    assert await here.increment("n:again", 1) == 1
    assert await there.increment("n:again", 2) == 9
    await replicas.lattice.heal()
    await all_see([here, there], {"n:again": "3"})


@pytest.mark.slow
async def test_a_counter_is_the_same_everywhere_though_a_new_replica_never_heard_the_one_that_counts_on(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(3)
    here, cut_off, replaced = await replicas.start_all()
    assert await cut_off.increment("n:counted-on", 1) == 1
    await all_see([here, replaced], {"n:counted-on": "1"})
    await heartbeats_pass(2)
    replicas.lattice.cut(1)
    replaced.host.provider.signal(signal.SIGKILL)
    new = await replicas.start(2)
    await sees(new, {"n:counted-on": "1"})
    assert await here.delete("n:counted-on")
    await sees(new, {"n:counted-on": None})
    await heartbeats_pass(3)
    assert await cut_off.increment("n:counted-on", 5) == 6
    await replicas.lattice.heal()
    await all_see([here, cut_off, new], {"n:counted-on": "5"})


# --- what a delete saw, and what it did not


async def in_order(*calls: Awaitable[object]) -> None:
    for call in calls:
        await call


CONCURRENT: dict[str, tuple[Change, Change, Change, Any]] = {
    # key, beginning with its kind: change that both sides see; one here; one there; what is left everywhere
    "s:clear": (
        lambda a, key: in_order(a.set_add(key, "seen"), a.set_add(key, "too")),
        lambda a, key: a.set_clear(key),
        lambda a, key: a.set_add(key, "unseen"),
        {"unseen"},
    ),
    "s:delete-of-the-last": (
        lambda a, key: a.set_add(key, "seen"),
        lambda a, key: a.set_del(key, "seen"),
        lambda a, key: a.set_add(key, "unseen"),
        {"unseen"},
    ),
    "s:delete-of-what-is-added-again": (
        lambda a, key: a.set_add(key, "again"),
        lambda a, key: a.set_del(key, "again"),
        lambda a, key: a.set_add(key, "again"),
        {"again"},
    ),
    "s:clear-of-what-is-added-again": (
        lambda a, key: in_order(a.set_add(key, "again"), a.set_add(key, "other")),
        lambda a, key: a.set_clear(key),
        lambda a, key: a.set_add(key, "again"),
        {"again"},
    ),
    "s:add-after-a-clear": (
        lambda a, key: a.set_add(key, "seen"),
        lambda a, key: in_order(a.set_clear(key), a.set_add(key, "here")),
        lambda a, key: a.set_add(key, "there"),
        {"here", "there"},
    ),
    "s:delete-on-both-sides": (
        lambda a, key: in_order(a.set_add(key, "gone"), a.set_add(key, "stays")),
        lambda a, key: a.set_del(key, "gone"),
        lambda a, key: a.set_del(key, "gone"),
        {"stays"},
    ),
    "s:removed": (
        lambda a, key: a.set_add(key, "seen"),
        lambda a, key: a.delete(key),
        lambda a, key: a.set_add(key, "unseen"),
        {"unseen"},
    ),
    "s:overwritten": (
        lambda a, key: a.set_add(key, "seen"),
        lambda a, key: in_order(a.delete(key), a.list_add(key, "element"), a.list_clear(key)),
        lambda a, key: a.set_del(key, "seen"),
        set(),
    ),
    "l:clear": (
        lambda a, key: in_order(a.list_add(key, "same"), a.list_add(key, "same")),
        lambda a, key: a.list_clear(key),
        lambda a, key: a.list_add(key, "same"),
        ["same"],
    ),
    "l:delete-of-the-last": (
        lambda a, key: a.list_add(key, "same"),
        lambda a, key: a.list_del(key, "same"),
        lambda a, key: a.list_add(key, "same"),
        ["same"],
    ),
    "l:delete-of-the-same-on-both-sides": (
        lambda a, key: in_order(*(a.list_add(key, text) for text in "xyx")),
        lambda a, key: a.list_del(key, "x"),
        lambda a, key: a.list_del(key, "x"),
        ["y", "x"],
    ),
    "l:removed": (
        lambda a, key: a.list_add(key, "seen"),
        lambda a, key: a.delete(key),
        lambda a, key: a.list_add(key, "unseen"),
        ["unseen"],
    ),
    "t:removed": (
        lambda a, key: a.set(key, "seen"),
        lambda a, key: a.delete(key),
        lambda a, key: a.set(key, "unseen"),
        "unseen",
    ),
    "t:removed-on-both-sides": (
        lambda a, key: a.set(key, "seen"),
        lambda a, key: a.delete(key),
        lambda a, key: a.delete(key),
        None,
    ),
    "t:removed-and-only-read": (
        lambda a, key: a.set(key, "seen"),
        lambda a, key: a.delete(key),
        lambda a, key: a.get(key),
        None,
    ),
}


async def test_what_a_concurrent_delete_did_not_see_is_there_after_the_heal(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    rows = [(f"{name}-{order}", order, *row) for name, row in CONCURRENT.items() for order in ("first", "last")]
    await asyncio.gather(*(before(here, key) for key, _, before, *_ in rows))
    await sees(there, await state(here, [key for key, *_ in rows]))
    replicas.lattice.cut()
    await asyncio.gather(*(delete(here, key) for key, order, _, delete, _, _ in rows if order == "first"))
    await _clock_moves()
    await asyncio.gather(*(change(there, key) for key, _, _, _, change, _ in rows))
    await _clock_moves()
    await asyncio.gather(*(delete(here, key) for key, order, _, delete, _, _ in rows if order == "last"))
    await replicas.lattice.heal()
    expected = {key: left for key, *_, left in rows}
    await all_see([here, there], expected)
    await heartbeats_pass(2)
    await all_see([here, there], expected, 0)


async def test_adding_what_is_already_there_answers_0_and_survives_a_delete_on_the_other_side(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    members = {f"m{number}" for number in range(50)}
    await asyncio.gather(*(here.set_add("s:again", member) for member in members))
    await sees(there, {"s:again": members})
    replicas.lattice.cut()
    assert await asyncio.gather(*(there.set_del("s:again", member) for member in members)) == [1] * 50
    assert await asyncio.gather(*(here.set_add("s:again", member) for member in members)) == [0] * 50
    await replicas.lattice.heal()
    await all_see([here, there], {"s:again": members})


async def test_deleted_keys_stay_deleted_through_heartbeats_restarts_and_late_joins(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(3)
    first, second, third = await replicas.start_all()
    names = range(50)
    gone = _gone(names)
    await _fill(first, names)
    before = await state(first, gone)
    assert all(before.values())
    await all_see([second, third], before)
    replicas.lattice.cut(2)
    await _delete(second, names)
    await all_see([first, second], gone)
    await replicas.lattice.heal()
    await all_see([first, second, third], gone)
    second.host.provider.signal(signal.SIGKILL)
    await second.host.provider.exited()
    second, late = await asyncio.gather(replicas.start(1), replicas.start(2))
    await heartbeats_pass(3)
    await all_see([first, second, third, late], gone, 0)
    await _fill(late, range(2))
    await converged([first, second, third, late], gone)


async def test_a_replica_that_alone_still_has_what_others_deleted_lets_go_of_it(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    first, second, third = await replicas.start_all()
    names = range(20)
    gone = _gone(names)
    await _fill(third, names)
    await all_see([first, second], await state(third, gone))
    replicas.lattice.cut(2)
    await _delete(first, names)
    await sees(second, gone)
    first.host.provider.signal(signal.SIGKILL)
    await first.host.provider.exited()
    first = await replicas.start(0)
    await sees(first, gone)
    await replicas.lattice.heal()
    await all_see([first, second, third], gone)
    await heartbeats_pass(2)
    await all_see([first, second, third], gone, 0)


# --- everything at once


async def test_states_are_equal_within_two_heartbeats_of_a_heal(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    async with ReplicaLoad(actors, 2) as load:
        await load.progress("before the cut")
        replicas.lattice.cut()
        await load.progress("while cut off", 600)
    await replicas.lattice.heal()
    load.ledger.check(await converged(actors, load.ledger.keys))


@pytest.mark.parametrize("way", ["cut", "freeze and thaw", "freeze and cut"])
async def test_every_caller_is_answered_at_once_while_links_are_cut_frozen_and_healed(
    make_replicas: MakeReplicas, way: str
) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    async with ReplicaLoad(actors, 3) as load:
        await load.progress("before")
        for number in (1, 2):
            if "freeze" in way:
                replicas.lattice.freeze(number)
                await load.progress(f"with link {number} frozen", 150)
            if "cut" in way:
                replicas.lattice.cut(number)
                await load.progress(f"with link {number} cut", 150)
        await replicas.lattice.heal()
        await load.progress("after the heal")
    load.ledger.check(await converged(actors, load.ledger.keys))
    assert load.ledger.slowest_seconds < FAST_SECONDS


async def test_a_link_that_flaps_under_load_leaves_equal_states(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    actors = await replicas.start_all()
    async with ReplicaLoad(actors, 4) as load:
        for _ in range(12):
            replicas.lattice.cut()
            await load.progress("while cut off", 20)
            await replicas.lattice.heal()
            await load.progress("after a heal", 20)
    load.ledger.check(await converged(actors, load.ledger.keys))


@pytest.mark.parametrize("server", [0, 1], ids=["hub", "leaf"])
async def test_a_server_that_is_killed_and_started_again_costs_nothing_but_the_calls_it_carried(
    make_replicas: MakeReplicas, server: int
) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    async with ReplicaLoad(actors, 5) as load:
        await load.progress("before the kill")
        replicas.lattice.servers[server].restart(is_killed=True)
        await load.progress("after the start")
        replicas.lattice.servers[server].kill()
        others = [number for number in range(3) if number != server]
        enough = load.ledger.answered.total() + 300
        await eventually(lambda: load.ledger.answered.total() >= enough, "answers of the other replicas")
        replicas.lattice.servers[server].start()
        await replicas.lattice.joined()
        await load.progress("after the second start")
    assert not [text for text in load.ledger.unanswered for number in others if f" at {number}:" in text]
    load.ledger.check(await converged(actors, load.ledger.keys, 5), may_be_unanswered=True)


# --- texts, kinds, order


async def test_the_last_writer_of_a_text_wins_on_every_side(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
    here, there = await replicas.start_all()
    await asyncio.gather(here.set("t:a", "before"), there.set("t:b", "before"))
    await converged([here, there], ["t:a", "t:b"])
    replicas.lattice.cut()
    for _ in range(20):
        await here.set("t:a", "many writes make no later one")
    await _clock_moves()
    await there.set("t:a", "last of a")
    await there.set("t:b", "first of b")
    await _clock_moves()
    await here.set("t:b", "last of b")
    await replicas.lattice.heal()
    await all_see([here, there], {"t:a": "last of a", "t:b": "last of b"})


KINDS: dict[str, Change] = {
    "text": lambda a, key: a.set(key, "text"),
    "number": lambda a, key: a.increment(key, 5),
    "list": lambda a, key: a.list_add(key, "element"),
    "set": lambda a, key: a.set_add(key, "member"),
}


async def test_concurrent_writes_of_different_kinds_end_the_same_everywhere(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    rows = {f"x:{a}-{b}-{c}": (KINDS[a], KINDS[b], KINDS[c]) for a in KINDS for b in KINDS for c in KINDS}
    replicas.lattice.cut()
    for side, actor in enumerate(actors):
        await asyncio.gather(*(changes[side](actor, key) for key, changes in rows.items()))
    await replicas.lattice.heal()
    found = await converged(actors, rows)
    assert all(contains is True for *_, contains in found.values())
    assert all(await asyncio.gather(*(actors[1].delete(key) for key in rows)))
    await all_see(actors, {key: [None, [], set(), False] for key in rows})
    await asyncio.gather(*(changes[0](actors[2], key) for key, changes in rows.items()))
    found = await converged(actors, rows)
    assert all(contains is True for *_, contains in found.values())


async def test_lists_keep_the_order_in_which_each_side_added(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3)
    actors = await replicas.start_all()
    for number in range(5):
        await actors[0].list_add("l:order", f"before-{number}")
    await converged(actors, ["l:order"])
    replicas.lattice.cut()
    for number in range(20):
        for side, actor in enumerate(actors):
            await actor.list_add("l:order", f"{side}-{number}")
    await replicas.lattice.heal()
    found = (await converged(actors, ["l:order"]))["l:order"]
    assert found[:5] == [f"before-{number}" for number in range(5)]
    for side in range(3):
        assert [text for text in found if text.startswith(f"{side}-")] == [f"{side}-{n}" for n in range(20)]
    assert await actors[2].list_add("l:order", "last") == 66
    assert (await converged(actors, ["l:order"]))["l:order"][-1] == "last"


async def test_a_change_is_seen_by_the_others_long_before_a_heartbeat(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(3, REPLAY_HEARTBEAT_SECS="30")
    actors = await replicas.start_all()
    for number in range(20):
        began = time.monotonic()
        await actors[number % 3].set("t:seen", str(number))
        await all_see(actors, {"t:seen": str(number)})
        assert time.monotonic() - began < FAST_SECONDS


@pytest.mark.slow
async def test_idle_replicas_say_one_small_message_per_heartbeat_whatever_they_hold(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(3, STATE_REPL_SUBJECT="idle.state", REPLAY_REQ_SUBJECT="idle.replay")
    actors = await replicas.start_all()
    await _fill(actors[0], range(500))
    await converged(actors, _gone(range(500)))
    await heartbeats_pass(1)
    heard: list[bytes] = []

    async def keep(message: Msg) -> None:
        heard.append(message.data)

    await actors[0].host.client.subscribe("idle.>", cb=keep)
    await actors[0].host.client.flush()
    await heartbeats_pass(3)
    assert 3 * 2 <= len(heard) <= 3 * 5
    assert max(map(len, heard)) < 300


# --- many keys of every kind


async def _all(calls: Sequence[Awaitable[object]]) -> list[object]:
    results: list[object] = []
    for start in range(0, len(calls), _AT_ONCE):
        results += await asyncio.gather(*calls[start : start + _AT_ONCE])
    return results


async def _fill(actor: Actor, names: Iterable[int]) -> None:
    await _all([change(actor, f"{kind[0]}:gone-{name}") for name in names for kind, change in KINDS.items()])


async def _delete(actor: Actor, names: Iterable[int]) -> None:
    deletes: dict[str, Change] = {
        "text": lambda a, key: a.delete(key),
        "number": lambda a, key: a.delete(key),
        "list": lambda a, key: a.list_clear(key),
        "set": lambda a, key: a.set_clear(key),
    }
    calls = [change(actor, f"{kind[0]}:gone-{name}") for name in names for kind, change in deletes.items()]
    assert all(await _all(calls))


def _gone(names: Iterable[int]) -> State:
    absent: State = {"t": None, "n": None, "l": [], "s": set()}
    return {f"{kind}:gone-{name}": nothing for name in names for kind, nothing in absent.items()}


async def _clock_moves() -> None:
    """Let the clock go on by more than it is read apart."""
    enough = time.time() + 0.02
    await eventually(lambda: time.time() > enough, "the clock")
