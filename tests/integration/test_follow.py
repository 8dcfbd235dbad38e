"""A follower of a bucket: every revision once and in order, whatever happens to consumer, connection and server."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from provider import errors
from provider.keyvalue.bucket.follow import Follower, GoneError, Selection, Start, Update
from provider.keyvalue.keys import RESERVED_KEY
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeServer

SECONDS = 10.0


@asynccontextmanager
async def jetstream_of(server: NatsServer) -> AsyncIterator[JetStream]:
    async with Connection(ConnectionSettings((server.url,)), "test", 5) as connection:
        yield JetStream(connection)


@asynccontextmanager
async def new_bucket(server: NatsServer, **config: Any) -> AsyncIterator[tuple[str, Client]]:
    """Create a bucket, and yield its name and a client that writes to it."""
    client = await patient_client(server.url)
    try:
        name = f"b-{uuid.uuid4().hex[:12]}"
        await StoredBucket(client, name).create(**config)
        yield name, client
    finally:
        await client.close()


def follower(
    jetstream: JetStream, bucket: str, selection: Selection, states: list[str | None] | None = None
) -> Follower:
    on_state = (lambda _: None) if states is None else states.append
    return Follower(jetstream, bucket, selection, asyncio.get_running_loop().time() + SECONDS, on_state)


async def put(client: Client, bucket: str, key: str, payload: bytes = b"v", **headers: str) -> int:
    ack = await client.jetstream().publish(f"$KV.{bucket}.{key}", payload, timeout=2, headers=headers or None)
    return ack.seq


async def patient_put(client: Client, bucket: str, key: str) -> int:
    """Put as soon as a restarted server accepts it."""

    async def is_put() -> int:
        try:
            return await put(client, bucket, key)
        except (nats.errors.Error, TimeoutError):
            return 0

    revision: int = await eventually(is_put, "a write")
    return revision


async def stored_revisions(following: Follower) -> list[Update]:
    """Return the revisions before the first `None`."""
    found = []
    async with asyncio.timeout(SECONDS):
        while (update := await following.next()) is not None:
            found.append(update)
    return found


async def next_revisions(following: Follower, count: int) -> list[Update]:
    found: list[Update] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            update = await following.next()
            found += [update] if update is not None else []
    return found


async def test_stored_revisions_come_first_and_then_new_ones(lattice_server: NatsServer) -> None:
    async with (
        new_bucket(lattice_server, max_msgs_per_subject=5) as (bucket, client),
        jetstream_of(lattice_server) as jetstream,
    ):
        for key in ("a", "b.c", "a"):
            await put(client, bucket, key)
        await put(client, bucket, RESERVED_KEY)
        await put(client, bucket, "b.c", b"", **{"KV-Operation": "DEL"})
        expected = {
            Selection(): [("a", 3), ("b.c", 5)],
            Selection(start=Start.ALL): [("a", 1), ("b.c", 2), ("a", 3), ("b.c", 5)],
            Selection(start=Start.ALL, after_revision=2): [("a", 3), ("b.c", 5)],
            Selection(start=Start.NEW): [],
            Selection("b.*", Start.ALL): [("b.c", 2), ("b.c", 5)],
            Selection("none"): [],
        }
        for selection, revisions in expected.items():
            async with follower(jetstream, bucket, selection) as following:
                found = await stored_revisions(following)
                assert [(update.bucket_key, update.revision) for update in found] == revisions, selection
        async with follower(jetstream, bucket, Selection(start=Start.NEW)) as following:
            await stored_revisions(following)
            revision = await put(client, bucket, "a", b"new")
            (update,) = await next_revisions(following, 1)
            assert (update.bucket_key, update.revision, update.payload) == ("a", revision, b"new")
            assert update.time_ms > 1_600_000_000_000


async def test_many_revisions_come_once_and_in_order(lattice_server: NatsServer) -> None:
    async with (
        new_bucket(lattice_server, max_msgs_per_subject=64) as (bucket, client),
        jetstream_of(lattice_server) as jetstream,
    ):
        for number in range(700):  # more than two requests' worth
            await client.publish(f"$KV.{bucket}.k{number % 20}", b"%d" % number)
        await client.flush()
        async with follower(jetstream, bucket, Selection(start=Start.ALL)) as following:
            assert [update.revision for update in await next_revisions(following, 700)] == list(range(1, 701))


@pytest.mark.parametrize("start", Start)
async def test_a_restart_of_the_server_loses_and_repeats_nothing(make_server: MakeServer, start: Start) -> None:
    server = make_server()
    server.start()
    states: list[str | None] = []
    async with new_bucket(server) as (bucket, client), jetstream_of(server) as jetstream:
        await put(client, bucket, "before")
        async with follower(jetstream, bucket, Selection(start=start), states) as following:
            assert len(await stored_revisions(following)) == (start is not Start.NEW)
            await put(client, bucket, "k1")
            assert [update.bucket_key for update in await next_revisions(following, 1)] == ["k1"]
            server.restart()
            waiting = asyncio.ensure_future(next_revisions(following, 40))
            await eventually(lambda: client.is_connected, "the writer's connection")
            for number in range(40):
                await patient_put(client, bucket, f"r{number}")
            assert [update.bucket_key for update in await waiting] == [f"r{number}" for number in range(40)]
    assert states[-1:] in ([], [None]), "a reported interruption has a reported end"


async def test_a_deleted_consumer_is_replaced_behind_the_last_revision(lattice_server: NatsServer) -> None:
    async with new_bucket(lattice_server) as (bucket, client), jetstream_of(lattice_server) as jetstream:
        async with follower(jetstream, bucket, Selection()) as following:
            await stored_revisions(following)
            for number in range(3):
                waiting = asyncio.ensure_future(next_revisions(following, 1))
                (consumer,) = await eventually(lambda: _consumers(client, bucket), "a consumer")
                await client.jetstream().delete_consumer(f"KV_{bucket}", consumer)
                revision = await put(client, bucket, "k", b"%d" % number)
                assert [update.revision for update in await waiting] == [revision]
        assert await _consumers(client, bucket) == [], "the follower deletes its consumer at the end"


async def _consumers(client: Client, bucket: str) -> list[str]:
    return [info.name for info in await client.jetstream().consumers_info(f"KV_{bucket}")]


async def _waiting_pulls(client: Client, bucket: str) -> int:
    (info,) = await client.jetstream().consumers_info(f"KV_{bucket}")
    return info.num_waiting or 0


@pytest.mark.parametrize("lost", [2, 5])
async def test_a_lost_message_is_noticed_and_delivered_in_order(lattice_server: NatsServer, lost: int) -> None:
    async with (
        new_bucket(lattice_server, max_msgs_per_subject=5) as (bucket, client),
        jetstream_of(lattice_server) as jetstream,
    ):
        following = follower(jetstream, bucket, Selection(start=Start.NEW))
        on_message, count = following._consumer._on_message, itertools.count(1)

        def lose_one(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
            if not reply or next(count) != lost:
                on_message(subject, reply, header, payload)

        following._consumer._on_message = lose_one  # type: ignore[method-assign]
        async with following:
            await stored_revisions(following)
            for _ in range(5):
                await put(client, bucket, "k")
            assert [update.revision for update in await next_revisions(following, 5)] == [1, 2, 3, 4, 5]


async def test_a_removed_bucket_and_a_recreated_one_end_the_follower(lattice_server: NatsServer) -> None:
    for is_recreated in (False, True):
        async with (
            new_bucket(lattice_server) as (bucket, client),
            jetstream_of(lattice_server) as jetstream,
            follower(jetstream, bucket, Selection()) as following,
        ):
            await stored_revisions(following)
            waiting = asyncio.ensure_future(next_revisions(following, 1))
            await eventually(lambda: _waiting_pulls(client, bucket), "an open request on the server")
            stored = StoredBucket(client, bucket)
            await stored.delete()
            if is_recreated:
                await stored.create()
            with pytest.raises(GoneError):
                async with asyncio.timeout(3):  # the server says so, so the follower does not wait for recovery
                    await waiting


async def test_a_message_that_repeats_another_is_news_only_to_a_follower_that_was_behind(
    lattice_server: NatsServer,
) -> None:
    async with new_bucket(lattice_server) as (name, client), jetstream_of(lattice_server) as jetstream:
        async with follower(jetstream, name, Selection(">", Start.LAST)) as following:
            assert await stored_revisions(following) == []
            assert await put(client, name, "a") == 1
            assert [update.revision for update in await next_revisions(following, 1)] == [1]
            await put(client, name, "a", b"v", **{"Kv-Fence": "1"})
            assert await put(client, name, "b") == 3
            assert [update.revision for update in await next_revisions(following, 1)] == [3]
        async with follower(jetstream, name, Selection(">", Start.LAST)) as following:
            assert [update.revision for update in await stored_revisions(following)] == [2, 3]


async def test_a_subject_that_is_not_utf8_is_skipped(lattice_server: NatsServer) -> None:
    async with (
        new_bucket(lattice_server) as (bucket, client),
        jetstream_of(lattice_server) as jetstream,
        follower(jetstream, bucket, Selection()) as following,
    ):
        await stored_revisions(following)
        subject = f"$KV.{bucket}.b\udce9d".encode(errors="surrogateescape")
        jetstream.connection.publish(subject, b"x")
        await jetstream.connection.flush(SECONDS)
        revision = await put(client, bucket, "k")
        assert revision == 2
        assert [update.revision for update in await next_revisions(following, 1)] == [revision]


async def test_a_server_lost_before_its_first_message_is_waited_for(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    states: list[str | None] = []
    async with new_bucket(server) as (bucket, client), jetstream_of(server) as jetstream:
        deadline = asyncio.get_running_loop().time() + 1
        async with Follower(jetstream, bucket, Selection(), deadline, states.append) as following:
            await stored_revisions(following)
            server.kill()
            waiting = asyncio.ensure_future(next_revisions(following, 1))
            await eventually(lambda: waiting.done() or states, "a report of the interruption")
            await eventually(lambda: asyncio.get_running_loop().time() > deadline, "the deadline")
            server.start()
            revision = await patient_put(client, bucket, "k")
            assert [update.revision for update in await waiting] == [revision]
    assert states[-1] is None


async def test_a_start_behind_the_last_revision_survives_a_restart(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    async with new_bucket(server) as (bucket, client), jetstream_of(server) as jetstream:
        await put(client, bucket, "k")
        async with follower(jetstream, bucket, Selection(start=Start.ALL, after_revision=3)) as following:
            await stored_revisions(following)
            waiting = asyncio.ensure_future(next_revisions(following, 1))
            server.restart()
            await eventually(lambda: following._consumer._generation > 1, "the next consumer")
            for _ in range(3):
                await patient_put(client, bucket, "k")
            assert [update.revision for update in await waiting] == [4]


async def test_a_stream_that_a_restarted_server_does_not_know_yet_is_waited_for(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    states: list[str | None] = []
    loop = asyncio.get_running_loop()
    async with (
        new_bucket(server) as (bucket, client),
        jetstream_of(server) as jetstream,
        follower(jetstream, bucket, Selection(), states) as following,
    ):
        await stored_revisions(following)
        waiting = asyncio.ensure_future(next_revisions(following, 1))
        server.stop()
        store, kept = server.folder / "store", server.folder / "kept"
        store.rename(kept)
        server.start()
        await eventually(lambda: waiting.done() or following._missing_since, "a server without the stream")
        missing_until = loop.time() + 2
        await eventually(lambda: waiting.done() or loop.time() > missing_until, "a while")
        server.stop()
        shutil.rmtree(store)
        kept.rename(store)
        server.start()
        revision = await patient_put(client, bucket, "k")
        assert [update.revision for update in await waiting] == [revision]
    assert states == ["stream not found (10059)", None]


async def test_a_missing_bucket_and_a_frozen_server_are_errors_at_the_beginning(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    async with jetstream_of(server) as jetstream:
        async with follower(jetstream, "none", Selection()) as following:
            with pytest.raises(errors.ApiError):
                await following.next()
        deadline = asyncio.get_running_loop().time() + 0.5
        async with Follower(jetstream, "none", Selection(), deadline) as following:
            server.freeze()
            with pytest.raises((errors.NatsError, TimeoutError)):
                await following.next()
            assert asyncio.get_running_loop().time() < deadline + 2
        server.thaw()
