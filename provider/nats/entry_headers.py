"""The headers by which a key-value bucket marks a deleted key. Pure. Source: ADR-8."""

from __future__ import annotations

from provider.nats.frames import header_value

KV_OPERATION = b"KV-Operation"
MARKER_REASON = b"Nats-Marker-Reason"
ROLLUP = b"Nats-Rollup"

DELETIONS = frozenset({b"DEL", b"PURGE"})


def is_deletion(header: bytes) -> bool:
    """Tell whether a message of a bucket marks its key as deleted or expired."""
    return header_value(header, KV_OPERATION) in DELETIONS or header_value(header, MARKER_REASON) is not None
