"""A member gone mad: everything here is signed with the cluster's key, so there is no stranger to refuse, only content."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import msgpack
from nats.aio.client import Client

from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.waiting import eventually
from tests.process.cache.forger import DELTAS, REQUEST, Forger, deltas, parse, text
from tests.process.cache.mad_member import MadMember, boast, endless, garbage, nothing, silence
from tests.process.cache.replicas import all_see, sees
from tests.process.cache.test_cache_members import Cache, cache, health_tells, outsider, recorded
from tests.process.conftest import MakeReplicas

__all__ = ["cache", "outsider"]

IDENTITIES = 300
CAUGHT_UP_SECONDS = 20.0
"""A twentieth of the time that it takes to wait for one replica after the other. It is about five on a machine of its own."""
GROWTH_BYTES = 60 * 1024 * 1024


async def test_hundreds_of_replicas_that_lie_keep_no_joiner_from_catching_up_nor_the_others_from_agreeing(
    cache: Cache, outsider: Client
) -> None:
    here = await cache.start()
    expected = {f"t:{number}": "v" * 100 for number in range(1000)}
    await asyncio.gather(*(here.set(key, value) for key, value in expected.items()))
    before = here.host.provider.resident_bytes
    ways = [silence, garbage, endless, nothing, boast]
    mad = MadMember(outsider, cache.lattice, cache.key.signing_key, ways, IDENTITIES)
    await mad.start()
    await eventually(lambda: bool(mad.heard), "a heartbeat")
    began = time.monotonic()
    there = await cache.start()

    async def has_caught_up() -> bool:
        return "catching up" not in (await there.host.health()).message

    await eventually(has_caught_up, "that the joiner has caught up", CAUGHT_UP_SECONDS)
    await sees(there, expected, 1.0)
    assert time.monotonic() - began < CAUGHT_UP_SECONDS + 5
    await mad.announce()
    await there.set("t:there", "v")
    await here.set("t:here", "v")
    await all_see([here, there], {"t:there": "v", "t:here": "v"})
    # Pages that never end must take no memory, and none of their events may make a replica deaf.
    assert here.host.provider.resident_bytes - before < GROWTH_BYTES
    await health_tells(here, "content that no replica sends", is_healthy=True)
    await mad.announce()
    await health_tells(here, "announce changes and do not deliver them", is_healthy=True)


async def test_a_replica_tells_that_a_member_has_signed_in_its_name(cache: Cache, outsider: Client) -> None:
    here = await cache.start()
    messages = await recorded(outsider, cache)
    await here.set("t:k", "v")
    await eventually(lambda: bool(messages), "a message")
    own = messages[0].data
    await outsider.publish(cache.state_subject, own)  # an echo is no forgery
    forger = Forger(cache.lattice, cache.key.signing_key, sender=parse(own)[0], first=1_000)
    await outsider.publish(
        cache.state_subject, forger.message(cache.state_subject, DELTAS, deltas(2, text("t:k", "forged")))
    )
    await health_tells(here, "messages refused: 1 in the name of this instance", is_healthy=True)
    assert await here.get("t:k") == "v"


async def test_replicas_that_were_cut_off_agree_again_beside_members_gone_mad_on_both_sides(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2)
    here, there = actors = await replicas.start_all()
    async with AsyncExitStack() as stack:
        mad = []
        for server in replicas.lattice.servers:
            client = await patient_client(server.url)
            stack.push_async_callback(client.close)
            ways = [silence, garbage, endless, nothing, boast]
            mad.append(MadMember(client, replicas.name, replicas.cluster.signing_key, ways, 10))
            await mad[-1].start()
        heard = [member.heard for member in mad]
        await eventually(lambda: all(len(names) == 2 + 10 for names in heard), "that all hear each other")
        replicas.lattice.cut(1)
        for number in range(20):
            await here.set(f"t:here-{number}", "v")
            await there.set(f"t:there-{number}", "v")
        await here.increment("n:n", 2)
        await there.increment("n:n", 3)
        await replicas.lattice.heal()
        for member in mad:
            await member.announce()
        expected = {f"t:{side}-{number}": "v" for side in ("here", "there") for number in range(20)}
        await asyncio.gather(*(sees(actor, expected | {"n:n": "5"}, CAUGHT_UP_SECONDS) for actor in actors))


async def test_a_member_that_repeats_its_request_before_the_answer_gets_one_answer_and_does_no_harm(
    cache: Cache, outsider: Client
) -> None:
    here = await cache.start()
    messages = await recorded(outsider, cache)
    await here.set("t:k", "v")
    await eventually(lambda: bool(messages), "a message")
    replica = parse(messages[0].data)[0]
    forger = Forger(cache.lattice, cache.key.signing_key)
    subject, answers = cache.replay_subject(replica), cache.replay_subject(forger.sender)
    body = bytes(msgpack.packb([REQUEST, "", 0, [{}, {}]]))
    for _ in range(20):
        await outsider.publish(subject, forger.message(subject, REQUEST, body))
    await outsider.flush()
    await eventually(lambda: any(message.subject == answers for message in messages), "an answer")
    await here.set("t:k", "w")
    assert sum(message.subject == answers for message in messages) < 20
    assert "Traceback" not in here.host.provider.stderr
