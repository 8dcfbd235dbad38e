"""A call leaves nothing to the garbage collector, however it ends: its payload is free as soon as it is answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import PROJECT_FOLDER, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually
from tests.process.test_denials import FORGERIES, Forgery

PROBE = PROJECT_FOLDER / "tests" / "blackbox" / "garbage_probe.py"
CALLS = 5
LONG = "x" * 200_000
CHUNKED_BYTES = 1_000_000
ARGUMENTS = {"Set": {"key": "k", "value": LONG, "expires": 0}, "Increment": {"key": "k", "value": 1}, "Get": "k"}


class Probe:
    """A host whose provider never collects garbage."""

    def __init__(self, host: LatticeHost, output: Path) -> None:
        self.host = host
        self._output = output
        self._reports = 0

    async def garbage(self) -> list[str]:
        """Return the objects that only a collection frees, since the last time."""
        self._reports += 1
        os.kill(self.host.provider.pid, signal.SIGUSR1)

        def is_told() -> bool:
            return self._output.exists() and self._output.read_text().count("\n") >= self._reports

        await eventually(is_told, "the report about garbage")
        found: list[str] = json.loads(self._output.read_text().splitlines()[-1])
        return found


@pytest.fixture
async def probe(own_nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Probe]:
    output = tmp_path / "garbage"
    command = (sys.executable, "-P", str(PROBE), str(output))
    async with LatticeHost(RUST, own_nats_server.url, tmp_path, command=command) as host:
        yield Probe(host, output)


Call = Callable[[LatticeHost, str], Awaitable[Any]]


def operation(name: str, **argument: Any) -> Call:
    return lambda host, actor: host.error(actor, name, argument, 6)


def raw(name: str, payload: bytes) -> Call:
    return lambda host, actor: host.invoke(host.invocation(actor, name, payload))


async def without_payload(host: LatticeHost, actor: str) -> None:
    """Announce a payload in the object store that is not there."""
    invocation = host.invocation(actor, "KeyValue.Set", b"", content_length=CHUNKED_BYTES)
    await host.invoke(invocation, 6)


async def with_another_payload(host: LatticeHost, actor: str) -> None:
    """Put another payload into the object store than was signed."""
    await host.objects.create()
    invocation = host.invocation(actor, "KeyValue.Set", b"y" * CHUNKED_BYTES, msg=b"")
    await host.objects.put(invocation["id"], b"x" * CHUNKED_BYTES)
    await host.invoke(invocation, 6)


async def too_large(host: LatticeHost, actor: str) -> None:
    invocation = host.invocation(actor, "KeyValue.Set", b"", content_length=10**12)
    await host.invoke(invocation, 6)


async def overloaded_by_a_chunked_payload(host: LatticeHost, actor: str) -> None:
    await host.objects.create()
    assert "overloaded" in await host.error(actor, "Set", {"key": "k", "value": LONG * 6, "expires": 0}, 6)


async def malformed(host: LatticeHost, actor: str) -> None:
    await host.client.request(host.subject, msgpack.packb({"id": "1", "msg": LONG}), timeout=2)


REFUSALS: dict[str, tuple[dict[str, str], dict[str, Any] | None, Call]] = {
    "overload": ({}, {"max_in_flight_bytes": 1}, operation("Set", key="k", value=LONG, expires=0)),
    "overload by a payload in chunks": ({}, {"max_in_flight_bytes": 1}, overloaded_by_a_chunked_payload),
    "a link with a wrong setting": ({"BUCKET": "bad name"}, None, operation("Set", key="k", value=LONG, expires=0)),
    "a link without a server": (
        {"URL": f"nats://127.0.0.1:{free_port()}"},
        None,
        operation("Set", key="k", value=LONG, expires=0),
    ),
    "an unknown operation": ({}, None, operation("Nonsense", key="k", value=LONG)),
    "a malformed argument": ({}, None, raw("KeyValue.Set", msgpack.packb(LONG))),
    "a malformed invocation": ({}, None, malformed),
    "too many keys": ({}, {"max_keys_per_call": 1}, operation("KeyValueBatch.GetMany", keys=["a", "b", LONG])),
    "a missing payload": ({}, None, without_payload),
    "another payload": ({}, None, with_another_payload),
    "a payload that is too large": ({}, None, too_large),
    "an empty key": ({}, None, operation("Set", key="", value=LONG, expires=0)),
    "a long key": ({}, None, operation("Set", key=LONG, value="v", expires=0)),
    "an empty key to read": ({}, None, raw("KeyValue.Get", msgpack.packb(""))),
    "a large value": ({"MAX_VALUE_SIZE": "2K"}, None, operation("Set", key="k", value=LONG, expires=0)),
    "a full bucket": ({"MAX_BYTES": "2K"}, None, operation("Set", key="k", value=LONG, expires=0)),
    "a full cache": (
        {"BACKEND": "cache", "MAX_BYTES": "2K"},
        None,
        operation("Set", key="k", value=LONG, expires=0),
    ),
}
for backend in ("bucket", "cache"):
    REFUSALS |= {
        f"another kind to change, {backend}": (
            {"BACKEND": backend},
            None,
            operation("SetAdd", setName="text", value=LONG),
        ),
        f"another kind to read, {backend}": (
            {"BACKEND": backend},
            None,
            raw("KeyValue.SetQuery", msgpack.packb("text")),
        ),
        f"a counter that overflows, {backend}": (
            {"BACKEND": backend},
            None,
            operation("Increment", key="counter", value=2**31 - 1),
        ),
        f"a batch with errors, {backend}": (
            {"BACKEND": backend},
            None,
            raw("KeyValueBatch.SetMany", msgpack.packb({"items": [{"key": "", "value": LONG, "expires": 0}] * 3})),
        ),
        f"another revision, {backend}": (
            {"BACKEND": backend},
            None,
            raw("KeyValueAtomics.CompareAndSwap", msgpack.packb({"key": "text", "value": LONG, "revision": 77})),
        ),
    }


@pytest.mark.parametrize(("values", "config", "call"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_call_leaves_nothing_to_the_collector(
    probe: Probe, values: dict[str, str], config: dict[str, Any] | None, call: Call
) -> None:
    host, actor = probe.host, probe.host.actor()
    await host.start_provider([host.link(actor, values)], config)
    if config is None and "BUCKET" not in values and "URL" not in values:
        await host.set(actor, "text", "v")
        await host.call(actor, "Increment", {"key": "counter", "value": 1})
    await call(host, actor)
    await probe.garbage()
    for _ in range(CALLS):
        await call(host, actor)
    assert await probe.garbage() == []


async def test_a_denied_call_leaves_nothing_to_the_collector(probe: Probe) -> None:
    host, actor = probe.host, probe.host.actor()
    await host.start_provider([host.link(actor)])
    replayed = host.invocation(actor, "KeyValue.Get", msgpack.packb("k"))
    forgeries = [*FORGERIES, Forgery("a replay", "", lambda host, actor: replayed)]
    found = {}
    for forgery in forgeries:
        await host.invoke(forgery.make(host, actor))
        await probe.garbage()
        for _ in range(CALLS):
            assert (await host.invoke(forgery.make(host, actor))).error
        found[forgery.name] = await probe.garbage()
    assert {name: garbage for name, garbage in found.items() if garbage} == {}


@pytest.mark.parametrize("name", ["Set", "Increment", "Get"])
async def test_a_call_that_no_store_answers_in_time_leaves_nothing_to_the_collector(
    probe: Probe, tmp_path: Path, name: str
) -> None:
    host, actor = probe.host, probe.host.actor()
    with NatsServer(tmp_path / "frozen") as server:
        await host.start_provider([host.link(actor, {"URL": server.url})], default_rpc_timeout_ms=400)
        await host.set(actor, "k", "1")
        server.freeze()
        await host.error(actor, name, ARGUMENTS[name], 6)
        await probe.garbage()
        for _ in range(CALLS):
            await host.error(actor, name, ARGUMENTS[name], 6)
        assert await probe.garbage() == []
        server.thaw()


@pytest.mark.parametrize("name", ["Set", "Increment", "Get"])
async def test_a_call_that_the_server_refuses_leaves_nothing_to_the_collector(
    probe: Probe, tmp_path: Path, name: str
) -> None:
    host, actor = probe.host, probe.host.actor()
    denied = 'permissions { publish { deny: ["$KV.>", "$JS.API.DIRECT.GET.>"] } }'
    with NatsServer(
        tmp_path / "denying", f"authorization {{ users: [{{ user: u, password: p, {denied} }}] }}"
    ) as server:
        await host.start_provider([host.link(actor, {"URL": server.url, "USER": "u", "PASSWORD": "p"})])
        assert "refused" in await host.error(actor, name, ARGUMENTS[name])
        await probe.garbage()
        for _ in range(CALLS):
            await host.error(actor, name, ARGUMENTS[name])
        assert await probe.garbage() == []


async def test_served_calls_leave_nothing_to_the_collector(probe: Probe) -> None:
    """ListKeys is not among them: each of nats-py's subscriptions leaves nine small objects, and no payload."""
    host, actor = probe.host, probe.host.actor()
    await host.start_provider([host.link(actor)])
    found = []
    for number in range(2):
        await host.set(actor, "k", LONG)
        assert await host.get(actor, "k") == LONG
        for _ in range(70):
            await host.call(actor, "ListAdd", {"listName": f"list{number}", "value": LONG[:14_000]})
        assert await host.call(actor, "ListRange", {"listName": f"list{number}", "start": 0, "stop": -1}, 6)
        await asyncio.gather(*(host.increment(actor, f"c{number}") for _ in range(20)))
        found.append(await probe.garbage())
    assert found[1] == []
