"""Values over a limit: the error names the limit, the size and the maximum; what just fits works."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor
from tests.conformance.stored import StoredBucket

MAX_PAYLOAD = 2**20
OWN_MAXIMUM = 2048


@pytest.fixture(params=["max_payload", "MAX_VALUE_SIZE"])
def limit(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def limited(make_actor: MakeActor, limit: str) -> tuple[Actor, int]:
    if limit == "max_payload":
        return await make_actor(), MAX_PAYLOAD
    return await make_actor(MAX_VALUE_SIZE=str(OWN_MAXIMUM)), OWN_MAXIMUM


def check(said: str, limit: str, maximum: int) -> int:
    """Check what an error names; returns the size that it says the value would have."""
    assert limit in said, said
    assert str(maximum) in said, said
    assert "outcome unknown" not in said
    numbers = [int(number) for number in re.findall(r"\d+", said.split("would take")[1])]
    assert len(said) < 1000
    return numbers[0]


async def test_the_longest_text_works_and_one_more_byte_is_refused(make_actor: MakeActor, limit: str) -> None:
    actor, maximum = await limited(make_actor, limit)
    await actor.set("k", "before")
    said = await actor.error("Set", {"key": "k", "value": "x" * maximum, "expires": 0})
    overhead = check(said, limit, maximum) - maximum
    assert 0 < overhead < 300
    assert await actor.get("k") == "before"
    longest = "x" * (maximum - overhead - 40)  # an operation id grows by a digit now and then
    await actor.set("k", longest)
    assert await actor.get("k") == longest
    assert "é" * (maximum // 2) != longest
    check(await actor.error("Set", {"key": "k", "value": "é" * (maximum // 2), "expires": 0}), limit, maximum)
    assert await actor.get("k") == longest


async def test_a_list_and_a_set_grow_up_to_the_limit_and_stay_usable(make_actor: MakeActor, limit: str) -> None:
    actor, maximum = await limited(make_actor, limit)
    piece = maximum // 4 - 100
    for number in range(4):
        element = str(number) * piece
        await actor.list_add("list", element)
        await actor.set_add("set", element)
    for operation, name in (("ListAdd", "list"), ("SetAdd", "set")):
        said = await actor.error(operation, {f"{name}Name": name, "value": "x" * piece})
        check(said, limit, maximum)
    assert await actor.list_add("list", "small") == 5
    assert await actor.set_add("set", "small") == 1
    assert len(await actor.list_range("list")) == 5
    assert len(await actor.set_query("set")) == 5
    assert await actor.list_del("list", "0" * piece) is True
    assert await actor.list_add("list", "x" * piece) == 5


async def test_a_new_key_with_a_value_over_the_limit_is_not_made(make_actor: MakeActor, limit: str) -> None:
    actor, maximum = await limited(make_actor, limit)
    key = fresh()
    check(await actor.error("Set", {"key": key, "value": "x" * (maximum + 1), "expires": 0}), limit, maximum)
    check(await actor.error("ListAdd", {"listName": key, "value": "x" * maximum}), limit, maximum)
    check(await actor.error("SetAdd", {"setName": key, "value": "x" * maximum}), limit, maximum)
    assert await actor.contains(key) is False
    assert await StoredBucket(actor.host.client, actor.bucket).revision(key) == 0


async def test_one_call_over_the_limit_does_not_fail_those_combined_with_it(make_actor: MakeActor) -> None:
    actor, maximum = await limited(make_actor, "MAX_VALUE_SIZE")
    calls = [actor.list_add("list", f"e{number}") for number in range(20)]
    calls.insert(10, actor.list_add("list", "x" * maximum))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 1
    check(str(refused[0]), "MAX_VALUE_SIZE", maximum)
    assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == list(range(1, 21))
    assert sorted(await actor.list_range("list")) == sorted(f"e{number}" for number in range(20))


async def test_a_limit_that_was_lowered_is_named_though_the_provider_does_not_know_it_yet(
    make_actor: MakeActor,
) -> None:
    actor = await make_actor()
    await actor.set("k", "before")
    jetstream = actor.host.client.jetstream()
    config = (await jetstream.stream_info(f"KV_{actor.bucket}")).config
    config.max_msg_size = OWN_MAXIMUM
    await jetstream.update_stream(config)
    said = await actor.error("Set", {"key": "k", "value": "x" * OWN_MAXIMUM, "expires": 0})
    assert check(said, "MAX_VALUE_SIZE", OWN_MAXIMUM) > OWN_MAXIMUM
    assert await actor.get("k") == "before"
    await actor.set("k", "x" * (OWN_MAXIMUM - 300))
