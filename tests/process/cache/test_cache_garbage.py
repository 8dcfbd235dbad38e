"""Strangers, noise and old messages on the subjects of the replication: no harm, no growth, no flood of log lines."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.cache.replica_load import ReplicaLoad
from tests.process.cache.replicas import State, all_see, converged, heartbeats_pass, sees, state
from tests.process.conftest import MakeReplicas

SEED = 20_240_301
MESSAGES = 4_000
AT_ONCE = 100
GROWTH_BYTES = 30 * 1024 * 1024
LOG_LINES = 200
HEAD_BYTES = 5
"""In which a version is to be found."""
ROOT = "replicas-of-a-cache"
SUBJECTS = {"STATE_REPL_SUBJECT": f"{ROOT}.state", "REPLAY_REQ_SUBJECT": f"{ROOT}.replay"}


@dataclass(frozen=True)
class Sent:
    """A message of a replica as it was on the wire."""

    subject: str
    payload: bytes
    reply: str
    headers: dict[str, str] | None

    def changed(self, payload: bytes) -> Sent:
        return Sent(self.subject, payload, self.reply, self.headers)


@asynccontextmanager
async def captured(host: LatticeHost) -> AsyncIterator[list[Sent]]:
    """Collect what passes the server of a host on the subjects of the replication, answers included."""
    found: list[Sent] = []
    answers: list[Sent] = []

    async def keep(message: Msg) -> None:
        kept = Sent(message.subject, message.data, message.reply, message.headers)
        (found if message.subject.startswith(ROOT) else answers).append(kept)

    subscriptions = [await host.client.subscribe(subject, cb=keep) for subject in (f"{ROOT}.>", "_INBOX.>")]
    await host.client.flush()
    yield found
    await host.client.flush()
    for subscription in subscriptions:
        await subscription.unsubscribe()
    asked = {message.reply for message in found if message.reply}
    found.extend(answer for answer in answers if answer.subject in asked)


async def publish(client: Client, messages: list[Sent]) -> None:
    for number, message in enumerate(messages, 1):
        await client.publish(message.subject, message.payload, message.reply, message.headers)
        if number % AT_ONCE == 0:
            await client.flush()
    await client.flush()


async def write_a_bit_of_everything(actor: Actor, prefix: str) -> State:
    """Make every kind of change, some of them undone; return the expected values."""
    for number in range(10):
        await asyncio.gather(
            actor.set(f"t:{prefix}-{number}", f"text {number}" * 20),
            actor.set(f"t:{prefix}-expiring-{number}", "text", 3_600),
            actor.increment(f"n:{prefix}", number),
            actor.list_add(f"l:{prefix}", str(number)),
            actor.set_add(f"s:{prefix}", str(number)),
            actor.set_add(f"s:{prefix}-cleared", str(number)),
        )
    await actor.delete(f"t:{prefix}-0")
    await actor.list_del(f"l:{prefix}", "0")
    await actor.set_del(f"s:{prefix}", "0")
    await actor.set_clear(f"s:{prefix}-cleared")
    keys = [f"t:{prefix}-{number}" for number in range(10)]
    return await state(actor, [*keys, f"n:{prefix}", f"l:{prefix}", f"s:{prefix}", f"s:{prefix}-cleared"])


async def traffic_of_a_whole_life(make_replicas: MakeReplicas) -> tuple[Any, list[Actor], list[Sent], State]:
    """Let replicas write, part, meet, come and go; return them, the messages they sent each other and the expected values."""
    replicas = await make_replicas(2, **SUBJECTS)
    here = await replicas.start(0)
    async with captured(here.host) as messages:
        there = await replicas.start(1)
        expected = await write_a_bit_of_everything(here, "here")
        expected |= await write_a_bit_of_everything(there, "there")
        replicas.lattice.cut()
        expected |= await write_a_bit_of_everything(here, "here-cut")
        expected |= await write_a_bit_of_everything(there, "there-cut")
        await replicas.lattice.heal()
        await all_see([here, there], expected)
        late = await replicas.start(1)
        await sees(late, expected)
        expected |= await write_a_bit_of_everything(late, "late")
        await late.host.shutdown()
        await late.host.provider.exited()
        await all_see([here, there], expected)
        await heartbeats_pass(1)
    assert len({message.subject for message in messages}) > 2, "requests and answers were to be seen"
    return replicas, [here, there], messages, expected


def damaged(messages: list[Sent], count: int) -> list[Sent]:
    """Return copies no two of which are damaged in the same way, the same ones for the same seed."""
    source = random.Random(SEED)
    subjects = sorted({message.subject for message in messages})
    found = [
        Sent(subject, payload, reply, None)
        for subject in subjects
        for payload in (b"", b"\x00", b"\xff" * 1_000_000, b"\x00" * 1_000_000, b"[" * 100_000, b"\x91" * 100_000)
        for reply in ("", subject, f"no-inbox.{uuid.uuid4().hex}")
    ]
    while len(found) < count:
        message = source.choice(messages)
        payload = bytearray(message.payload)
        at = source.randrange(len(payload) or 1)
        match source.randrange(6):
            case 0:
                found.append(message.changed(source.randbytes(source.randrange(1, 2_000))))
            case 1:
                found.append(message.changed(bytes(payload[:at])))
            case 2:
                found.append(message.changed(bytes(payload[:1]) + source.randbytes(source.randrange(1, 300))))
            case 3:
                other = source.choice(messages).payload
                found.append(message.changed(bytes(payload[:at]) + other[at:]))
            case 4:
                found.append(message.changed(bytes(payload) + source.randbytes(source.randrange(1, 20))))
            case _:
                for _ in range(source.choice((1, 1, 1, 2, 8))):
                    bit = source.randrange(len(payload) * 8 or 1)
                    if payload:
                        payload[bit // 8] ^= 1 << bit % 8
                found.append(message.changed(bytes(payload)))
    return found


async def test_damaged_messages_change_nothing_and_the_replicas_still_converge(make_replicas: MakeReplicas) -> None:
    _, actors, messages, expected = await traffic_of_a_whole_life(make_replicas)
    before = [actor.host.provider.resident_bytes for actor in actors]
    lines = [actor.host.provider.stderr.count("\n") for actor in actors]
    async with ReplicaLoad(actors, 10) as load:
        await publish(actors[0].host.client, damaged(messages, MESSAGES))
        await load.progress("after the noise")
    load.ledger.check(await converged(actors, load.ledger.keys))
    await all_see(actors, expected)
    for actor, bytes_before, lines_before in zip(actors, before, lines, strict=True):
        assert actor.host.provider.exit_code is None
        assert actor.host.provider.resident_bytes - bytes_before < GROWTH_BYTES
        assert actor.host.provider.stderr.count("\n") - lines_before < LOG_LINES
        assert (await actor.host.health()).is_healthy


async def test_old_messages_sent_again_in_any_order_bring_nothing_back(make_replicas: MakeReplicas) -> None:
    replicas, actors, messages, expected = await traffic_of_a_whole_life(make_replicas)
    keys = list(expected)
    await asyncio.gather(*(actors[0].delete(key) for key in keys))
    gone = await state(actors[0], keys)
    assert not any(gone.values())
    await all_see(actors, gone)
    lines = [actor.host.provider.stderr.count("\n") for actor in actors]
    source = random.Random(SEED)
    async with ReplicaLoad(actors, 11) as load:
        for _ in range(max(3, MESSAGES // len(messages))):
            await publish(actors[source.randrange(2)].host.client, source.sample(messages, len(messages)))
        await load.progress("after the echo")
    load.ledger.check(await converged(actors, load.ledger.keys))
    await all_see(actors, gone, 0)
    await actors[0].set("t:last", "v")
    late = await replicas.start(1)
    await sees(late, {"t:last": "v"})
    await publish(late.host.client, messages)
    await all_see([*actors, late], gone)
    for actor, lines_before in zip(actors, lines, strict=True):
        assert actor.host.provider.stderr.count("\n") - lines_before < LOG_LINES


async def test_a_message_of_another_version_is_refused_with_a_log_line(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, **SUBJECTS)
    here, there = await replicas.start_all()
    replicas.lattice.cut()
    async with captured(here.host) as messages:
        await here.set("t:versioned", "v")
        await eventually(lambda: any(b"t:versioned" in message.payload for message in messages), "the change")
    change = next(message for message in messages if b"t:versioned" in message.payload)
    first = change.payload[:HEAD_BYTES]
    others = [
        change.changed(first[:at] + bytes([byte ^ flip]) + change.payload[at + 1 :])
        for at, byte in enumerate(first)
        for flip in (0x02, 0x40)
    ]
    lines = there.host.provider.stderr.count("\n")
    await publish(there.host.client, others * 100)
    await eventually(lambda: "version" in there.host.provider.stderr, "a log line that speaks of the version")
    assert await there.get("t:versioned") is None
    assert there.host.provider.stderr.count("\n") - lines < 20
    await publish(there.host.client, [change])
    await sees(there, {"t:versioned": "v"})
    await replicas.lattice.heal()
    await here.delete("t:versioned")
    await all_see([here, there], {"t:versioned": None})


async def test_a_late_copy_of_a_change_brings_nothing_back_that_was_deleted_before_a_join(
    make_replicas: MakeReplicas,
) -> None:
    replicas = await make_replicas(2, **SUBJECTS)
    here = await replicas.start(0)
    gone: State = {f"t:gone-{number}": None for number in range(50)} | {
        f"n:gone-{number}": None for number in range(50)
    }
    async with captured(here.host) as messages:
        for key in gone:
            await (here.set(key, "v") if key.startswith("t") else here.increment(key, 1))
    changes = [message for message in messages if b"gone-" in message.payload]
    await asyncio.gather(*(here.delete(key) for key in gone))
    await asyncio.gather(*(here.set(f"t:{number}", "x" * 100) for number in range(2_000)))
    await heartbeats_pass(2)

    async def send_some_late(request: Msg) -> None:
        """After each message of what a joiner is sent, let it hear some changes of long ago."""
        for change in [changes.pop() for _ in changes[:20]]:
            await here.host.client.publish(change.subject, change.payload)

    await here.host.client.subscribe(f"{SUBJECTS['REPLAY_REQ_SUBJECT']}.>", cb=send_some_late)
    there = await replicas.start(1)
    await all_see([here, there], gone | {"t:1999": "x" * 100})
    assert not changes, "all were to be sent while the joiner was catching up"


async def test_old_requests_sent_again_keep_nobody_from_joining_and_cost_no_memory(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2, **SUBJECTS)
    here = await replicas.start(0)
    source = random.Random(SEED)
    keys = [f"t:{number}" for number in range(1_000)]
    for start in range(0, len(keys), AT_ONCE):
        await asyncio.gather(*(here.set(key, source.randbytes(100).hex()) for key in keys[start : start + AT_ONCE]))
    expected = await state(here, keys)
    async with captured(here.host) as messages:
        there = await replicas.start(1)
        await sees(there, expected)
    requests = [message for message in messages if message.reply]
    assert requests
    before = here.host.provider.resident_bytes
    async with ReplicaLoad([here, there], 12) as load:
        for _ in range(1_000 // len(requests)):
            await publish(here.host.client, requests)
        await load.progress("after the requests")
    assert load.ledger.slowest_seconds < 1
    assert here.host.provider.resident_bytes - before < GROWTH_BYTES
    load.ledger.check(await converged([here, there], load.ledger.keys))
    there.host.provider.signal(signal.SIGKILL)
    await there.host.provider.exited()
    late = await replicas.start(1)
    await sees(late, expected, 5)
