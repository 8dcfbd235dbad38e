"""The stream and the clock of a server that does not tell its time: nats-server before 2.10."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from provider import errors
from provider.keyvalue.bucket.stream import refresh_stream
from provider.keyvalue.clock import ServerClock
from provider.nats.buckets import NO_SPACE
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream, StoredMessage, StreamConfig, StreamInfo, StreamState

HOUR_MS = 3_600_000


class TimelessServer(JetStream):
    """A server whose clock is an hour ahead, with a bucket that is full or not."""

    def __init__(self, *, is_full: bool) -> None:
        super().__init__(cast(Connection, None))
        self._is_full = is_full

    async def stream_info(self, stream: str, deadline: float) -> StreamInfo:
        return StreamInfo(StreamConfig(stream), StreamState(), "2026-01-01T00:00:00Z")

    async def publish(self, subject: str, payload: bytes, header: bytes, deadline: float) -> int:
        if self._is_full:
            raise errors.ApiError(400, max(NO_SPACE), "maximum bytes exceeded")
        return 1

    async def last_message(self, stream: str, subject: str, deadline: float) -> StoredMessage | None:
        return StoredMessage(subject, 1, time.time_ns() // 1_000_000 + HOUR_MS, b"", b"")


async def difference_ms(server: JetStream) -> int:
    clock = ServerClock()
    info = await refresh_stream(server, "KV_b", clock, asyncio.get_running_loop().time() + 1)
    assert info.config.name == "KV_b"
    return clock.now_ms() - time.time_ns() // 1_000_000


async def test_the_time_is_read_from_a_message_written_for_it() -> None:
    assert abs(await difference_ms(TimelessServer(is_full=False)) - HOUR_MS) < 1000


async def test_a_full_bucket_is_refreshed_without_the_time() -> None:
    assert abs(await difference_ms(TimelessServer(is_full=True))) < 1000
