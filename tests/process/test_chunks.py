"""Payloads that are too large for a message go through the lattice's object store, in both directions, for each host."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import msgpack
import pytest

from tests.blackbox.host_families import HARNESS, OTP, RUST, HostFamily
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.proc import forget_peak, peak_bytes
from tests.blackbox.waiting import eventually

RESPONSE_THRESHOLD_BYTES = 900 * 1024

LARGE_ANSWER_BYTES = 20_000_000

LARGE_TEXT_BYTES = 40_000_000
LESS_THAN_TWO_COPIES = 1.95 * LARGE_TEXT_BYTES
"""Bound on the memory of one copy and the pieces that are on their way, of which there are more on a busy machine."""

LONG = 15_000
"""Bytes of a list element. 60 elements exceed 900 KiB together, but each is far below a server's max_payload."""


async def linked(host: LatticeHost) -> str:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    return actor


def list_response(size: int) -> list[str]:
    """Return texts whose array has exactly this size in MessagePack."""
    count = 64
    header, per_text = 3, 3
    total = size - header - count * per_text
    texts = ["x" * (total // count)] * (count - 1)
    texts.append("x" * (total - sum(map(len, texts))))
    assert len(msgpack.packb(texts)) == size
    return texts


async def fill(host: LatticeHost, actor: str, name: str, texts: list[str]) -> None:
    for text in texts:
        await host.call(actor, "ListAdd", {"listName": name, "value": text})


@pytest.mark.parametrize(
    ("size", "is_chunked"), [(RESPONSE_THRESHOLD_BYTES, False), (RESPONSE_THRESHOLD_BYTES + 1, True)]
)
async def test_a_response_over_exactly_900_kib_is_chunked_and_readable_by_the_host(
    host: LatticeHost, size: int, is_chunked: bool
) -> None:
    actor = await linked(host)
    texts = list_response(size)
    await fill(host, actor, "long", texts)
    argument = msgpack.packb({"listName": "long", "start": 0, "stop": -1})
    response = await host.invoke(host.invocation(actor, "KeyValue.ListRange", argument), 10)
    assert response.error is None
    assert response.is_chunked is is_chunked
    assert response.content_length == size
    assert msgpack.unpackb(response.msg) == texts
    if is_chunked:
        assert await host.objects.chunk_count() == 0, "the host has deleted the object"


@pytest.mark.parametrize("over_bytes", [0, 1])
async def test_a_request_over_the_threshold_of_the_host_is_read_and_its_object_removed(
    host: LatticeHost, over_bytes: int
) -> None:
    actor = await linked(host)
    threshold = host.family.request_threshold_bytes
    overhead = len(msgpack.packb({"key": "big", "value": "x" * 800_000, "expires": 0})) - 800_000
    value = "x" * (threshold + over_bytes - overhead)
    argument = msgpack.packb({"key": "big", "value": value, "expires": 0})
    assert len(argument) == threshold + over_bytes
    invocation = host.invocation(actor, "KeyValue.Set", argument)
    response = await host.invoke(invocation)
    assert response.error is None
    assert response.msg == b""
    assert await host.get(actor, "big") == value
    if over_bytes:
        assert await host.objects.chunk_count() == 0
        meta = await host.objects.meta(invocation["id"])
        assert meta is None or meta["deleted"] is True


async def test_a_chunked_payload_that_was_not_signed_is_refused_and_changes_nothing(host: LatticeHost) -> None:
    actor = await linked(host)
    signed = msgpack.packb({"key": "big", "value": "a" * 950_000, "expires": 0})
    forged = msgpack.packb({"key": "big", "value": "b" * 950_000, "expires": 0})
    invocation = host.invocation(actor, "KeyValue.Set", signed, msg=forged)
    response = await host.invoke(invocation)
    assert response.error is not None
    assert "hash" in response.error
    assert await host.get(actor, "big") is None


@pytest.mark.parametrize("family", [OTP, RUST], ids=["otp", "rust"], indirect=True)
async def test_the_payload_of_a_call_that_is_verified_and_refused_is_removed(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"REPLICAS": "many"})])
    argument = msgpack.packb({"key": "k", "value": "x" * 950_000, "expires": 0})
    response = await host.invoke(host.invocation(actor, "KeyValue.Set", argument))
    assert response.error is not None
    assert "REPLICAS" in response.error

    async def is_removed() -> bool:
        return await host.objects.chunk_count() == 0

    await eventually(is_removed, "an object store without the payload")


async def test_a_payload_that_is_not_in_the_object_store_is_an_error(host: LatticeHost, family: HostFamily) -> None:
    actor = await linked(host)
    argument = msgpack.packb({"key": "big", "value": "a" * 950_000, "expires": 0})
    for is_made in (False, True):
        if is_made:
            await host.objects.create()
        invocation = host.invocation(actor, "KeyValue.Set", argument, msg=b"", content_length=len(argument))
        response = await host.invoke(invocation, 2)
        assert response.error is not None
        assert "object store" in response.error
    assert await host.get(actor, "big") is None


ARGUMENT = msgpack.packb({"key": "big", "value": "a" * 2_000_000, "expires": 0})
OTHER = ARGUMENT.replace(b"a" * 1000, b"b" * 1000, 1)


@pytest.mark.parametrize(
    ("payload", "stated"),
    [
        (ARGUMENT[:-150_000], {"size": len(ARGUMENT)}),
        (b"", {"size": len(ARGUMENT)}),
        (ARGUMENT[:-1] + bytes(300_001), {"size": len(ARGUMENT)}),
        (OTHER, {"digest": f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(ARGUMENT).digest()).decode()}"}),
        (OTHER, {"digest": ""}),
        (OTHER, {}),
        (ARGUMENT, {"size": len(ARGUMENT) + 1}),
        (ARGUMENT, {"size": -1}),
        (ARGUMENT, {"nuid": "no such pieces"}),
        (ARGUMENT, {"nuid": "*"}),
    ],
    ids=[
        "too short",
        "empty",
        "too long",
        "another hash",
        "no hash",
        "unsigned",
        "larger",
        "negative",
        "a space",
        "a wildcard",
    ],
)
@pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)
async def test_a_payload_that_is_not_what_was_promised_is_an_error_and_changes_nothing(
    host: LatticeHost, payload: bytes, stated: dict[str, Any]
) -> None:
    actor = await linked(host)
    await host.set(actor, "big", "before")
    await host.objects.create()
    invocation = host.invocation(actor, "KeyValue.Set", ARGUMENT, msg=b"", content_length=len(ARGUMENT))
    await host.objects.put(invocation["id"], payload, **stated)
    response = await host.invoke(invocation, 10)
    assert response.error is not None
    assert "object store" in response.error or "hash" in response.error, response.error
    assert await host.get(actor, "big") == "before"


async def test_a_payload_over_the_limit_is_refused_with_its_name_before_it_is_fetched(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)], {"max_invocation_bytes": 1_000_000})
    argument = msgpack.packb({"key": "big", "value": "a" * 1_000_001, "expires": 0})
    response = await host.invoke(host.invocation(actor, "KeyValue.Set", argument))
    assert response.error is not None
    assert "max_invocation_bytes" in response.error
    assert "1000000" in response.error
    huge = host.invocation(actor, "KeyValue.Set", argument, msg=b"", content_length=2**62)
    response = await host.invoke(huge, 2)
    assert response.error is not None
    assert "max_invocation_bytes" in response.error


@pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)
async def test_large_payloads_that_have_no_room_together_are_served_one_after_the_other(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)], {"max_invocation_bytes": "3MiB", "max_in_flight_bytes": "64MiB"})
    values = {f"big{number}": str(number) * 2_000_000 for number in range(6)}
    arguments = [msgpack.packb({"key": key, "value": value, "expires": 0}) for key, value in values.items()]
    sent = [host.invoke(host.invocation(actor, "KeyValue.Set", argument), 15) for argument in arguments]
    assert [response.error for response in await asyncio.gather(*sent)] == [None] * 6
    assert [await host.get(actor, key) for key in values] == list(values.values())
    assert await host.objects.chunk_count() == 0


@pytest.mark.parametrize("family", [RUST, HARNESS], ids=["rust", "harness"], indirect=True)
@pytest.mark.parametrize(("backend", "kept"), [("bucket", 0), ("cache", LARGE_TEXT_BYTES)])
@pytest.mark.parametrize("character", ["a", "é"])
async def test_a_large_text_is_set_and_read_in_the_memory_of_one_copy(
    host: LatticeHost, backend: str, kept: int, character: str
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"BACKEND": backend})], default_rpc_timeout_ms=8000)
    await host.set(actor, "small", "v")
    text = character * (LARGE_TEXT_BYTES // len(character.encode()))
    pid, before = host.provider.pid, host.provider.resident_bytes
    forget_peak(pid)
    argument = msgpack.packb({"key": "large", "value": text, "expires": 0})
    response = await host.invoke(host.invocation(actor, "KeyValue.Set", argument), 30)
    assert response.error is None
    assert peak_bytes(pid) - before < LESS_THAN_TWO_COPIES
    await eventually(lambda: host.provider.resident_bytes - before < kept + LARGE_TEXT_BYTES / 4, "memory given back")
    forget_peak(pid)
    invocation = host.invocation(actor, "KeyValue.Get", msgpack.packb("large"))
    reply = await host.client.request(host.subject, msgpack.packb(invocation), timeout=30)
    response = host.family.read_response(reply.data, invocation["id"])
    assert response.error is None
    assert peak_bytes(pid) - before < LESS_THAN_TWO_COPIES
    assert await host.get(actor, "large") == text


@pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)
async def test_large_answers_that_are_wanted_at_once_take_the_memory_of_one(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider(
        [host.link(actor)], {"max_answer_bytes": LARGE_ANSWER_BYTES + 1}, default_rpc_timeout_ms=8000
    )
    provider = host.provider
    idle = provider.resident_bytes
    await host.set(actor, "big", "x" * LARGE_ANSWER_BYTES)
    before, peak = provider.resident_bytes, 0

    async def ask() -> str | None:
        invocation = host.invocation(actor, "KeyValue.Get", msgpack.packb("big"))
        reply = await host.client.request(host.subject, msgpack.packb(invocation), timeout=20)
        response = host.family.read_response(reply.data, invocation["id"])
        assert response.error is not None or response.content_length > LARGE_ANSWER_BYTES
        return response.error

    asked = [asyncio.create_task(ask()) for _ in range(16)]
    while not all(one.done() for one in asked):
        peak = max(peak, provider.resident_bytes)
        await asyncio.sleep(0.01)
    refusals = [error for one in asked if (error := one.result()) is not None]
    assert len(refusals) < len(asked)
    assert all("large values are being read" in error or "object store" in error for error in refusals), refusals
    assert peak - before < 6 * LARGE_ANSWER_BYTES
    await eventually(lambda: provider.resident_bytes - idle < LARGE_ANSWER_BYTES / 2, "memory given back")


@pytest.mark.parametrize("family", [RUST, HARNESS], ids=["rust", "harness"], indirect=True)
async def test_a_value_over_the_server_s_limit_is_an_error_where_values_are_not_paged(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"PAGED": "false"})])
    error = await host.error(actor, "Set", {"key": "big", "value": "a" * 1_100_000, "expires": 0})
    assert "max_payload" in error
    assert await host.get(actor, "big") is None
