"""The headers of a bucket's messages: markers of deleted and expired keys, and times to live. Pure.

Source: ADR-8, ADR-43.
"""

from __future__ import annotations

import re

from provider.nats.frames import header_value

KV_OPERATION = b"KV-Operation"
MARKER_REASON = b"Nats-Marker-Reason"
"""Reason why the server itself has written a marker: `MaxAge`, `Remove` or `Purge`."""

MAX_AGE = b"MaxAge"
"""The reason of the marker for an expired value."""

ROLLUP = b"Nats-Rollup"

TTL = b"Nats-TTL"

DELETIONS = frozenset({b"DEL", b"PURGE"})
"""Values of `KV_OPERATION` that mark a key as deleted."""

_MAX_TTL_BYTES = 32
"""Longest TTL that is read; a sensible one has half as many bytes at most."""

_UNITS = {
    b"h": 3600.0,
    b"m": 60.0,
    b"s": 1.0,
    b"ms": 1e-3,
    b"us": 1e-6,
    "µs".encode(): 1e-6,
    "μs".encode(): 1e-6,
    b"ns": 1e-9,
}
"""The units of Go's durations; a microsecond is written with either of two letters, besides the u."""

_PART = re.compile(rb"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(" + b"|".join(sorted(_UNITS, reverse=True)) + b")")


def is_deletion(header: bytes) -> bool:
    """Tell whether a bucket's message marks its key as deleted or expired."""
    return header_value(header, KV_OPERATION) in DELETIONS or header_value(header, MARKER_REASON) is not None


def ttl_seconds(ttl: bytes) -> int:
    """Return the value of a `Nats-TTL` header in whole seconds, as a server reads it; 0 if it is not valid."""
    if len(ttl) > _MAX_TTL_BYTES:
        return 0
    ttl = ttl.removeprefix(b"+")
    if ttl.isdigit():
        return int(ttl)
    parts = _PART.findall(ttl)
    if not parts or b"".join(number + unit for number, unit in parts) != ttl:
        return 0
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))
