"""Garbage on every subject: requests are answered, the provider does not crash, and its memory does not grow."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import pytest

from tests.blackbox.host_families import HARNESS, HostFamily
from tests.blackbox.lattice_host import LatticeHost

SEED = 20_240_229
MESSAGES = 200
GROWTH_BYTES = 20 * 1024 * 1024
ANSWER_SECONDS = 2.0

HUGE = [
    b"\xdf\xff\xff\xff\xff",  # map of 2**32 - 1 pairs
    b"\xdd\xff\xff\xff\xff",  # array
    b"\xdb\xff\xff\xff\xff",  # str
    b"\xc6\xff\xff\xff\xff",  # bin
    b"\xc9\xff\xff\xff\xff\x01",  # ext
    b"\x81\xa3msg\xc6\x7f\xff\xff\xff",
    b"\xdf\x00\xff\xff\xff" + b"\xa1a\x01" * 1000,
]


def garbage(host: LatticeHost, actor: str, count: int) -> list[bytes]:
    """Return payloads that are all invalid in different ways, and are the same for the same seed."""
    source = random.Random(SEED)
    invocation = host.invocation(actor, "KeyValue.Set", msgpack.packb({"key": "g", "value": "v", "expires": 0}))
    whole: bytes = msgpack.packb(invocation)
    fixed = [
        b"",
        b"\x00",
        b"\xc0",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"{}",
        b"null",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        *HUGE,
        whole + b"\x00",
        whole * 2,
        msgpack.packb([invocation]),
        msgpack.packb(list(invocation.values())),
        msgpack.packb({1: 2, None: 3}),
        msgpack.packb({b"origin": 1}),
    ]
    wrong: list[Any] = [None, 5, -1.5, True, "text", b"\xff\xfe", [], {}, [[[]]], {"a": {"b": 1}}, 2**63, "x" * 50_000]
    for field in invocation:
        fixed.extend(msgpack.packb(invocation | {field: value}) for value in source.sample(wrong, 4))
    while len(fixed) < count:
        match source.randrange(3):
            case 0:
                fixed.append(source.randbytes(source.randrange(1, 4000)))
            case 1:
                fixed.append(whole[: source.randrange(1, len(whole))])
            case 2:
                at = source.randrange(len(whole))
                fixed.append(whole[:at] + source.randbytes(source.randrange(1, 8)) + whole[at + 1 :])
    return fixed[:count]


async def test_garbage_on_the_subject_of_invocations_is_always_answered(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    before = host.provider.resident_bytes
    payloads = garbage(host, actor, MESSAGES)
    for payload in payloads:
        reply = await host.client.request(host.subject, payload, timeout=ANSWER_SECONDS)
        answer = msgpack.unpackb(reply.data)
        assert isinstance(answer["msg"], bytes)
        assert isinstance(answer["invocation_id"], str)
        assert answer["content_length"] == len(answer["msg"])
        if "error" in answer:
            assert answer["error"]
            assert len(answer["error"]) < 1000
    await asyncio.gather(
        *(host.client.request(host.subject, payload, timeout=ANSWER_SECONDS * 2) for payload in payloads)
    )
    assert await host.get(actor, "k") == "v"
    assert host.provider.resident_bytes - before < GROWTH_BYTES
    assert "Traceback" not in host.provider.stderr
    assert "internal" not in host.provider.stderr


async def test_a_message_that_is_not_an_invocation_is_answered_with_an_error(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    for payload in (b"", b"\xc0", b"\x80", b"\x91" * 100_000, b"{}", *HUGE):
        reply = await host.client.request(host.subject, payload, timeout=ANSWER_SECONDS)
        assert "malformed" in msgpack.unpackb(reply.data)["error"]


async def test_a_malformed_invocation_with_a_readable_id_is_answered_with_that_id(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    invocation = host.invocation(actor, "KeyValue.Get", msgpack.packb("k")) | {"operation": 7}
    response = await host.invoke(invocation)
    assert response.error is not None
    assert "operation" in response.error


@pytest.mark.parametrize("verb", ["linkdefs.put", "linkdefs.del", "health", "shutdown"])
async def test_garbage_on_other_subjects_changes_nothing(host: LatticeHost, family: HostFamily, verb: str) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    before = host.provider.resident_bytes
    payloads = garbage(host, actor, MESSAGES)
    inbox = host.client.new_inbox()
    answers = await host.client.subscribe(inbox)
    for number, payload in enumerate(payloads):
        await host.client.publish(f"{host.subject}.{verb}", payload, reply=inbox if number % 2 else "")
        if number % 20 == 0:
            assert await host.get(actor, "k") == "v"
    assert await host.get(actor, "k") == "v"
    health = await host.health()
    assert health.is_healthy, health
    expected = 0 if verb == "shutdown" else MESSAGES // 2
    for _ in range(expected):
        message = await answers.next_msg(timeout=ANSWER_SECONDS)
        if verb == "health":
            assert family.read_health(message.data).is_healthy
    assert answers.pending_msgs == 0
    assert host.provider.exit_code is None
    assert host.provider.resident_bytes - before < GROWTH_BYTES
    assert "Traceback" not in host.provider.stderr


@pytest.mark.parametrize("family", [HARNESS], ids=["harness"], indirect=True)
async def test_garbage_in_json_link_definitions_changes_nothing(host: LatticeHost) -> None:
    actor, odd = host.actor(), host.actor()
    await host.start_provider([host.link(actor)])
    good = host.link(odd)
    oddities: list[Any] = [
        good | {"values": {"BUCKET": 7}},
        good | {"values": {"REPLICAS": 1.5}},
        good | {"values": {"A": None}},
        good | {"values": {"config_b64": 5}},
        good | {"values": [1]},
        good | {"actor_id": 10**400},
        {name: value for name, value in good.items() if name != "actor_id"},
        [good],
    ]
    for link in oddities:
        await host.put_link(link)
        await host.set(actor, "k", "v")
    for broken in ("$$$", "bm8ganNvbg", "", "eyJhIjoxfQ"):
        await host.put_link(good | {"values": {"config_b64": broken}})
    await host.set(odd, "k2", "v")
    assert await host.get(actor, "k2") == "v"
