"""The statistics of a provider under a host of 1.x tell of every call of its components."""

from __future__ import annotations

import time

import msgspec
import pytest

from contracts.statistics import InstanceStatistics
from tests.blackbox.wasmcloud1.component import IncompleteResultError
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import ComponentError


async def data_of(host: Wasmcloud1Host) -> InstanceStatistics:
    name = f"keyvalue-nats-{host.provider_id.replace('.', '_')}"
    answer = await host.client.request(f"$SRV.STATS.{name}", b"", timeout=2)
    return msgspec.convert(msgspec.json.decode(answer.data)["data"], InstanceStatistics)


async def test_the_calls_of_components_are_counted_by_function_and_by_outcome(host: Wasmcloud1Host) -> None:
    await host.start_provider(
        [host.link("comp", {"BUCKET": f"b-{host.lattice}"}), host.link("broken", {"REPLICAS": "many"})]
    )
    component = await host.component("comp")
    await component.call("set", "", "text", b"v")
    assert await component.call("increment", "", "hits", 5) == 5
    assert await component.call("get-many", "", ["text", "none"]) == [("text", b"v"), None]
    for caller, function, *arguments in (
        (component, "increment", "", "text", 1),
        (component, "get", "another-store", "text"),
        (await host.component("broken"), "get", "", "text"),
        (await host.component("stranger"), "get", "", "text"),
    ):
        with pytest.raises(ComponentError):
            await caller.call(function, *arguments)
    with pytest.raises(IncompleteResultError):
        await component.call("get", payload=b"\x05ab")
    data = await data_of(host)
    assert {found.operation: (found.succeeded, found.failed) for found in data.operations} == {
        "store.set": (1, {}),
        "atomics.increment": (1, {"NotANumberError": 1}),
        "batch.get-many": (1, {}),
        "store.get": (0, {"NoSuchStoreError": 1, "LinkUnavailableError": 1}),
    }
    assert data.refused == {"UnlinkedComponentError": 1, "MalformedInvocationError": 1}
    assert [(link.actor_id, link.is_healthy) for link in data.links] == [("broken", False), ("comp", True)]
    assert data.in_flight == data.in_flight_bytes == 0


async def test_no_call_is_said_to_have_taken_longer_than_its_caller_has_waited(host: Wasmcloud1Host) -> None:
    await host.start_provider([host.link("comp", {"BACKEND": "cache"})])
    component = await host.component("comp")
    began = time.monotonic()
    for _ in range(200):
        await component.call("exists", "", "k")
    waited_seconds = time.monotonic() - began
    (operation,) = (await data_of(host)).operations
    assert operation.succeeded == sum(operation.latency_counts) == 200
    assert 0 < operation.seconds < waited_seconds
