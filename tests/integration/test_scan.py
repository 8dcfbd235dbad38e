"""Scans and listings of a bucket: beside foreign subjects, while it is written, and without their consumer."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
import pytest

from contracts.extensions import ListKeys
from provider import errors
from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.keyvalue.bucket import scan as scanning
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.keyvalue.bucket.stream import Traits, refresh_stream
from provider.keyvalue.clock import ServerClock
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.nats.raw_client import publish_raw
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor

SECONDS = 10.0
NOT_UTF8 = b"d\xe9j\xe0"


@contextlib.asynccontextmanager
async def new_bucket(server: NatsServer, **config: Any) -> AsyncIterator[tuple[JetStream, Bucket]]:
    """Create a bucket and open it."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    client = await patient_client(server.url)
    await StoredBucket(client, name).create(**config)
    await client.close()
    clock, tasks = ServerClock(), TaskOwner()
    async with Connection(ConnectionSettings((server.url,)), "test", 5) as connection:
        jetstream, deadline = JetStream(connection), asyncio.get_running_loop().time() + SECONDS
        info = await refresh_stream(jetstream, f"KV_{name}", clock, deadline)
        traits = Traits.from_info(info, await jetstream.level(deadline))
        yield jetstream, Bucket(jetstream, name, traits, clock, tasks, lambda: None)
        await tasks.close()


async def put(jetstream: JetStream, bucket: Bucket, *keys: str) -> None:
    for key in keys:
        deadline = asyncio.get_running_loop().time() + SECONDS
        await jetstream.publish(f"$KV.{bucket.name}.{key}", b"v", b"", deadline)


@pytest.mark.parametrize("history", [1, 5])
async def test_a_subject_that_is_not_utf8_is_not_a_key(lattice_server: NatsServer, history: int) -> None:
    async with new_bucket(lattice_server, max_msgs_per_subject=history) as (jetstream, bucket):
        await put(jetstream, bucket, "a")
        publish_raw(lattice_server.port, b"$KV.%b.%b" % (bucket.name.encode(), NOT_UTF8))
        await put(jetstream, bucket, "c")
        assert [header.bucket_key async for header in scan(jetstream, bucket)] == ["a", "c"]
        async with opened(jetstream, bucket.name, SECONDS) as command:
            assert [header.bucket_key async for header in _keys(command)] == ["a", "c"]


def _keys(bucket: OpenBucket) -> AsyncIterator[KeyHeader]:
    return bucket.keys(">")


async def test_a_scan_that_loses_its_consumer_is_an_error_and_no_shorter_list(lattice_server: NatsServer) -> None:
    async with new_bucket(lattice_server) as (jetstream, bucket):
        await put(jetstream, bucket, *(f"k{number}" for number in range(300)))  # more than one request's worth

        async def scan_and_delete_consumer() -> None:
            async for header in scan(jetstream, bucket):
                if header.revision == 1:
                    deadline = asyncio.get_running_loop().time() + SECONDS
                    answer = await jetstream.api(f"CONSUMER.NAMES.{bucket.stream}", None, deadline)
                    (name,) = msgspec.json.decode(answer)["consumers"]
                    await jetstream.delete_consumer(bucket.stream, name, deadline)

        with pytest.raises(errors.ApiError, match="consumer lost"):
            await scan_and_delete_consumer()


async def test_an_actor_lists_its_keys_beside_a_subject_that_is_not_utf8(
    lattice_server: NatsServer, make_actor: MakeActor
) -> None:
    actor = await make_actor()
    await actor.set("a", "v")
    publish_raw(lattice_server.port, b"$KV.%b.%b" % (actor.bucket.encode(), NOT_UTF8))
    await actor.set("c", "v")
    answer = await actor.call("KeyValueStore.ListKeys", {"prefix": "", "cursor": "", "limit": 10})
    assert answer == {"keys": ["a", "c"], "cursor": ""}


async def test_a_scan_from_a_revision_leaves_out_earlier_ones(lattice_server: NatsServer) -> None:
    async with new_bucket(lattice_server, max_msgs_per_subject=5) as (jetstream, bucket):
        await put(jetstream, bucket, "a", "b", "a", "b", "a")
        for has_earlier, expected in ((False, [("b", 4), ("a", 5)]), (True, [("a", 3), ("b", 4), ("a", 5)])):
            found = scan(jetstream, bucket, 2, has_earlier=has_earlier)
            assert [(header.bucket_key, header.revision) async for header in found] == expected


@pytest.mark.parametrize("is_deleted", [False, True], ids=["written", "deleted"])
async def test_a_key_that_is_written_while_a_page_is_read_is_listed_once(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    async with new_bucket(lattice_server) as (jetstream, bucket):
        keys = [f"k{number}" for number in range(300)]  # more than one request's worth
        await put(jetstream, bucket, *keys)
        marker = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n" if is_deleted else b""
        deadline = asyncio.get_running_loop().time() + SECONDS

        async def while_written(*asked: Any) -> AsyncGenerator[KeyHeader, None]:
            async for header in scan(*asked):
                if header.revision == 1:
                    await jetstream.publish(f"$KV.{bucket.name}.k0", b"v", marker, deadline)
                yield header

        monkeypatch.setattr(scanning, "scan", while_written)
        page = await scanning.list_keys(jetstream, bucket, ListKeys("", "", 1000), "", deadline)
        assert page.keys == keys[1:] + ([] if is_deleted else ["k0"])
