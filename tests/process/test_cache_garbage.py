"""Strangers, noise and old messages on the subjects of the replication: no harm, no growth, no flood of log lines."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.process.conftest import MakeReplicas
from tests.process.replica_load import Load
from tests.process.replicas import State, all_see, converged, heartbeats_pass, sees, state

SEED = 20_240_301
MESSAGES = 4_000
AT_ONCE = 100
GROWTH_BYTES = 30 * 1024 * 1024
LOG_LINES = 200
HEAD_BYTES = 5
"""In which a version is to be found."""
NOT_REPLICATION = ("_INBOX.", "$", "wasmbus.rpc.", "wasmbus.evt.", "leaf-lattice.")


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
    """Collect what passes the server of a host and is neither a call nor its answer."""
    found: list[Sent] = []

    async def keep(message: Msg) -> None:
        if not message.subject.startswith(NOT_REPLICATION):
            found.append(Sent(message.subject, message.data, message.reply, message.headers))

    subscription = await host.client.subscribe(">", cb=keep)
    subscription._pending_msgs_limit = subscription._pending_bytes_limit = 0
    await host.client.flush()
    yield found
    await host.client.flush()
    await subscription.unsubscribe()


async def publish(host: LatticeHost, messages: list[Sent]) -> None:
    for number, message in enumerate(messages, 1):
        await host.client.publish(message.subject, message.payload, message.reply, message.headers)
        if number % AT_ONCE == 0:
            await host.client.flush()
    await host.client.flush()


async def write_a_bit_of_everything(actor: Actor, prefix: str) -> State:
    """Make every kind of change, some of them undone; return what is to be seen."""
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
    """Let replicas write, part, meet, come and go; return them, what they sent each other and what is to be seen."""
    replicas = await make_replicas(2)
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
    assert messages, "nothing was captured"
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
    async with Load(actors, 10) as load:
        await publish(actors[0].host, damaged(messages, MESSAGES))
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
    async with Load(actors, 11) as load:
        for _ in range(max(3, MESSAGES // len(messages))):
            await publish(actors[source.randrange(2)].host, source.sample(messages, len(messages)))
        await load.progress("after the echo")
    load.ledger.check(await converged(actors, load.ledger.keys))
    await all_see(actors, gone, 0)
    late = await replicas.start(1)
    await publish(late.host, messages)
    await all_see([*actors, late], gone)
    for actor, lines_before in zip(actors, lines, strict=True):
        assert actor.host.provider.stderr.count("\n") - lines_before < LOG_LINES


async def test_a_message_of_another_version_is_refused_with_a_log_line(make_replicas: MakeReplicas) -> None:
    replicas = await make_replicas(2)
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
    await publish(there.host, others * 100)
    await eventually(lambda: "version" in there.host.provider.stderr, "a log line that speaks of the version")
    assert await there.get("t:versioned") is None
    assert there.host.provider.stderr.count("\n") - lines < 20
    await publish(there.host, [change])
    await sees(there, {"t:versioned": "v"})
    await replicas.lattice.heal()
    await here.delete("t:versioned")
    await all_see([here, there], {"t:versioned": None})
