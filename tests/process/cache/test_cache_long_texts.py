"""Texts that are larger than a message between replicas: set on one instance, read on the others and by those that come later."""

from __future__ import annotations

import contextlib
import random
import time

import msgpack
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.blackbox.lattice_host import CallFailedError
from tests.conformance.actor import Actor
from tests.process.cache.forger import HEARTBEAT, PIECE, Forger, heartbeat, new_id
from tests.process.cache.replicas import all_see, heartbeats_pass, sees
from tests.process.cache.test_cache_members import Cache, cache, end, health_tells, outsider, recorded

__all__ = ["cache", "outsider"]

PIECE_AT = 155
"""Size of all parts of a signed message before its body."""
SECONDS = 20.0
"""Far more than a text of 5 MB takes, on a machine that does other work."""


@pytest.fixture(scope="module")
def long_text() -> str:
    """A text of 5 MB that cannot be compressed to what fits into a message."""
    return random.Random(5).randbytes(2_500_000).hex()


def pieces_of(messages: list[Msg]) -> list[bytes]:
    return [message.data for message in messages if message.data[6] == PIECE]


async def test_a_long_text_is_read_on_another_instance_and_by_one_that_comes_later(
    cache: Cache, outsider: Client, long_text: str
) -> None:
    messages = await recorded(outsider, cache)
    here, there = await cache.start(), await cache.start()
    await here.set("t:small", "v")
    await sees(there, {"t:small": "v"})
    await here.set("t:long", long_text)
    await here.set("t:after", "v")
    await sees(there, {"t:long": long_text, "t:after": "v"}, SECONDS)
    published = [piece for piece in pieces_of(messages) if not int.from_bytes(piece[67:75], "big")]
    assert sum(map(len, published)) > len(long_text)
    assert max(map(len, published)) < 200_000
    late = await cache.start()
    await sees(late, {"t:long": long_text, "t:after": "v", "t:small": "v"}, SECONDS)
    await end(here)
    last = await cache.start()
    await sees(last, {"t:long": long_text}, SECONDS)
    await last.set("t:long", "short")
    await all_see([there, late, last], {"t:long": "short"})


async def test_replicas_that_sign_nothing_exchange_long_texts_too(cache: Cache, long_text: str) -> None:
    here, there = await cache.start(REPLICATION_AUTH="off"), await cache.start(REPLICATION_AUTH="off")
    await here.set("t:small", "v")
    await sees(there, {"t:small": "v"})
    await here.set("t:long", long_text)
    await sees(there, {"t:long": long_text}, SECONDS)
    late = await cache.start(REPLICATION_AUTH="off")
    await sees(late, {"t:long": long_text}, SECONDS)


async def test_limits_hold_for_long_texts_and_are_named(cache: Cache, long_text: str) -> None:
    here = await cache.start(MAX_BYTES="6000000", MAX_VALUE_SIZE="5500000")
    await here.set("t:long", long_text)
    for size, limit in ((5_600_000, "MAX_VALUE_SIZE"), (65 * 2**20, "max_invocation_bytes")):
        assert limit in await here.error("Set", {"key": "t:long", "value": "x" * size, "expires": 0})
    assert "MAX_BYTES" in await here.error("Set", {"key": "t:other", "value": long_text, "expires": 0})
    for operation, name in (("ListAdd", "listName"), ("SetAdd", "setName")):
        assert "max_payload" in await here.error(operation, {name: "other", "value": long_text})
    await here.set("t:long", long_text[::-1])
    assert await here.get("t:long") == long_text[::-1]


async def test_pieces_that_are_forged_swapped_repeated_cut_or_never_finished_change_nothing(
    cache: Cache, outsider: Client, long_text: str
) -> None:
    messages = await recorded(outsider, cache)
    here, there = await cache.start(), await cache.start()
    await here.set("t:long", long_text)
    await sees(there, {"t:long": long_text}, SECONDS)
    pieces = pieces_of(messages)
    mad = Forger(cache.lattice, cache.key.signing_key)
    beat = mad.message(cache.state_subject, HEARTBEAT, heartbeat({mad.sender: 0} | dict.fromkeys(heard(messages), 0)))
    await outsider.publish(cache.state_subject, beat)
    for number, piece in enumerate(pieces[:20]):
        other = pieces[-1 - number]
        unused = (10**6 + number).to_bytes(8, "big")
        swapped = piece[:51] + unused + piece[59:PIECE_AT] + other[PIECE_AT:]
        # A member may send anything in its own name: pieces of which the last one never comes.
        body = msgpack.packb([PIECE, 1, number + 1, 8000, 60_000_000, b"", b"x" * 100_000])
        for data in (piece, swapped, piece[: len(piece) // 2], mad.message(cache.state_subject, PIECE, bytes(body))):
            await outsider.publish(cache.state_subject, data)
    await outsider.flush()
    await here.set("t:after", "v")
    await all_see([here, there], {"t:long": long_text, "t:after": "v"}, SECONDS)
    late = await cache.start()
    await sees(late, {"t:long": long_text, "t:after": "v"}, SECONDS)
    await health_tells(there, "a wrong signature", is_healthy=True)


async def test_no_long_text_is_taken_while_a_replica_of_an_earlier_release_could_not_have_it(
    cache: Cache, outsider: Client, long_text: str
) -> None:
    messages = await recorded(outsider, cache)
    here = await cache.start()
    await here.set("t:before", long_text)
    await heartbeats_pass(1)
    old = Forger(cache.lattice, cache.key.signing_key, sender=new_id())

    async def old_heartbeat(*, is_leaving: bool) -> None:
        body = heartbeat({old.sender: 0} | dict.fromkeys(heard(messages), 0), is_leaving=is_leaving)
        await outsider.publish(cache.state_subject, old.message(cache.state_subject, HEARTBEAT, body))
        await outsider.flush()

    await old_heartbeat(is_leaving=False)
    await health_tells(
        here, "replicas of an earlier release, which take no value larger than a message: 1", is_healthy=True
    )
    said = await here.error("Set", {"key": "t:long", "value": long_text, "expires": 0})
    assert "1 replicas of an earlier release" in said
    assert "outcome unknown" not in said
    await here.set("t:small", "v")
    await old_heartbeat(is_leaving=True)
    await set_until_taken(here, long_text)


async def set_until_taken(actor: Actor, value: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(CallFailedError):
            await actor.set("t:long", value)
            break
    assert await actor.get("t:long") == value


def heard(messages: list[Msg]) -> set[str]:
    """Return the ids of the replicas that have sent a message."""
    return {message.data[39:51].decode() for message in messages}
