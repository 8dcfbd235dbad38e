"""The whole interface, served by providers that each host family has started."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import msgpack
import pytest

from tests.blackbox.host_families import OTP, HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts

STEPS = [
    ("Get", "text", {"value": "", "exists": False}),
    ("Contains", "text", False),
    ("Set", {"key": "text", "value": "Ann", "expires": 0}, None),
    ("Get", "text", {"value": "Ann", "exists": True}),
    ("Contains", "text", True),
    ("Del", "text", True),
    ("Del", "text", False),
    ("Increment", {"key": "counter", "value": 5}, 5),
    ("Increment", {"key": "counter", "value": -7}, -2),
    ("Get", "counter", {"value": "-2", "exists": True}),
    ("ListAdd", {"listName": "list", "value": "a"}, 1),
    ("ListAdd", {"listName": "list", "value": "b"}, 2),
    ("ListAdd", {"listName": "list", "value": "a"}, 3),
    ("ListRange", {"listName": "list", "start": 0, "stop": -1}, ["a", "b", "a"]),
    ("ListDel", {"listName": "list", "value": "a"}, True),
    ("ListRange", {"listName": "list", "start": 0, "stop": 10}, ["b", "a"]),
    ("ListDel", {"listName": "list", "value": "missing"}, False),
    ("ListClear", "list", True),
    ("ListClear", "list", False),
    ("SetAdd", {"setName": "one", "value": "x"}, 1),
    ("SetAdd", {"setName": "one", "value": "x"}, 0),
    ("SetAdd", {"setName": "one", "value": "y"}, 1),
    ("SetAdd", {"setName": "two", "value": "y"}, 1),
    ("SetAdd", {"setName": "two", "value": "z"}, 1),
    ("SetQuery", "one", {"x", "y"}),
    ("SetUnion", ["one", "two", "missing"], {"x", "y", "z"}),
    ("SetIntersection", ["one", "two"], {"y"}),
    ("SetDel", {"setName": "one", "value": "x"}, 1),
    ("SetDel", {"setName": "one", "value": "x"}, 0),
    ("SetClear", "one", True),
    ("SetClear", "one", False),
    ("Set", {"key": "ключ/with spaces", "value": "", "expires": 3600}, None),
    ("Get", "ключ/with spaces", {"value": "", "exists": True}),
]


async def test_all_fifteen_operations_answer_as_the_interface_defines(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    assert len({operation for operation, _, _ in STEPS}) == 15
    for operation, argument, expected in STEPS:
        answer = await host.call(actor, operation, argument)
        if isinstance(expected, set):
            assert sorted(answer) == sorted(expected), (operation, argument)
        else:
            assert answer == expected, (operation, argument)


async def test_operations_without_a_result_answer_with_empty_bytes(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    argument = msgpack.packb({"key": "k", "value": "v", "expires": 0})
    response = await host.invoke(host.invocation(actor, "KeyValue.Set", argument))
    assert response.error is None
    assert response.msg == b""


async def test_a_payload_with_the_prefix_of_protocol_2_is_accepted(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    response = await host.invoke(host.invocation(actor, "KeyValue.Get", b"\xc1" + msgpack.packb("k")))
    assert msgpack.unpackb(response.msg) == {"value": "v", "exists": True}


async def test_concurrent_increments_of_a_key_answer_every_total_once(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    totals = await asyncio.gather(*(host.increment(actor, "hits") for _ in range(200)))
    assert sorted(totals) == list(range(1, 201))


async def test_two_providers_with_one_key_share_the_calls_and_a_host_stops_only_its_own(hosts: Hosts) -> None:
    key, cluster = KeyPair.generate("V"), KeyPair.generate("C")
    first = await hosts(OTP, provider_key=key, cluster=cluster)
    second = await hosts(OTP, provider_key=key, cluster=cluster, lattice=first.who.lattice)
    actor = first.actor()
    links = [first.link(actor)]
    await asyncio.gather(first.start_provider(links), second.start_provider(links))

    async def served(host: LatticeHost) -> int:
        answer = await host.statistics()
        return sum(endpoint["num_requests"] for endpoint in answer["endpoints"])

    totals: list[int] = []

    async def both_have_served() -> bool:
        totals.extend(await asyncio.gather(*(first.increment(actor, "shared") for _ in range(20))))
        return all(await asyncio.gather(served(first), served(second)))

    await eventually(both_have_served, "calls served by both instances")
    assert await served(first) + await served(second) == len(totals)
    assert sorted(totals) == list(range(1, len(totals) + 1))

    await first.shutdown()
    assert await first.provider.exited() == 0
    totals.extend(await asyncio.gather(*(second.increment(actor, "shared") for _ in range(20))))
    assert sorted(totals) == list(range(1, len(totals) + 1))
    assert second.provider.exit_code is None
    assert (await second.health()).is_healthy


@pytest.mark.parametrize("family", [OTP], ids=["otp"], indirect=True)
async def test_the_service_statistics_count_calls_and_errors_of_each_operation(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    for key in "abc":
        await host.set(actor, key, "no number")
    await host.get(actor, "a")
    await host.error(actor, "Increment", {"key": "a", "value": 1})

    statistics = await host.statistics()
    name = f"keyvalue-nats-{host.who.provider.public}"
    for verb in ("PING", "INFO", "STATS"):
        for subject in (f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{host.who.instance_id}"):
            answer = json.loads((await host.client.request(subject, b"", timeout=2)).data)
            assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
            assert (answer["name"], answer["id"]) == (name, host.who.instance_id)

    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for endpoint in statistics["endpoints"]:
        counts[endpoint["name"]] = endpoint["num_requests"]
        errors[endpoint["name"]] = endpoint["num_errors"]
        assert (endpoint["processing_time"] > 0) == (endpoint["num_requests"] > 0)
    assert len(counts) == 15 + 8, "the contract's, and those beyond it"
    assert {name: count for name, count in counts.items() if count} == {
        "KeyValue_Set": 3,
        "KeyValue_Get": 1,
        "KeyValue_Increment": 1,
    }
    assert {name: count for name, count in errors.items() if count} == {"KeyValue_Increment": 1}


@pytest.mark.parametrize("family", [OTP], ids=["otp"], indirect=True)
async def test_every_provider_answers_a_service_ping_to_all(host: LatticeHost, family: HostFamily) -> None:
    await host.start_provider()
    await host.statistics()
    inbox = host.client.new_inbox()
    subscription = await host.client.subscribe(inbox)
    await host.client.publish("$SRV.PING", b"", reply=inbox)

    async def has_answered() -> bool:
        message = await subscription.next_msg(timeout=5)
        return bool(json.loads(message.data)["id"] == host.who.instance_id)

    await eventually(has_answered, "the answer of this provider")
