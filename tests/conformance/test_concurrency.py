"""Many callers, and two providers: every total exactly once, every element once, no change lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor

CALLERS = 64


@pytest.mark.both_families
async def test_every_total_is_answered_exactly_once(actor: Actor) -> None:
    key = fresh()

    async def caller() -> list[int]:
        return [await actor.increment(key) for _ in range(10)]

    totals = [total for some in await asyncio.gather(*(caller() for _ in range(CALLERS))) for total in some]
    assert sorted(totals) == list(range(1, CALLERS * 10 + 1))
    assert await actor.get(key) == str(CALLERS * 10)


@pytest.mark.both_families
async def test_the_totals_of_every_caller_grow(actor: Actor) -> None:
    key = fresh()

    async def caller() -> list[int]:
        return [await actor.increment(key) for _ in range(10)]

    for totals in await asyncio.gather(*(caller() for _ in range(16))):
        assert totals == sorted(totals)


@pytest.mark.both_families
async def test_an_acknowledged_change_is_visible_to_every_reader(actor: Actor) -> None:
    key = fresh()

    async def caller() -> None:
        for _ in range(20):
            total = await actor.increment(key)
            seen = await actor.get(key)
            assert seen is not None
            assert int(seen) >= total

    await asyncio.gather(*(caller() for _ in range(16)))


async def test_every_concurrent_addition_to_a_list_is_stored_once(actor: Actor) -> None:
    key = fresh()
    lengths = await asyncio.gather(*(actor.list_add(key, f"e{number}") for number in range(CALLERS * 4)))
    elements = await actor.list_range(key)
    assert sorted(lengths) == list(range(1, CALLERS * 4 + 1))
    assert [elements[length - 1] for length in lengths] == [f"e{number}" for number in range(CALLERS * 4)]


async def test_one_of_many_concurrent_additions_of_a_member_is_new(actor: Actor) -> None:
    key = fresh()
    assert Counter(await asyncio.gather(*(actor.set_add(key, "m") for _ in range(CALLERS)))) == {1: 1, 0: CALLERS - 1}
    assert Counter(await asyncio.gather(*(actor.set_del(key, "m") for _ in range(CALLERS)))) == {1: 1, 0: CALLERS - 1}
    assert await actor.contains(key) is False


async def test_one_of_many_concurrent_deletions_finds_the_key(actor: Actor) -> None:
    key = fresh()
    await actor.set(key, "x")
    assert Counter(await asyncio.gather(*(actor.delete(key) for _ in range(CALLERS)))) == {True: 1, False: CALLERS - 1}


async def test_a_refused_call_does_not_affect_concurrent_ones(actor: Actor) -> None:
    key = fresh()
    await actor.increment(key, 2**31 - 40)
    calls = [actor.increment(key) for _ in range(CALLERS)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    totals = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert sorted(totals) == list(range(2**31 - 39, 2**31))
    assert await actor.get(key) == str(2**31 - 1)


@pytest.mark.both_families
async def test_many_keys_are_changed_at_once(actor: Actor) -> None:
    keys = [fresh(str(number)) for number in range(200)]
    assert await asyncio.gather(*(actor.increment(key) for key in keys for _ in range(3))) == [1, 2, 3] * 200


@pytest.mark.parametrize("backend", ["bucket"], indirect=True)
async def test_two_providers_count_one_key_together(
    host: LatticeHost, make_actor: MakeActor, backend: str, tmp_path: Path
) -> None:
    actor = await make_actor(BACKEND=backend)
    link = host.link(actor.public_key, {"BACKEND": backend, "BUCKET": actor.bucket})
    await actor.set("warm", "x")
    who = host.who
    second = LatticeHost(
        RUST, f"nats://{who.server}", tmp_path, lattice=who.lattice, provider_key=who.provider, cluster=who.cluster
    )
    async with second:
        await second.start_provider([link])
        await second.statistics()
        before = [await served(one) for one in (host, second)]
        calls = [actor.increment("hot") for _ in range(CALLERS * 4)]
        calls += [actor.list_add("list", f"e{number}") for number in range(CALLERS)]
        calls += [actor.set_add("set", f"m{number % 40}") for number in range(80)]
        answers = await asyncio.gather(*calls)
        after = [await served(one) for one in (host, second)]
        assert await second.shutdown(5) < 5
        await second.provider.exited()
    assert sorted(answers[: CALLERS * 4]) == list(range(1, CALLERS * 4 + 1))
    assert sorted(answers[CALLERS * 4 : CALLERS * 5]) == list(range(1, CALLERS + 1))
    assert Counter(answers[CALLERS * 5 :]) == {1: 40, 0: 40}
    assert await actor.get("hot") == str(CALLERS * 4)
    assert sorted(await actor.list_range("list")) == sorted(f"e{number}" for number in range(CALLERS))
    assert await actor.set_query("set") == {f"m{number}" for number in range(40)}
    assert all(late > early for early, late in zip(before, after, strict=True)), "both providers served"


async def served(host: LatticeHost) -> int:
    """Return how many invocations a host's provider has counted."""
    return sum(int(endpoint["num_requests"]) for endpoint in (await host.statistics())["endpoints"])
