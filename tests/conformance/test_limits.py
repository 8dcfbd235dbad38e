"""Values over a limit: the error names the limit, the size and the maximum. A value at the limit is stored."""

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
        return await make_actor(PAGED="false"), MAX_PAYLOAD
    return await make_actor(MAX_VALUE_SIZE=str(OWN_MAXIMUM)), OWN_MAXIMUM


def check(error: str, limit: str, maximum: int) -> int:
    """Check that an error names the limit, and return the size of the value in its text."""
    assert limit in error, error
    assert str(maximum) in error, error
    assert "outcome unknown" not in error
    numbers = [int(number) for number in re.findall(r"\d+", error.split("would take")[1])]
    assert len(error) < 1000
    return numbers[0]


async def test_the_longest_text_works_and_one_more_byte_is_refused(make_actor: MakeActor, limit: str) -> None:
    actor, maximum = await limited(make_actor, limit)
    await actor.set("k", "before")
    error = await actor.error("Set", {"key": "k", "value": "x" * maximum, "expires": 0})
    overhead = check(error, limit, maximum) - maximum
    assert 0 < overhead < 300
    assert await actor.get("k") == "before"
    longest = "x" * (maximum - overhead - 40)  # an operation id grows by a digit from time to time
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
        error = await actor.error(operation, {f"{name}Name": name, "value": "x" * piece})
        check(error, limit, maximum)
    assert await actor.list_add("list", "small") == 5
    assert await actor.set_add("set", "small") == 1
    assert len(await actor.list_range("list")) == 5
    assert len(await actor.set_query("set")) == 5
    assert await actor.list_del("list", "0" * piece) is True
    assert await actor.list_add("list", "x" * piece) == 5


async def test_a_new_key_with_a_value_over_the_limit_is_not_stored(make_actor: MakeActor, limit: str) -> None:
    actor, maximum = await limited(make_actor, limit)
    key = fresh()
    check(await actor.error("Set", {"key": key, "value": "x" * (maximum + 1), "expires": 0}), limit, maximum)
    check(await actor.error("ListAdd", {"listName": key, "value": "x" * maximum}), limit, maximum)
    check(await actor.error("SetAdd", {"setName": key, "value": "x" * maximum}), limit, maximum)
    assert await actor.contains(key) is False
    assert await StoredBucket(actor.host.client, actor.bucket).revision(key) == 0


async def test_a_call_over_the_limit_does_not_affect_calls_written_together_with_it(make_actor: MakeActor) -> None:
    actor, maximum = await limited(make_actor, "MAX_VALUE_SIZE")
    calls = [actor.list_add("list", f"e{number}") for number in range(20)]
    calls.insert(10, actor.list_add("list", "x" * maximum))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 1
    check(str(refused[0]), "MAX_VALUE_SIZE", maximum)
    assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == list(range(1, 21))
    assert sorted(await actor.list_range("list")) == sorted(f"e{number}" for number in range(20))


async def test_an_error_names_a_lowered_limit_that_the_provider_does_not_know_yet(
    make_actor: MakeActor,
) -> None:
    actor = await make_actor()
    await actor.set("k", "before")
    jetstream = actor.host.client.jetstream()
    config = (await jetstream.stream_info(f"KV_{actor.bucket}")).config
    config.max_msg_size = OWN_MAXIMUM
    await jetstream.update_stream(config)
    error = await actor.error("Set", {"key": "k", "value": "x" * OWN_MAXIMUM, "expires": 0})
    assert check(error, "MAX_VALUE_SIZE", OWN_MAXIMUM) > OWN_MAXIMUM
    assert await actor.get("k") == "before"
    await actor.set("k", "x" * (OWN_MAXIMUM - 300))
