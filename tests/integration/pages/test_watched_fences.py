"""A fence repeats a message: watches take no notice, unless the actor has not taken the change that it repeats."""

from __future__ import annotations

import json

from nats.aio.client import Client

from tests.blackbox.called_actor import Called, CalledActor
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor


async def has_consumer(client: Client, bucket: str) -> bool:
    answer = await client.request(f"$JS.API.CONSUMER.NAMES.KV_{bucket}", b"", timeout=2)
    return bool(json.loads(answer.data).get("consumers"))


async def fence(client: Client, bucket: str, key: str) -> None:
    """Repeat the last message of a key, as the collector does."""
    message = await StoredBucket(client, bucket).message(key)
    assert message is not None
    headers = {"Kv-Fence": str(message.revision), "Nats-Expected-Last-Subject-Sequence": str(message.revision)}
    await client.jetstream().publish(f"$KV.{bucket}.{key}", message.payload, headers=headers)


async def test_a_change_is_delivered_once_and_never_lost_to_its_fence(host: LatticeHost, make_actor: MakeActor) -> None:
    actor = await make_actor(WATCH=">")
    await eventually(lambda: has_consumer(host.client, actor.bucket), "the watch's consumer")
    refused: list[str] = []

    async def answer(call: Called) -> str | None:
        key = call.argument["key"]
        if key != "c" or refused:
            return None
        refused.append(key)
        await fence(host.client, actor.bucket, "c")  # while the actor has not taken the change
        return "not now"

    async with CalledActor(host.client, host.who, actor.public_key, answer) as called:
        await actor.set("a", "1")
        await called.called(1)
        await fence(host.client, actor.bucket, "a")
        await actor.set("b", "2")
        await called.called(2)
        await actor.set("c", "3")
        calls = await called.called(4)
        await actor.set("d", "4")
        calls = await called.called(5)
    assert [(call.argument["key"], call.argument["value"]) for call in calls] == [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("c", "3"),
        ("d", "4"),
    ]
