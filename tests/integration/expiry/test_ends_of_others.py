"""A time to live that another client gave is told by GetEntry and kept by every change."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from provider.nats.buckets import TTL_LEVEL
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor


async def theirs(host: LatticeHost, make_actor: MakeActor, **config: Any) -> tuple[Actor, StoredBucket]:
    """Make a bucket as another client does, and link an actor with it."""
    info = await host.client.request("$JS.API.INFO", b"")
    if b'"level"' not in info.data:
        pytest.skip(f"a server without TTLs of messages (level {TTL_LEVEL})")
    bucket = StoredBucket(host.client, f"theirs-{uuid.uuid4().hex[:8]}")
    await bucket.create(allow_msg_ttl=True, **config)
    return await make_actor(BUCKET=bucket.name), bucket


async def put(host: LatticeHost, actor: Actor, key: str, value: bytes, headers: dict[str, str] | None = None) -> None:
    answer = await host.client.request(f"$KV.{actor.bucket}.{key}", value, headers=headers)
    assert b'"error"' not in answer.data, answer.data


async def seconds_left(actor: Actor, key: str) -> int:
    found: dict[str, Any] = await actor.call("KeyValueAtomics.GetEntry", key)
    assert found["exists"]
    left: int = found["expires"]
    return left


@pytest.mark.parametrize(
    ("ttl", "least", "most"),
    [("90", 60, 90), ("90s", 60, 90), ("1m30s", 60, 90), ("1.5m", 60, 90), ("1h2m", 3_690, 3_720), ("90500ms", 60, 90)],
)
async def test_every_form_of_a_ttl_is_told_and_kept_by_every_change(
    host: LatticeHost, make_actor: MakeActor, ttl: str, least: int, most: int
) -> None:
    actor, _ = await theirs(host, make_actor)
    for key, value, kind in (("n", b"1", ""), ("l", b'["a"]', "list"), ("s", b'["a"]', "set")):
        await put(host, actor, key, value, {"Nats-TTL": ttl} | ({"Kv-Kind": kind} if kind else {}))
    assert await actor.increment("n") == 2
    assert await actor.list_add("l", "b") == 2
    assert await actor.set_add("s", "b") == 1
    for key in "nls":
        assert least < await seconds_left(actor, key) <= most, key
    assert await actor.increment("n") == 3
    assert least < await seconds_left(actor, "n") <= most
    await actor.set("n", "plain")
    assert await seconds_left(actor, "n") == 0


async def test_a_counter_of_another_client_ends_in_time_also_for_that_client(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    actor, bucket = await theirs(host, make_actor)
    await put(host, actor, "n", b"1", {"Nats-TTL": "2s"})
    assert await actor.increment("n") == 2

    async def is_gone() -> bool:
        return not await bucket.payload("n")

    await eventually(is_gone, "the end for other clients", 15)
    assert await actor.get("n") is None
    assert await actor.increment("n") == 1


async def test_a_value_that_outlives_the_maximum_age_goes_on_doing_so_when_it_is_changed(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    actor, bucket = await theirs(host, make_actor, max_age=3 * 10**9, duplicate_window=10**9)
    await put(host, actor, "kept", b"1", {"Nats-TTL": "never"})
    assert await seconds_left(actor, "kept") == 0
    assert await actor.increment("kept") == 2
    assert await actor.increment("kept") == 3
    await put(host, actor, "witness", b"1")
    assert 0 < await seconds_left(actor, "witness") <= 3

    async def is_gone() -> bool:
        return not await bucket.payload("witness")

    await eventually(is_gone, "the maximum age", 15)
    assert await actor.get("kept") == "3"
    assert await seconds_left(actor, "kept") == 0


async def test_of_its_own_end_and_the_maximum_age_the_earlier_is_told(host: LatticeHost, make_actor: MakeActor) -> None:
    actor, _ = await theirs(host, make_actor, max_age=60 * 10**9)
    await actor.set("short", "v", 20)
    await actor.set("long", "v", 600)
    await put(host, actor, "theirs", b"v", {"Nats-TTL": "2h"})
    assert 0 < await seconds_left(actor, "short") <= 20
    assert 20 < await seconds_left(actor, "long") <= 60
    assert 20 < await seconds_left(actor, "theirs") <= 60
