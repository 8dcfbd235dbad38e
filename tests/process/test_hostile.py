"""Hostile neighbours that may publish to the provider, and actors with unusual arguments, cannot harm others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import pytest
import pytest_asyncio

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket

only_rust = pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)

MEGABYTE = 1024 * 1024
LONG = 800_000
REFUSED = 60
GROWTH_BYTES = 20 * MEGABYTE
CALLS = 40


@only_rust
async def test_refused_messages_are_not_kept_in_memory(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    unsigned = host.invocation(actor, "KeyValue.Get", b"x" * LONG, encoded_claims="a.b.c")
    forged = host.invocation(actor, "KeyValue.Get", b"x" * LONG, msg=b"y" * LONG)
    before = 0
    for number in range(REFUSED + 10):
        if number == 10:
            before = host.provider.resident_bytes
        for invocation in (unsigned, forged):
            assert (await host.invoke(invocation)).error
    assert host.provider.resident_bytes - before < GROWTH_BYTES


@only_rust
async def test_an_answer_never_ends_the_connection(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    calls = [asyncio.ensure_future(host.increment(actor, "k")) for _ in range(CALLS)]
    malformed = msgpack.packb({"id": "x" * (MEGABYTE - 20)})
    answer = msgpack.unpackb((await host.client.request(host.subject, malformed, timeout=2)).data)
    assert "malformed" in answer["error"]
    long_id = host.invocation(actor, "KeyValue.Get", msgpack.packb("k"), id="x" * (MEGABYTE - 2000))
    answer = msgpack.unpackb((await host.client.request(host.subject, msgpack.packb(long_id), timeout=2)).data)
    assert answer["error"]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, CALLS + 1))
    assert "nats_disconnected" not in host.provider.stderr


@only_rust
async def test_the_provider_sends_no_request_on_behalf_of_a_stranger(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    stored = StoredBucket(host.client, host.default_bucket)
    for subject in (f"$JS.API.STREAM.PURGE.KV_{host.default_bucket}", f"$KV.{host.default_bucket}.k"):
        for verb in ("", ".health", ".linkdefs.put"):
            await host.client.publish(host.subject + verb, b"junk", reply=subject)
        await host.client.publish("$SRV.PING", b"", reply=subject)
    assert await host.get(actor, "k") == "v"
    assert await stored.payload("k") == b"v"


@only_rust
@pytest.mark.parametrize("issued_at", [10**400, -(10**400), 2**63])
async def test_a_token_with_an_impossible_time_affects_no_other_call(host: LatticeHost, issued_at: int) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    odd = host.invocation(actor, "KeyValue.Get", msgpack.packb("k"), claims={"iat": issued_at})
    calls = asyncio.gather(*(host.increment(actor, "k") for _ in range(CALLS)))
    assert (await host.invoke(odd)).error
    assert sorted(await calls) == list(range(1, CALLS + 1))
    assert "Traceback" not in host.provider.stderr


@pytest_asyncio.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[LatticeHost]:
    """A host on a server with a small max_payload."""
    with NatsServer(tmp_path / "server", "max_payload: 65536") as server:
        async with LatticeHost(RUST, server.url, tmp_path / "provider") as host:
            yield host


@pytest.mark.parametrize("backend", ["bucket", "cache"])
async def test_an_answer_over_a_small_max_payload_is_an_error_with_the_limit(narrow: LatticeHost, backend: str) -> None:
    host = narrow
    actor = host.actor()
    await host.start_provider([host.link(actor, {"BACKEND": backend})])
    for number in range(3):
        for half in "ab":
            member = {"setName": f"s{number}", "value": f"{number}{half}" * 7000}
            await host.call(actor, "SetAdd", member)
    error = await host.error(actor, "SetUnion", ["s0", "s1", "s2"])
    assert "max_payload" in error
    assert "65536" in error
    assert len(await host.call(actor, "SetQuery", "s1")) == 2
    assert "nats_disconnected" not in host.provider.stderr


@only_rust
async def test_a_flood_of_messages_fills_no_disk_with_log_lines(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    before = len(host.provider.stderr)
    link = msgpack.packb({**host.link("Mx"), "values": {}})
    for number in range(2000):
        await host.client.publish(f"{host.subject}.shutdown", b'{"host_id": "x"}')
        await host.client.publish(host.subject, msgpack.packb({"id": str(number)}))
        await host.client.publish(f"{host.subject}.linkdefs.{'del' if number % 2 else 'put'}", link)
    await host.set(actor, "k", "v")

    def counted() -> bool:
        return all(f"of={event}" in host.provider.stderr for event in ("shutdown_ignored", "link_opened"))

    await eventually(counted, "the lines that count the others")
    assert len(host.provider.stderr) - before < 100_000


@only_rust
async def test_a_link_whose_texts_fill_a_message_takes_neither_health_nor_log(host: LatticeHost) -> None:
    actor, long = host.actor(), "M" + "x" * LONG
    await host.start_provider([host.link(actor)])
    before = len(host.provider.stderr)
    for link in (
        {**host.link(long), "values": {"WATCH": "a..b"}},
        {**host.link("M1"), "values": {"n" * LONG: "v"}},
        {**host.link("M2"), "values": {"BACKEND": "n" * LONG}},
        {**host.link("M3"), "values": {"BUCKET": "n" * LONG}},
        {**host.link("M4"), "values": {"URL": "n" * LONG}},
        {**host.link("M5"), "contract_id": "n" * LONG},
    ):
        await host.client.request(f"{host.subject}.linkdefs.put", msgpack.packb(link), timeout=2)
        assert not (await host.health()).is_healthy
    for other in ("M2", "M3", "M4"):
        assert await host.error(other, "Get", "k")
    await host.set(actor, "k", "v")
    assert len(host.provider.stderr) - before < 20_000
