"""Tolerance: messages of other senders that differ, and lattices without optional parts."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import msgpack
import nats.errors
import pytest

from tests.blackbox.host_families import FAMILIES, HARNESS, OTP, RUST, HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.link_records import LatticeData
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts

GET = msgpack.packb("k")
FOUND = {"value": "v", "exists": True}


async def linked(host: LatticeHost) -> str:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    return actor


async def answer(host: LatticeHost, invocation: dict[str, Any], packed: bytes, headers: Any = None) -> Any:
    reply = await host.client.request(host.subject, packed, timeout=2, headers=headers)
    response = await host.read(reply.data, invocation["id"])
    assert response.error is None, response.error
    return msgpack.unpackb(response.msg)


async def test_a_payload_may_be_encoded_as_a_text_or_as_an_array(host: LatticeHost) -> None:
    actor = await linked(host)
    invocation = host.invocation(actor, "KeyValue.Get", GET)
    as_text = msgpack.packb(
        invocation | {"msg": GET.decode("utf-8", "surrogateescape")}, unicode_errors="surrogateescape"
    )
    assert await answer(host, invocation, as_text) == FOUND
    invocation = host.invocation(actor, "KeyValue.Get", GET)
    assert await answer(host, invocation, msgpack.packb(invocation | {"msg": list(GET)})) == FOUND


async def test_fields_may_come_in_any_order_with_unknown_ones_among_them(host: LatticeHost) -> None:
    actor = await linked(host)
    invocation = host.invocation(actor, "KeyValue.Get", GET)
    shuffled = {"zzz": {"deep": [1, None]}, **dict(sorted(invocation.items(), reverse=True)), "more": b"\xff"}
    assert await answer(host, invocation, msgpack.packb(shuffled)) == FOUND


@pytest.mark.parametrize("absent", ["content_length", "traceContext"])
@pytest.mark.parametrize("is_null", [True, False], ids=["null", "absent"])
async def test_optional_fields_may_be_null_or_absent(host: LatticeHost, absent: str, is_null: bool) -> None:
    actor = await linked(host)
    invocation = host.invocation(actor, "KeyValue.Get", GET)
    invocation.pop(absent, None)
    if is_null:
        invocation[absent] = None
    assert await answer(host, invocation, msgpack.packb(invocation)) == FOUND


async def test_messages_may_carry_headers(host: LatticeHost) -> None:
    actor = await linked(host)
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "X": ""}
    invocation = host.invocation(actor, "KeyValue.Get", GET)
    assert await answer(host, invocation, msgpack.packb(invocation), headers) == FOUND
    other = host.actor()
    link = host.family.encode_link(host.link(other))
    await host.client.publish(f"{host.subject}.linkdefs.put", link, headers=headers)
    assert await host.get(other, "k") == "v"
    reply = await host.client.request(f"{host.subject}.health", host.family.health_payload, timeout=2, headers=headers)
    assert host.family.read_health(reply.data).is_healthy
    request = json.dumps({"host_id": host.family.shutdown_host_id(host.who)}).encode()
    await host.client.request(f"{host.subject}.shutdown", request, timeout=2, headers=headers)
    assert await host.provider.exited() == 0


async def test_an_invocation_without_a_reply_subject_does_no_harm(host: LatticeHost) -> None:
    actor = await linked(host)
    for argument in (msgpack.packb({"key": "k2", "value": 1}), b"", b"\xc1"):
        invocation = host.invocation(actor, "KeyValue.Increment", argument)
        await host.client.publish(host.subject, msgpack.packb(invocation))
    assert await host.get(actor, "k") == "v"
    assert "Traceback" not in host.provider.stderr


async def test_an_actor_may_be_linked_under_two_contracts_with_a_bucket_each(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    links = [
        host.link(actor, {"BUCKET": f"first_{host.who.lattice}"}),
        host.link(actor, {"BUCKET": f"second_{host.who.lattice}"}, "wasmcloud:example"),
    ]
    await host.start_provider(links)
    await host.set(actor, "k", "in the first")

    async def state() -> dict[str, Any] | None:
        """Return the state of the second bucket, which may be created later than the first."""
        info = await host.client.request(f"$JS.API.STREAM.INFO.KV_second_{host.who.lattice}", b"", timeout=5)
        found: dict[str, Any] | None = json.loads(info.data).get("state")
        return found

    assert (await eventually(state, "the second bucket"))["messages"] == 0
    await host.delete_link(links[1])
    assert await host.get(actor, "k") == "in the first"


async def test_two_link_names_of_a_provider_are_two_processes_that_share_only_the_key(hosts: Hosts) -> None:
    key, cluster = KeyPair.generate("V"), KeyPair.generate("C")
    first = await hosts(OTP, provider_key=key, cluster=cluster)
    second = await hosts(OTP, provider_key=key, cluster=cluster, lattice=first.who.lattice, link_name="second")
    actor = first.actor()
    await first.start_provider([first.link(actor)])
    await second.start_provider([second.link(actor)])
    await first.set(actor, "k", "first")
    assert await second.get(actor, "k") is None
    await first.shutdown()
    assert await first.provider.exited() == 0
    await second.set(actor, "k", "second")
    assert second.provider.exit_code is None


@pytest.mark.parametrize("family", [RUST, HARNESS], ids=["rust", "harness"], indirect=True)
async def test_the_line_may_end_with_standard_input_instead_of_a_line_end(host: LatticeHost) -> None:
    actor = host.actor()
    host.launch(host.family.encode_line(host.host_data([host.link(actor)])).rstrip())
    await host.ready()
    await host.set(actor, "k", "v")


async def test_a_lattice_without_jetstream_serves_links_to_a_store_elsewhere(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with NatsServer(tmp_path / "bare", has_jetstream=False) as bare:
        async with LatticeHost(OTP, bare.url, tmp_path) as host:
            actor, homeless = host.actor(), host.actor()
            link = host.link(actor, {"URL": nats_server.url})
            await host.start_provider([link, host.link(homeless)], default_rpc_timeout_ms=800)
            await host.set(actor, "k", "v")
            assert await host.get(actor, "k") == "v"
            error = await host.error(homeless, "Get", "k")
            assert "JetStream" in error
            health = await host.health()
            assert not health.is_healthy
            assert homeless in health.message
            for _ in range(64):
                await host.call(actor, "ListAdd", {"listName": "long", "value": "x" * 15_000})
            error = await host.error(actor, "ListRange", {"listName": "long", "start": 0, "stop": -1})
            assert "object store of the lattice" in error
            await host.shutdown()
            assert await host.provider.exited() == 0


@pytest.mark.parametrize("family", [OTP], ids=["otp"], indirect=True)
async def test_links_stay_when_the_lattice_s_bucket_of_records_is_deleted(host: LatticeHost) -> None:
    actor = host.actor()
    data = LatticeData(host.client, host.who.lattice)
    await data.create()
    await data.put(host.link(actor))
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    await host.client.request(f"$JS.API.STREAM.DELETE.KV_LATTICEDATA_{host.who.lattice}", b"", timeout=5)
    assert await host.get(actor, "k") == "v"
    other = host.actor()
    await data.create()
    await data.put(host.link(other))

    async def is_linked() -> bool:
        response = await host.invoke(host.invocation(other, "KeyValue.Get", GET))
        return response.error is None

    await eventually(is_linked, "the link of the record in the new bucket")
    assert await host.get(actor, "k") == "v"


async def test_a_bucket_that_is_deleted_while_in_use_is_created_again(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    await host.start_provider([host.link(actor)], default_rpc_timeout_ms=600)
    await host.set(actor, "k", "v")
    await host.client.request(f"$JS.API.STREAM.DELETE.KV_{host.default_bucket}", b"", timeout=5)

    async def is_served() -> bool:
        invocation = host.invocation(actor, "KeyValue.Set", msgpack.packb({"key": "k", "value": "w", "expires": 0}))
        return (await host.invoke(invocation)).error is None

    await eventually(is_served, "a call served again", 15)
    assert await host.get(actor, "k") == "w"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_a_signal_ends_a_provider_that_still_looks_for_its_lattice(
    hosts: Hosts, family: HostFamily, tmp_path: Path
) -> None:
    with NatsServer(tmp_path / "deaf", has_jetstream=False) as deaf:
        deaf.freeze()
        host = await hosts(family)
        data = host.host_data([], lattice_rpc_url=deaf.url)
        provider = host.launch(family.encode_line(data))
        connections = Path(f"/proc/{provider.pid}/net/tcp")
        port = f":{deaf.port:04X} "

        def has_begun() -> bool:
            return any(f" 0100007F{port}01" in line for line in connections.read_text().splitlines())

        await eventually(has_begun, "a connection to the frozen server")
        provider.signal(signal.SIGTERM)
        assert await provider.exited() == 0
        assert "Traceback" not in provider.stderr


async def test_there_is_no_responder_after_the_provider_has_ended(host: LatticeHost) -> None:
    actor = await linked(host)
    await host.shutdown()
    await host.provider.exited()
    with pytest.raises(nats.errors.NoRespondersError):
        await host.get(actor, "k")
    with pytest.raises(nats.errors.NoRespondersError):
        await host.health()
