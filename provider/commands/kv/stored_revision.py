"""One revision of a key with all that its message says: what it is, when it ends, who wrote it. Pure."""

from __future__ import annotations

from msgspec import Struct

from provider.keyvalue.bucket.entries import decode_entry
from provider.keyvalue.values import Kind
from provider.nats.frames import header_value
from provider.nats.headers import DELETIONS, KV_OPERATION, MARKER_REASON, ttl_seconds

PUT, DEL, PURGE = "PUT", "DEL", "PURGE"

_TTL = b"Nats-TTL"
_BINARY = "binary"


class Revision(Struct, frozen=True):
    """What a bucket has, or had, under a key.

    Attributes:
        revision: Its number.
        operation: `PUT`; `DEL` or `PURGE` for a marker.
        time_ms: When it was stored, by the server's clock, in milliseconds since 1970; 0: not known.
        payload: Its bytes; none of a marker.
        kind: `text`, `counter`, `list`, `set` or `binary`; "" of a marker.
        expires_at_ms: When it ends; 0: never.
        operation_id: By which the provider knows its own write; "" when somebody else wrote it.
        reason: Of a marker that the server wrote, e.g. `MaxAge`; else "".
    """

    bucket_key: str
    revision: int
    operation: str
    time_ms: int
    payload: bytes
    kind: str
    expires_at_ms: int
    operation_id: str
    reason: str = ""

    def is_expired(self, now_ms: int) -> bool:
        return 0 < self.expires_at_ms <= now_ms


def decode_revision(bucket_key: str, revision: int, time_ms: int, header: bytes, payload: bytes) -> Revision:
    """Decode a message of a bucket."""
    entry = decode_entry(revision, header, payload)
    value = entry.value
    kind, expires_at_ms = "", 0
    if value is not None:
        kind = _BINARY if value.kind is Kind.BINARY else value.kind.value
        expires_at_ms = value.expires_at_ms or _ttl_end_ms(header, time_ms)
    return Revision(
        bucket_key=bucket_key,
        revision=revision,
        operation=PUT if value is not None else _marker(header),
        time_ms=time_ms,
        payload=payload if value is not None else b"",
        kind=kind,
        expires_at_ms=expires_at_ms,
        operation_id=entry.operation_id.decode(errors="replace"),
        reason=(header_value(header, MARKER_REASON) or b"").decode(errors="replace"),
    )


def _marker(header: bytes) -> str:
    operation = header_value(header, KV_OPERATION)
    if operation in DELETIONS:
        return operation.decode()
    return DEL if header_value(header, MARKER_REASON) == b"Remove" else PURGE


def _ttl_end_ms(header: bytes, time_ms: int) -> int:
    """Return when a message ends that somebody else gave a time to live; 0: never."""
    seconds = ttl_seconds(header_value(header, _TTL) or b"")
    return time_ms + seconds * 1000 if seconds else 0
