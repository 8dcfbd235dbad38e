"""Remove what has expired from buckets whose server does not do it: nats-server before 2.11, or a bucket with history.

Reads never show an expired value; this only gives its room back, and that of old markers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import msgspec

from provider.keyvalue.bucket import Bucket
from provider.keyvalue.entries import EXPIRES_AT, MARKER_TTL_SECONDS
from provider.nats.entry_headers import is_deletion
from provider.nats.frames import header_value
from provider.nats.jetstream import JetStream

SWEEP_SECONDS = 60.0
"""How often a bucket is looked through."""

_BATCH = 256
_PULL_SECONDS = 2.0
_NANOSECONDS = 1_000_000_000


async def sweep(jetstream: JetStream, bucket: Bucket) -> int:
    """Look through a bucket once and remove what is due; returns how much that was.

    Several providers may do it at once: a message is removed by its revision, so nothing newer is lost.
    """
    removed = 0
    async for key, revision, time_ms, header in _heads(jetstream, bucket):
        expires_at = header_value(header, EXPIRES_AT)
        is_expired = expires_at is not None and expires_at.isdigit() and int(expires_at) <= bucket.now_ms()
        is_marker = is_deletion(header)
        if is_expired or (is_marker and time_ms + MARKER_TTL_SECONDS * 1000 <= bucket.now_ms()):
            await bucket.purge_up_to(key, revision)
            removed += 1
    return removed


async def _heads(jetstream: JetStream, bucket: Bucket) -> AsyncIterator[tuple[str, int, int, bytes]]:
    """Yield key, revision, time and headers of every message, through a short-lived consumer."""
    connection = jetstream.connection
    arrived: asyncio.Queue[tuple[bytes, bytes, bytes]] = asyncio.Queue()
    inbox = f"_INBOX.{secrets.token_hex(11)}"
    listener = await connection.listen(
        inbox, lambda subject, reply, header, _: arrived.put_nowait((subject, reply, header))
    )
    loop = asyncio.get_running_loop()
    consumer = ""
    try:
        config = {
            "deliver_policy": "last_per_subject",
            "filter_subject": f"$KV.{bucket.name}.>",
            "ack_policy": "none",
            "headers_only": True,
            "inactive_threshold": 30 * _NANOSECONDS,
        }
        request = {"stream_name": bucket.stream, "config": config}
        answer = await jetstream.api(f"CONSUMER.CREATE.{bucket.stream}", request, loop.time() + _PULL_SECONDS)
        consumer = msgspec.json.decode(answer)["name"]
        pull = f"{jetstream.api_prefix}.CONSUMER.MSG.NEXT.{bucket.stream}.{consumer}".encode()
        prefix = f"$KV.{bucket.name}."
        while True:
            connection.publish_request(pull, inbox.encode(), msgspec.json.encode({"batch": _BATCH, "no_wait": True}))
            for _ in range(_BATCH):
                async with asyncio.timeout(_PULL_SECONDS):
                    subject, reply, header = await arrived.get()
                if not reply.startswith(b"$JS.ACK."):
                    return
                revision, time_ms = _stored_at(reply)
                yield subject.decode().removeprefix(prefix), revision, time_ms, header
    finally:
        await connection.unlisten(listener, _PULL_SECONDS)
        if consumer:
            await jetstream.api(f"CONSUMER.DELETE.{bucket.stream}.{consumer}", None, loop.time() + _PULL_SECONDS)


def _stored_at(acknowledgement: bytes) -> tuple[int, int]:
    """Return the sequence and time of a message, in milliseconds, from the subject that would acknowledge it.

    Source: ADR-15; `$JS.ACK.stream.consumer.delivered.sequence.consumer_sequence.nanoseconds.pending`, with domain and
    account behind `ACK` in its longer form.
    """
    words = acknowledgement.split(b".")
    first = 2 if len(words) < 11 else 4
    return int(words[first + 3]), int(words[first + 5]) // 1_000_000
