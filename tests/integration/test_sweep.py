"""Sweeps, of a bucket with history: its server does not remove expired values, just as no server before 2.11 does."""

from __future__ import annotations

import asyncio
import json
import time

import nats

from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.entries import RESERVED_HEADER, Write
from provider.keyvalue.bucket.scan import scan
from provider.keyvalue.bucket.stream import Traits, open_stream, refresh_stream
from provider.keyvalue.bucket.sweep import sweep
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.link_config import BucketConfig
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.values import Kind, Value
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer

HOUR_MS = 3_600_000


async def test_a_sweep_removes_expired_values_and_old_markers_and_nothing_else(lattice_server: NatsServer) -> None:
    client = await nats.connect(lattice_server.url)
    await client.jetstream().create_key_value(bucket="swept", history=5)
    await client.close()
    async with Connection(ConnectionSettings((lattice_server.url,)), "test", 5) as connection:
        jetstream, tasks, clock = JetStream(connection), TaskOwner(), ServerClock()
        deadline = asyncio.get_running_loop().time() + 20
        info, level = await open_stream(jetstream, BucketConfig("swept"), deadline)
        await refresh_stream(jetstream, info.config.name, clock, deadline)
        traits = Traits.from_info(info, level)
        assert not traits.expires_by_itself
        assert not traits.sends_ttl
        bucket = Bucket(jetstream, "swept", traits, clock, tasks, lambda: None)

        async def put(key: str, expires_at_ms: int) -> None:
            value = Value(Kind.TEXT, key, expires_at_ms)
            await bucket.write(Write(key, key, value, key.encode(), b"op", None), deadline)

        now_ms = clock.now_ms()
        for number in range(300):  # more than one page
            await put(f"expired.{number}", now_ms - 1)
        await put("later", now_ms + HOUR_MS)
        await put("never", 0)
        await put("deleted", 0)
        await bucket.write(Write("deleted", "deleted", None, b"", b"op", None), deadline)
        await jetstream.publish("$KV.swept.marker", b"", RESERVED_HEADER, deadline)
        assert await sweep(jetstream, bucket) == 300
        assert await bucket.read("later", Consistency.STRONG, deadline) is not None
        assert await bucket.read("never", Consistency.STRONG, deadline) is not None
        state = json.loads(await jetstream.api("STREAM.INFO.KV_swept", None, deadline))["state"]
        clock_marker = 0 if info.server_time else 1  # where the server does not tell its time
        assert state["num_subjects"] == 4 + clock_marker
        clock.measured(now_ms + 2 * HOUR_MS, time.monotonic(), time.monotonic())
        assert await sweep(jetstream, bucket) == 2  # the marker of another client stays
        assert await bucket.read("never", Consistency.STRONG, deadline) is not None
        await tasks.close()


async def test_the_history_of_another_client_stays(lattice_server: NatsServer) -> None:
    client = await nats.connect(lattice_server.url)
    history = await client.jetstream().create_key_value(bucket="kept", history=5)
    for key in ("theirs", "ours", "expired"):
        await history.put(key, b"1")
        await history.put(key, b"2")
    await history.delete("theirs")
    await client.jetstream().publish("$KV.kept.never", b"v", headers={"Expires-At": "0"})
    async with Connection(ConnectionSettings((lattice_server.url,)), "test", 5) as connection:
        jetstream, tasks, clock = JetStream(connection), TaskOwner(), ServerClock()
        deadline = asyncio.get_running_loop().time() + 20
        info, level = await open_stream(jetstream, BucketConfig("kept"), deadline)
        bucket = Bucket(jetstream, "kept", Traits.from_info(info, level), clock, tasks, lambda: None)
        await bucket.write(Write("ours", "ours", None, b"", b"op", None, keeps_history=True), deadline)
        ended = Value(Kind.TEXT, "3", clock.now_ms() - 1)
        await bucket.write(Write("expired", "expired", ended, b"3", b"op", None), deadline)
        clock.measured(clock.now_ms() + HOUR_MS, time.monotonic(), time.monotonic())
        assert await bucket.read("expired", Consistency.STRONG, deadline) is None
        assert await bucket.read("never", Consistency.STRONG, deadline) is not None
        assert "never" in [
            header.bucket_key async for header in scan(jetstream, bucket) if header.is_live(clock.now_ms())
        ]
        assert await sweep(jetstream, bucket) == 0
        await tasks.close()
    for key in ("theirs", "ours", "expired"):
        assert [entry.value for entry in await history.history(key)][:2] == [b"1", b"2"], key
    await client.close()
