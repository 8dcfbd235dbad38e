"""Remove what has expired from buckets whose server does not do it: nats-server before 2.11, or a bucket with history.

Reads never show an expired value; this only gives its room back, and that of old markers. It removes what this provider
has written: a history that somebody else keeps, and what they have deleted, are theirs.
"""

from __future__ import annotations

from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.entries import MARKER_TTL_SECONDS, OPERATION_ID, is_live
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.nats.frames import header_value
from provider.nats.headers import KV_OPERATION, is_deletion
from provider.nats.jetstream import JetStream

SWEEP_SECONDS = 60.0
"""How often a bucket is looked through."""


async def sweep(jetstream: JetStream, bucket: Bucket) -> int:
    """Look through a bucket once and remove what is due; returns how much that was.

    Several providers may do it at once: a message is removed by its revision, so nothing newer is lost.
    """
    removed = 0
    async for header in scan(jetstream, bucket):
        if _is_due(header, bucket.now_ms(), has_history=bucket.traits.has_history):
            removed += await bucket.purge_up_to(header.bucket_key, header.revision)
    return removed


def _is_due(key: KeyHeader, now_ms: int, *, has_history: bool) -> bool:
    if not is_deletion(key.header):
        return not is_live(key.header, now_ms)
    is_own = header_value(key.header, OPERATION_ID) is not None
    keeps_history = has_history and header_value(key.header, KV_OPERATION) != b"PURGE"
    return is_own and not keeps_history and key.time_ms + MARKER_TTL_SECONDS * 1000 <= now_ms
