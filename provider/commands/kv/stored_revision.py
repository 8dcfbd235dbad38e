"""One revision of a key, decoded from its message: operation, value, expiry and writer. Pure."""

from __future__ import annotations

from typing import NamedTuple

from provider.keyvalue.bucket.reading.stored_form import KIND, PAGED, decode_message
from provider.keyvalue.bucket.ttl import Lifetimes
from provider.keyvalue.kinds import Kind
from provider.nats.frames import header_value
from provider.nats.headers import DELETIONS, KV_OPERATION, MARKER_REASON

PUT, DEL, PURGE = "PUT", "DEL", "PURGE"

_BINARY = "binary"


class Revision(NamedTuple):
    """One revision of a key.

    Attributes:
        revision: Number of the revision.
        operation: `PUT`; `DEL` or `PURGE` for a marker.
        time_ms: Time of the write by the server's clock, in milliseconds since 1970; 0 if it is not known.
        payload: Bytes of the value; empty for a marker.
        kind: `text`, `counter`, `list`, `set` or `binary`, with `paged` before it if the payload is only the head of a
            value; "" for a marker.
        expires_at_ms: Time of expiry, in milliseconds since 1970; 0 means never.
        operation_id: Id by which the provider recognizes its own write; "" for another writer.
        reason: Reason of a marker that the server wrote, e.g. `MaxAge`; else "".
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


_TTL_ONLY = Lifetimes(honors_ttl=True)


def decode_revision(
    bucket_key: str,
    revision: int,
    time_ms: int,
    header: bytes,
    payload: bytes,
    lifetimes: Lifetimes = _TTL_ONLY,
) -> Revision:
    """Decode one message of a bucket with these lifetimes."""
    revision, value, operation_id, end = decode_message(revision, header, payload, lifetimes, time_ms)
    kind, expires_at_ms = "", 0
    if value is not None:
        kind = _BINARY if value.kind is Kind.BINARY else value.kind.value
        # The payload is a head, whose pages are there only as long as it is the last revision.
        if is_head(header) and type(value.data) is not bytes:
            kind = f"paged {kind}"
        expires_at_ms = min((end_ms for end_ms in (value.expires_at_ms, end.age_ms) if end_ms > 0), default=0)
    return Revision(
        bucket_key=bucket_key,
        revision=revision,
        operation=PUT if value is not None else _marker(header),
        time_ms=time_ms,
        payload=payload if value is not None else b"",
        kind=kind,
        expires_at_ms=expires_at_ms,
        operation_id=operation_id.decode(errors="replace"),
        reason=(header_value(header, MARKER_REASON) or b"").decode(errors="replace"),
    )


def is_head(header: bytes) -> bool:
    """Tell whether the headers of a message say that its payload is the head of a value with pages."""
    return header_value(header, KIND) == PAGED


def _marker(header: bytes) -> str:
    operation = header_value(header, KV_OPERATION)
    if operation in DELETIONS:
        return operation.decode()
    return DEL if header_value(header, MARKER_REASON) == b"Remove" else PURGE
