"""Sweeps: expired values that the server may not remove become markers, which stay; nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import nats
import pytest

from contracts import extensions
from contracts import keyvalue as kv
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.scan import scan
from provider.keyvalue.bucket.stream import Traits, open_stream, refresh_stream
from provider.keyvalue.bucket.sweep import Sweeper
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.link_config import BucketConfig
from provider.keyvalue.link_values import Consistency
from provider.nats.buckets import TTL_LEVEL
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream, StoredMessage
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer

HOUR_MS = 3_600_000


class Swept(NamedTuple):
    """A bucket, its engine and its sweeper, and the clock that both go by."""

    jetstream: JetStream
    bucket: Bucket
    engine: Engine
    sweeper: Sweeper
    clock: ServerClock
    level: int

    async def set(self, key: str, value: str, expires: int) -> None:
        await self.engine.change(kv.Set(key, value, expires), key, deadline())

    async def message(self, key: str) -> StoredMessage | None:
        return await self.jetstream.last_message(self.bucket.stream, f"$KV.{self.bucket.name}.{key}", deadline())

    async def live_keys(self) -> list[str]:
        now_ms = self.clock.now_ms()
        return [head.bucket_key async for head in scan(self.jetstream, self.bucket) if head.is_live(now_ms)]

    async def sweep(self, after_ms: int = 0) -> int:
        """Sweep, with the clock a while ahead; return the number of new markers."""
        if after_ms:
            self.clock.measured(self.clock.now_ms() + after_ms, time.monotonic(), time.monotonic())
        await self.sweeper.scan()
        marked = 0
        while more := await self.sweeper.mark_due():
            marked += more
        return marked


def deadline() -> float:
    return asyncio.get_running_loop().time() + 20


@contextlib.asynccontextmanager
async def opened(server: NatsServer, name: str, **config: Any) -> AsyncIterator[Swept]:
    """Make a bucket, unless it exists, and open it as one process does."""
    async with Connection(ConnectionSettings((server.url,)), "test", 5) as connection:
        jetstream, tasks, clock = JetStream(connection), TaskOwner(), ServerClock()
        if config:
            stream: dict[str, Any] = {"name": f"KV_{name}", "subjects": [f"$KV.{name}.>"], "max_msgs_per_subject": 1}
            stream |= {"allow_direct": True, "allow_rollup_hdrs": True, "discard": "new"}
            await jetstream.create_stream(stream | config, deadline())
        info, level = await open_stream(jetstream, BucketConfig(name), deadline())
        await refresh_stream(jetstream, info.config.name, clock, deadline())
        bucket = Bucket(jetstream, name, Traits.from_info(info, level), clock, tasks, lambda: None)
        engine = Engine(bucket, tasks, bucket.paging.writer)
        yield Swept(jetstream, bucket, engine, Sweeper(jetstream, bucket), clock, level)
        engine.close()
        await tasks.close()


async def test_an_expired_value_over_a_lasting_one_becomes_a_marker_that_stays(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "lasting") as it:
        for number in range(300):  # more than one page of a scan
            await it.set(f"ended.{number}", "for good", 0)
            await it.set(f"ended.{number}", "for now", 1)
        await it.set("later", "v", 0)
        await it.set("later", "v", 100_000)
        await it.set("never", "v", 0)
        stood = await it.message("ended.7")
        assert stood is not None
        assert b"Nats-TTL" not in stood.header
        assert await it.sweep() == 0
        assert await it.sweep(2_000) == 300
        marker = await it.message("ended.7")
        assert marker is not None
        assert b"KV-Operation: PURGE" in marker.header
        assert b"Nats-Marker-Reason: MaxAge" in marker.header
        assert b"Nats-TTL" not in marker.header
        assert await it.bucket.read("ended.7", Consistency.STRONG, deadline()) is None
        assert sorted(await it.live_keys()) == ["later", "never"]
        assert await it.sweep(HOUR_MS) == 0, "a marker stays"


async def test_the_first_value_of_a_key_and_those_that_end_no_earlier_are_left_to_the_server(
    lattice_server: NatsServer,
) -> None:
    async with opened(lattice_server, "left") as it:
        if it.level < TTL_LEVEL:
            pytest.skip("a server without TTLs of messages")
        await it.set("session", "1", 100)
        await it.engine.change(kv.Increment("session", 1), "session", deadline())
        await it.set("session", "3", 200)
        message = await it.message("session")
        assert message is not None
        assert b"Nats-TTL" in message.header
        assert b"Expires-By: server" in message.header
        assert await it.sweep() == 0
        await it.set("session", "4", 100)
        message = await it.message("session")
        assert message is not None
        assert b"Nats-TTL" not in message.header, "the value that it replaces ends later"
        assert await it.sweep(150_000) == 1


@pytest.mark.parametrize("lasting", ["marker", "value"])
async def test_a_conditional_write_keeps_the_rule_too(lattice_server: NatsServer, lasting: str) -> None:
    async with opened(lattice_server, f"locks-{lasting}") as it:
        await it.set("lock", "v", 0)
        revision = 1
        if lasting == "marker":
            await it.engine.change(kv.Del("lock"), "lock", deadline())
            revision = 0
        swap = extensions.CompareAndSwap("lock", "mine", 5, revision)
        assert (await it.engine.change(swap, "lock", deadline())).success
        message = await it.message("lock")
        assert message is not None
        assert b"Nats-TTL" not in message.header
        assert await it.sweep(10_000) == 1


async def test_a_value_that_another_process_has_left_is_found_by_a_scan(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "orphans") as writer:
        await writer.set("a", "v", 0)
        await writer.set("a", "v", 1)
    async with opened(lattice_server, "orphans") as it:
        assert await it.sweep(2_000) == 0, "its writer is given a minute"
        assert await it.sweep(60_000) == 1
        assert await it.live_keys() == []


async def test_a_scan_reads_only_what_was_written_since_the_last_one(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "since") as it, opened(lattice_server, "since") as other:
        await other.set("a", "v", 0)
        await it.sweep()
        assert it.bucket.expirations.scanned == 1
        await other.set("a", "v", 1)
        await other.set("a", "v", 0)
        await other.set("b", "v", 0)
        await other.set("b", "v", 1)
        await it.sweep()
        assert it.bucket.expirations.scanned == 5
        assert not it.bucket.expirations.has("a")
        assert await it.sweep(62_000) == 1


async def test_values_from_before_ttls_were_allowed_go_once_they_are(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "edited", storage="file") as it:
        await it.set("session", "secret", 6)
    async with opened(lattice_server, "edited") as it:
        if it.level < TTL_LEVEL:
            pytest.skip("a server without TTLs of messages")
        await it.sweep()
        info = msgspec.json.decode(await it.jetstream.api("STREAM.INFO.KV_edited", None, deadline()))
        await it.jetstream.api("STREAM.UPDATE.KV_edited", info["config"] | {"allow_msg_ttl": True}, deadline())
        found = await refresh_stream(it.jetstream, it.bucket.stream, it.clock, deadline())
        it.bucket.traits = Traits.from_info(found, it.level)
        assert await it.sweep(70_000) == 1
        marker = await it.message("session")
        assert marker is not None
        assert marker.payload == b""


async def test_a_read_of_an_expired_value_leaves_it_to_the_next_look(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "read") as writer:
        await writer.set("a", "v", 0)
        await writer.set("a", "v", 1)
    async with opened(lattice_server, "read") as it:
        it.clock.measured(it.clock.now_ms() + 2_000, time.monotonic(), time.monotonic())
        assert await it.bucket.read("a", Consistency.STRONG, deadline()) is None
        assert await it.sweeper.mark_due() == 1


async def test_a_value_that_was_written_meanwhile_is_not_removed(lattice_server: NatsServer) -> None:
    async with opened(lattice_server, "raced") as it, opened(lattice_server, "raced") as other:
        await it.set("a", "old", 0)
        await it.set("a", "old", 1)
        await other.set("a", "new", 0)
        it.clock.measured(it.clock.now_ms() + 2_000, time.monotonic(), time.monotonic())
        assert await it.sweeper.mark_due() == 0
        assert await it.live_keys() == ["a"]


async def test_earlier_revisions_of_a_bucket_with_history_stay(lattice_server: NatsServer) -> None:
    client = await nats.connect(lattice_server.url)
    history = await client.jetstream().create_key_value(bucket="kept", history=5)
    for key in ("theirs", "expired"):
        await history.put(key, b"1")
        await history.put(key, b"2")
    await history.delete("theirs")
    await client.jetstream().publish("$KV.kept.never", b"v", headers={"Expires-At": "0"})
    async with opened(lattice_server, "kept") as it:
        await it.set("expired", "3", 1)
        assert await it.sweep(2_000) == 1
        assert await it.bucket.read("expired", Consistency.STRONG, deadline()) is None
        assert await it.live_keys() == ["never"]
        assert await it.sweep(HOUR_MS) == 0
    for key in ("theirs", "expired"):
        entries = await history.history(key)
        assert [entry.value for entry in entries][:2] == [b"1", b"2"], key
        assert entries[-1].operation == "DEL", key
    await client.close()
