"""Every call of a component is ended: refused, malformed, cut off or answered before its host listens."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.component import Component, IncompleteResultError
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import NO_SUCH_STORE, OTHER, ComponentError, parameters

CACHE = {"BACKEND": "cache"}
CALLS = 1000
"""Calls by a host that listens late. Without the repetitions, more than half of them are never answered."""


async def error_of(component: Component, function: str, *arguments: Any, **given: Any) -> ComponentError:
    with pytest.raises(ComponentError) as caught:
        await component.call(function, *arguments, **given)
    return caught.value


async def test_calls_that_cannot_be_carried_out_are_ended_with_the_reason(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link(config=CACHE)], {"max_keys_per_call": "3", "max_invocation_bytes": "3000000"})
    component = await host.component()
    old = await host.component(flavour="1.0")
    stranger = await host.component("stranger")
    # The component is not linked, or not under this name, or not told.
    for caller, given in (
        (stranger, {}),
        (component, {"link_name": "other"}),
        (component, {"headers": {"link-name": "default"}}),
        (old, {"headers": {}}),
    ):
        error = await error_of(caller, "get", "default", "k", **given)
        assert error.case == OTHER
        assert "not linked" in error.text or "source-id" in error.text
    # It has opened its store by another name.
    assert (await error_of(component, "get", "elsewhere", "k")).case == NO_SUCH_STORE
    assert (await error_of(component, "get", "default", "")).text
    # The parameters are too much.
    assert "max_keys_per_call" in (await error_of(component, "get-many", "default", ["a", "b", "c", "d"])).text
    huge = parameters("set", "default", "k", bytes(3_000_000))
    assert "max_invocation_bytes" in (await error_of(component, "set", payload=huge)).text
    # The parameters are no call: the component traps, and a host of 1.0 is told why.
    for payload in (b"\x07default\x01\xff", b"\x07default\x01kk", b"\x07defau"):
        with pytest.raises(IncompleteResultError):
            await component.call("get", payload=payload)
    with pytest.raises(IncompleteResultError) as caught:
        await old.call("get", payload=b"\x07default\x01\xff")
    assert "malformed parameters of store.get" in caught.value.text
    # Nothing of it keeps the provider from serving.
    await component.call("set", "default", "k", b"v")
    assert await old.call("get", "default", "k") == b"v"
    # Parameters may be cut anywhere.
    for first_bytes in (0, 1, 3, 9):
        assert await component.call("get", "default", "k", first_bytes=first_bytes) == b"v"
        assert await old.call("get", "default", "k", first_bytes=first_bytes) == b"v"
    assert (await host.health())["healthy"]


async def test_nothing_is_published_to_a_subject_of_a_caller_that_is_no_inbox(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link(config={"BUCKET": host.lattice, "STORAGE": "memory"})])
    component = await host.component()
    await component.call("set", "default", "k", b"v")
    published: list[str] = []

    async def note(message: Msg) -> None:
        published.append(message.subject)

    targets = [
        f"$JS.API.STREAM.DELETE.KV_{host.lattice}",
        f"$JS.API.STREAM.PURGE.KV_{host.lattice}",
        f"$KV.{host.lattice}.k",
        f"stolen.{host.lattice}",
        f"_INBOXES.{host.lattice}",
    ]
    for target in targets[2:]:
        await host.client.subscribe(f"{target}.>", cb=note)
        await host.client.subscribe(target, cb=note)
    subjects = [
        f"{host.lattice}.{host.provider_id}.wrpc.0.0.1.wrpc:keyvalue/store@0.2.0-draft.get",
        f"{host.subject}.health",
        f"{host.subject}.default.shutdown",
    ]
    for subject in subjects:
        for target in targets:
            payload = b'{"host_id":"%b"}' % host.host_id.encode() if subject.endswith("shutdown") else b"\1d\1k"
            headers = {"source-id": "comp", "link-name": "default"}
            await host.client.publish(subject, payload, reply=target, headers=headers)
    await host.client.flush()
    assert await component.call("get", "default", "k") == b"v"
    assert published == []
    assert host.provider.exit_code is None


async def test_no_answer_is_lost_by_a_host_that_listens_late(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link(config=CACHE)])
    component = await host.component()
    await component.call("set", "default", "k", b"v" * 100)
    # Parameters that come to no end are waited for much longer, and delay no repetition.
    old = await host.component(flavour="1.0")
    unfinished = asyncio.ensure_future(old.call("set", payload=parameters("set", "", "x", b"12345")[:-1]))
    await eventually(lambda: old.handshakes, "the handshake")
    quiet_until = time.monotonic() + 0.3  # until the provider has nothing else to wait for
    while time.monotonic() < quiet_until:
        assert await component.call("exists", "default", "k")
    component.registers_after = 0.05
    assert await component.call("get", "default", "k", timeout_seconds=2) == b"v" * 100
    chance = random.Random(16)

    async def call(number: int) -> None:
        component.registers_after = chance.expovariate(1 / 0.01)
        value = await component.call("get", "default", "k", first_bytes=chance.choice([3, 1000, 1000]))
        assert value == b"v" * 100
        assert await component.call("increment", "default", "hits", 1) > 0

    for start in range(0, CALLS // 2, 50):
        await asyncio.gather(*(call(number) for number in range(start, start + 50)))
    component.registers_after = 0
    assert await component.call("increment", "default", "hits", 0) == CALLS // 2, "each was carried out once"
    assert component.handshakes > 0
    unfinished.cancel()


async def test_overload_is_answered_at_once_and_the_limits_hold(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link(config=CACHE)], {"max_in_flight": "20"})
    component = await host.component()
    subject = f"{host.lattice}.{host.provider_id}.wrpc.0.0.1.wrpc:keyvalue/store@0.2.0-draft.set"
    headers = {"source-id": "comp", "link-name": "default"}
    for _ in range(20):  # calls whose parameters never come to their end
        await host.client.publish(subject, b"\1d\1k\x7f", reply=f"_INBOX.gone.{secrets.token_hex(4)}", headers=headers)
    error = await error_of(component, "set", "default", "k", b"v", first_bytes=5)
    assert "max_in_flight" in error.text
    assert await component.call("get", "default", "k") is None, "whole calls are served"


async def test_large_answers_that_are_wanted_at_once_cost_neither_the_host_its_connection_nor_much_memory(
    host: Wasmcloud1Host,
) -> None:
    value = bytes(range(250)) * 80_000
    provider = await host.start_provider(
        [host.link()], {"max_answer_bytes": str(len(value) + 1)}, default_rpc_timeout_ms=10_000
    )
    component = await host.component()
    await component.call("set", "default", "big", value)
    before, peak = provider.resident_bytes, 0

    async def get() -> str:
        try:
            found = await component.call("get", "default", "big", timeout_seconds=30)
        except ComponentError as error:
            return error.text
        assert found == value
        return ""

    asked = [asyncio.create_task(get()) for _ in range(6)]
    while not all(one.done() for one in asked):
        peak = max(peak, provider.resident_bytes)
        await asyncio.sleep(0.01)
    refusals = [error for one in asked if (error := one.result())]
    assert len(refusals) < len(asked)
    assert all("large values are being read" in error for error in refusals), refusals
    assert host.client.stats["reconnects"] == 0
    assert peak - before < 8 * len(value)
