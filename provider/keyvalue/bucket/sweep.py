"""The removal of expired values and old markers where the server does not do it: before 2.11, or with history.

Reads never show an expired value; a sweep only frees its room. It removes messages of providers only: the history and the
deletions of other clients stay.
"""

from __future__ import annotations

from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.entries import MARKER_TTL_SECONDS, OPERATION_ID, is_live
from provider.keyvalue.bucket.scan import KeyHeader, scan
from provider.nats.frames import header_value
from provider.nats.headers import KV_OPERATION, is_deletion
from provider.nats.jetstream import JetStream

SWEEP_SECONDS = 60.0
"""Time between two sweeps of a bucket: half the life of a marker, since each sweep reads the headers of all keys."""


async def sweep(jetstream: JetStream, bucket: Bucket) -> int:
    """Remove the expired values and old markers of a bucket; return their number.

    Several providers may sweep at once: a message is removed by its revision, so a newer one stays.
    """
    removed = 0
    async for header in scan(jetstream, bucket):
        if _is_due(header, bucket.now_ms(), has_history=bucket.traits.has_history):
            removed += await bucket.purge_up_to(header.bucket_key, header.revision)
    return removed


def _is_due(key: KeyHeader, now_ms: int, *, has_history: bool) -> bool:
    """Tell whether the last message of a key may be removed: an expired value, or an old marker of a provider."""
    if not is_deletion(key.header):
        return not is_live(key.header, now_ms)
    is_own = header_value(key.header, OPERATION_ID) is not None
    # In a bucket with history, a DEL marker leaves earlier revisions, which must not show again.
    keeps_history = has_history and header_value(key.header, KV_OPERATION) != b"PURGE"
    return is_own and not keeps_history and key.time_ms + MARKER_TTL_SECONDS * 1000 <= now_ms
