"""A message of a bucket -> its value, from its headers and its payload. Pure.

The payload is the text that a person expects `nats kv get` to show: a text as it is, a counter as decimal text, a list or a
set as a JSON array. The kind is in a header, so a text that looks like JSON stays a text, and a value that another client
wrote without headers reads as a text.

`kv get` takes most of its time to import modules, so this one imports little; `entries` makes the headers of a write.
"""

from __future__ import annotations

from typing import Any

from provider.keyvalue.bucket.ttl import EXPIRES_AT, EXPIRES_BY, NO_END, End, Lifetimes, end_of, time_of
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import decode_payload
from provider.nats.frames import added_header, header_finder
from provider.nats.headers import DELETIONS, KV_OPERATION, MARKER_REASON, TTL
from provider.nats.times import TIME_STAMP
from provider.nats.times import time_ms as read_time_ms

KIND = b"Kv-Kind"
PAGED = b"paged"
"""The kind of a message whose payload is a head. To a provider that does not know it, such a message is a binary value."""

OPERATION_ID = b"Op-Id"
_SEQUENCE = b"Nats-Sequence"

_find_headers = header_finder(OPERATION_ID, KV_OPERATION, MARKER_REASON, KIND, EXPIRES_AT, EXPIRES_BY, TTL, _SEQUENCE)
_KINDS = {kind.value.encode(): kind for kind in Kind}


def decode_message(
    revision: int, header: bytes, payload: bytes, lifetimes: Lifetimes, time_ms: int
) -> tuple[int, Value | None, bytes, End]:
    """Decode a stored message. A message that no provider of this version could have written is a binary value.

    Args:
        revision: The message's sequence; 0 if it is in the header block, as in the reply to a direct get.
        header: The header block; b"" for a message without headers.
        payload: The body.
        lifetimes: The ends that the bucket gives. Without them, only a provider's own end counts.
        time_ms: When the message was stored; 0 if it is in the header block.

    Returns:
        The revision; the value, `None` for a marker; the id of the attempt that wrote the message, b"" for another client;
        and the end of the message.
    """
    headers = _find_headers(header)
    if not revision and headers and headers[-1][0] == _SEQUENCE:  # the server adds it behind those that were stored
        revision = int(headers.pop()[1])
    found = dict(reversed(headers))  # of a header that occurs twice the first value counts
    operation_id = found.pop(OPERATION_ID, b"")
    if not found and not lifetimes.max_age_ms:  # most values: a text without an end
        return revision, _text(payload), operation_id, NO_END
    # A marker: of a deletion, or of the server for an expired value.
    if found.get(KV_OPERATION) in DELETIONS or MARKER_REASON in found:
        return revision, None, operation_id, NO_END
    # A kind of a later version, or a payload that is not of its kind, was written by another program.
    kind = _KINDS.get(found.get(KIND, b"text"), Kind.BINARY)
    data: Any = decode_payload(kind, payload)
    if data is None:
        kind, data = Kind.BINARY, payload
    if kind is Kind.BINARY and found.get(KIND) == PAGED:
        from provider.keyvalue.bucket.pages.head import decode_head

        if (head := decode_head(payload)) is not None:
            kind, data = head.kind, head
    if not (EXPIRES_AT in found or TTL in found or lifetimes.max_age_ms):
        return revision, Value(kind, data), operation_id, NO_END
    if EXPIRES_AT in found and time_of(found[EXPIRES_AT]) is None:  # so was an end in another form
        kind, data = Kind.BINARY, payload
    if not time_ms and (EXPIRES_AT not in found or lifetimes.max_age_ms):
        time_ms = read_time_ms((added_header(header, TIME_STAMP) or b"").decode(errors="replace"))
    end = end_of(found, time_ms, lifetimes)
    return revision, Value(kind, data, end.at_ms), operation_id, end


def _text(payload: bytes) -> Value:
    try:
        return Value(Kind.TEXT, payload.decode())
    except UnicodeDecodeError:  # of another client
        return Value(Kind.BINARY, payload)
