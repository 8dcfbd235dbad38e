"""Links are put, repeated, changed and deleted by each host family, without losing a call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgpack
import pytest

from tests.blackbox.host_families import HARNESS, OTP, RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.process.conftest import Hosts

OTHER_CONTRACT = "wasmcloud:example"


async def bucket_text(host: LatticeHost, bucket: str, key: str) -> str | None:
    """Read a bucket as any other NATS client does, without the provider."""
    subject = f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"
    message = await host.client.request(subject, b"", timeout=5)
    return None if (message.headers or {}).get("Status") == "404" else message.data.decode()


async def test_links_given_at_start_are_served(host: LatticeHost) -> None:
    actors = [host.actor() for _ in range(3)]
    await host.start_provider([host.link(actor, {"BUCKET": f"start_{actor[:20]}"}) for actor in actors])
    for number, actor in enumerate(actors):
        await host.set(actor, "mine", str(number))
    for number, actor in enumerate(actors):
        assert await host.get(actor, "mine") == str(number)
        assert await bucket_text(host, f"start_{actor[:20]}", "mine") == str(number)


async def test_a_link_put_later_is_served_at_once_and_others_are_not_affected(host: LatticeHost) -> None:
    first, second = host.actor(), host.actor()
    await host.start_provider([host.link(first)])
    assert "unlinked actor" in await host.error(second, "Get", "k")
    await host.put_link(host.link(second))
    await host.set(second, "k", "v")
    assert await host.get(first, "k") == "v"


async def test_the_same_put_again_changes_nothing(host: LatticeHost) -> None:
    actor = host.actor()
    link = host.link(actor, {"BUCKET": f"again_{host.who.lattice}"})
    await host.start_provider([link])
    await host.set(actor, "k", "v")
    for _ in range(5):
        await host.put_link(link)
        assert await host.get(actor, "k") == "v"
    assert host.provider.stderr.count("link_opened") == 1, host.provider.stderr


async def test_changed_values_apply_to_the_next_call(host: LatticeHost) -> None:
    actor = host.actor()
    old, new = f"old_{host.who.lattice}", f"new_{host.who.lattice}"
    await host.start_provider([host.link(actor, {"BUCKET": old})])
    await host.set(actor, "k", "in the old")
    await host.put_link(host.link(actor, {"BUCKET": new}))
    assert await host.get(actor, "k") is None
    await host.set(actor, "k", "in the new")
    assert await bucket_text(host, new, "k") == "in the new"
    assert await bucket_text(host, old, "k") == "in the old"
    await host.put_link(host.link(actor, {"BUCKET": old}))
    assert await host.get(actor, "k") == "in the old"


async def test_no_call_is_lost_while_a_link_changes(host: LatticeHost) -> None:
    actor = host.actor()
    buckets = [f"swap{number}_{host.who.lattice}" for number in range(3)]
    await host.start_provider([host.link(actor, {"BUCKET": buckets[0]})])
    is_over = asyncio.Event()

    async def caller(number: int) -> int:
        calls = 0
        while not is_over.is_set():
            await host.increment(actor, f"counter{number}")
            calls += 1
        return calls

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        callers = [group.create_task(caller(number)) for number in range(16)]
        for bucket in [*buckets[1:], *buckets]:
            await host.put_link(host.link(actor, {"BUCKET": bucket}))
            await asyncio.gather(*(host.increment(actor, "between") for _ in range(50)))
        is_over.set()
    stored = 0
    for number in range(16):
        texts = [await bucket_text(host, bucket, f"counter{number}") for bucket in buckets]
        stored += sum(int(text) for text in texts if text is not None)
    assert stored == sum(task.result() for task in callers)


async def test_a_deleted_link_is_unlinked_and_can_be_put_again(host: LatticeHost) -> None:
    actor, other = host.actor(), host.actor()
    link = host.link(actor)
    await host.start_provider([link, host.link(other)])
    await host.set(actor, "k", "v")
    await host.delete_link(link)
    assert "unlinked actor" in await host.error(actor, "Get", "k")
    assert await host.get(other, "k") == "v"
    await host.put_link(link)
    assert await host.get(actor, "k") == "v"


async def test_deleting_an_unknown_link_changes_nothing(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.delete_link(host.link(host.actor()))
    await host.delete_link(host.link(actor, contract_id=OTHER_CONTRACT))
    await host.set(actor, "k", "v")
    assert await host.get(actor, "k") == "v"


@pytest.mark.parametrize("is_deleted", [False, True], ids=["moved", "deleted"])
async def test_calls_in_flight_finish_at_the_old_server_when_a_link_moves_to_another(
    host: LatticeHost, own_nats_server: NatsServer, is_deleted: bool
) -> None:
    actor = host.actor()
    link = host.link(actor, {"URL": own_nats_server.url})
    await host.start_provider([link])
    await host.increment(actor, "warm")
    own_nats_server.freeze()
    calls = [asyncio.ensure_future(host.increment(actor, f"k{number}")) for number in range(10)]
    await asyncio.sleep(0)
    if is_deleted:
        await host.delete_link(link)
        assert "unlinked actor" in await host.error(actor, "Get", "k0")
    else:
        await host.put_link(host.link(actor))
        assert await host.get(actor, "k0") is None
    own_nats_server.thaw()
    assert await asyncio.gather(*calls) == [1] * 10
    await host.put_link(link)
    assert await host.get(actor, "k0") == "1"


async def test_calls_that_arrive_with_the_deletion_of_their_link_cause_no_internal_error(host: LatticeHost) -> None:
    actor = host.actor()
    link = host.link(actor)
    await host.start_provider([link, host.link(host.actor())])
    await host.increment(actor, "warm")
    keys = [f"k{number}" for number in range(30)]
    counts = dict.fromkeys(keys, 0)
    for turns in [*range(8)] * 6:  # the deletion arrives a little later each time
        calls = [asyncio.ensure_future(host.increment(actor, key)) for key in keys]
        for _ in range(turns):
            await asyncio.sleep(0)
        await host.delete_link(link)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for key, outcome in zip(keys, outcomes, strict=True):
            assert isinstance(outcome, int | CallFailedError), outcome
            assert "internal" not in str(outcome)
            assert "unknown" not in str(outcome)
            counts[key] += isinstance(outcome, int)
        await host.put_link(link)
    assert {key: int(await host.get(actor, key) or 0) for key in keys} == counts
    assert "Traceback" not in host.provider.stderr


async def test_the_harness_may_link_under_another_contract(hosts: Hosts) -> None:
    host = await hosts(HARNESS)
    actor = host.actor()
    await host.start_provider([host.link(actor, contract_id=OTHER_CONTRACT)])
    await host.set(actor, "k", "v")
    assert await host.get(actor, "k") == "v"


async def test_a_link_for_another_provider_or_link_name_is_ignored(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider()
    await host.put_link(host.link(actor) | {"provider_id": "V" + "A" * 55})
    await host.put_link(host.link(actor) | {"link_name": "elsewhere"})
    assert "unlinked actor" in await host.error(actor, "Get", "k")


@pytest.mark.parametrize("family", [OTP, RUST], ids=["otp", "rust"], indirect=True)
async def test_unusual_link_definitions_do_no_harm(host: LatticeHost) -> None:
    actor, odd = host.actor(), host.actor()
    await host.start_provider([host.link(actor)])
    good = host.link(odd)
    oddities: list[bytes] = [
        host.family.encode_link(good | {"values": {"BUCKET": 7}}),
        host.family.encode_link(good | {"values": {"REPLICAS": 1.5}}),
        host.family.encode_link(good | {"values": {"BUCKET": {"a": ["b"]}}}),
        host.family.encode_link(good | {"values": "text"}),
        host.family.encode_link(good | {"values": [1, 2]}),
        host.family.encode_link(good | {"actor_id": 5}),
        host.family.encode_link(good | {"actor_id": None}),
        host.family.encode_link({name: value for name, value in good.items() if name != "contract_id"}),
        msgpack.packb([good]),
        json.dumps(good).encode(),
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 5000,
    ]
    for verb in ("put", "del"):
        for payload in oddities:
            await host.client.publish(f"{host.subject}.linkdefs.{verb}", payload)
            await host.set(actor, "k", "v")
    assert await host.get(actor, "k") == "v"
    assert (await host.health()).is_healthy
    await host.put_link(good | {"values": None})
    assert await host.get(odd, "k") == "v"


async def test_unusual_links_in_host_data_are_named_or_served_and_affect_no_other(
    host: LatticeHost,
) -> None:
    actor = host.actor()
    none: list[Any] = [None, {}, host.link(host.actor()) | {"values": "text"}, "text"]
    odd = [host.link(host.actor()) | {"values": None}, host.link(host.actor()) | {"extra": [1]}]
    await host.start_provider([*none, *odd, host.link(actor)])
    for served in (actor, odd[0]["actor_id"], odd[1]["actor_id"]):
        await host.set(served, "k", "v")
        assert await host.get(served, "k") == "v"
    for number in range(len(none)):
        assert f"link definition {number}" in host.provider.stderr


@pytest.mark.parametrize(
    ("wrong", "right"),
    [({"REPLICAS": "3"}, {"REPLICAS": "1"}), ({"CREATE": "never"}, {"CREATE": "always"})],
)
async def test_a_corrected_link_is_opened_at_once_with_its_new_settings(
    host: LatticeHost, wrong: dict[str, str], right: dict[str, str]
) -> None:
    actor = host.actor()
    bucket = {"BUCKET": f"corrected_{host.who.lattice}"}
    await host.start_provider([host.link(actor, bucket | wrong)])
    assert await host.error(actor, "Set", {"key": "k", "value": "v", "expires": 0})
    assert not (await host.health()).is_healthy
    await host.put_link(host.link(actor, bucket | right))
    await host.set(actor, "k", "v")
    assert (await host.health()).is_healthy


async def test_wrong_link_values_are_answered_with_the_setting_at_fault(host: LatticeHost) -> None:
    actor, good = host.actor(), host.actor()
    await host.start_provider([host.link(actor, {"REPLICAS": "many"}), host.link(good)])
    error = await host.error(actor, "Get", "k")
    assert "REPLICAS" in error
    health = await host.health()
    assert not health.is_healthy
    assert actor in health.message
    assert "REPLICAS" in health.message
    await host.set(good, "k", "v")
    await host.put_link(host.link(actor, {"REPLICAS": "1"}))
    assert await host.get(actor, "k") == "v"
    assert (await host.health()).is_healthy
