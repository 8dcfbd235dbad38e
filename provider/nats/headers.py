"""The headers by which a key-value bucket marks a deleted key, and by which a message has an end. Pure.

Source: ADR-8, ADR-43.
"""

from __future__ import annotations

import re

from provider.nats.frames import header_value

KV_OPERATION = b"KV-Operation"
MARKER_REASON = b"Nats-Marker-Reason"
ROLLUP = b"Nats-Rollup"

DELETIONS = frozenset({b"DEL", b"PURGE"})

_MAX_TTL_BYTES = 32
_UNITS = {b"h": 3600.0, b"m": 60.0, b"s": 1.0, b"ms": 1e-3, b"us": 1e-6, b"ns": 1e-9}
_PART = re.compile(rb"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|us|ns|[hms])")


def is_deletion(header: bytes) -> bool:
    """Tell whether a message of a bucket marks its key as deleted or expired."""
    return header_value(header, KV_OPERATION) in DELETIONS or header_value(header, MARKER_REASON) is not None


def ttl_seconds(ttl: bytes) -> int:
    """Return a message's time to live in whole seconds, as a server reads it; 0: it has none, or one that is none."""
    if len(ttl) > _MAX_TTL_BYTES:
        return 0
    if ttl.isdigit():
        return int(ttl)
    parts = _PART.findall(ttl)
    if not parts or b"".join(number + unit for number, unit in parts) != ttl:
        return 0
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))
