"""A value <-> the payload and the headers of a message in a bucket. Pure.

The payload is the text that a person expects `nats kv get` to show: a text as it is, a counter as decimal text, a list or a
set as a JSON array. The kind is in a header, so a text that looks like JSON stays a text, and a value that another client
wrote without headers reads as a text.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from provider.keyvalue.payloads import decode_payload
from provider.keyvalue.values import Kind, Value
from provider.nats.frames import header_block, header_reader, header_value
from provider.nats.headers import DELETIONS, KV_OPERATION, MARKER_REASON, ROLLUP, is_deletion

KIND = b"Kv-Kind"
EXPIRES_AT = b"Expires-At"
OPERATION_ID = b"Op-Id"
TTL = b"Nats-TTL"
SEQUENCE = b"Nats-Sequence"
EXPECTED_REVISION = b"Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = b"Nats-Expected-Last-Subject-Sequence-Subject"
"""Subject that the expected revision is of, if not the one that is written to. Since nats-server 2.11."""
MESSAGE_ID = b"Nats-Msg-Id"

MARKER_TTL_SECONDS = 120
"""Life of the marker of a deleted key: long enough for watchers that were away for a moment. Where the server knows no TTLs,
the sweep removes markers of this age."""

RESERVED_HEADER = header_block((KV_OPERATION, b"PURGE"), (ROLLUP, b"sub"))
"""Headers of the message under the reserved key. It is a marker, so that no listing shows it."""

_read_headers = header_reader(OPERATION_ID, KV_OPERATION, MARKER_REASON, KIND, EXPIRES_AT, SEQUENCE)
_TIME_MS = re.compile(rb"[0-9]{1,13}\Z")
"""A time up to the year 2286: the seconds until then are within the range that a server accepts as a TTL."""
_KINDS = {kind.value.encode(): kind for kind in Kind}


class Entry:
    """The last message of a key, decoded.

    Attributes:
        revision: The message's sequence in the stream; 0: there is no message.
        value: The value; `None` if there is no message, or if it is a marker.
        operation_id: Id of the attempt that wrote the message; b"" if it was another client.
        size: Size of the payload in bytes.
        is_checked: Whether this is the last message for sure. If not, it is only good as the base of a compare-and-set.
    """

    __slots__ = ("is_checked", "operation_id", "revision", "size", "value")

    def __init__(self, revision: int, value: Value | None, operation_id: bytes = b"", size: int = 0) -> None:
        self.revision = revision
        self.value = value
        self.operation_id = operation_id
        self.size = size
        self.is_checked = True

    def is_expired(self, now_ms: int) -> bool:
        return self.value is not None and self.value.is_expired(now_ms)


NO_ENTRY = Entry(0, None)
"""The base of a change that replaces the entry without having read it."""


class Write(NamedTuple):
    """One write of one key.

    Attributes:
        bucket_key: The key as stored.
        key: The caller's key, for errors.
        value: The value to write; `None`: a marker that deletes.
        payload: The value encoded.
        operation_id: Id of this attempt, stored with the value so that a later read recognises it.
        expected_revision: Condition of the write: the key's last revision, 0 for a key without a message. `None`: no condition.
        keeps_history: Whether a marker leaves the earlier revisions, in a bucket with history.
        message_id: Id that all attempts at the same change have in common: the stream takes only one of them.
    """

    bucket_key: str
    key: str
    value: Value | None
    payload: bytes
    operation_id: bytes
    expected_revision: int | None
    keeps_history: bool = False
    message_id: bytes = b""


def decode_entry(revision: int, header: bytes, payload: bytes) -> Entry:
    """Decode a stored message. A message that no provider of this version could have written is a binary value.

    Args:
        revision: The message's sequence; 0 if it is in the header block, as in the reply to a direct get.
        header: The header block; b"" for a message without headers.
        payload: The body.
    """
    found = _read_headers(header)
    revision = revision or int(found.pop(SEQUENCE, 0))
    operation_id = found.pop(OPERATION_ID, b"")
    # A marker: of a deletion, or of the server for an expired value.
    if found and (found.get(KV_OPERATION) in DELETIONS or MARKER_REASON in found):
        return Entry(revision, None, operation_id)
    # A kind of a later version, or a payload that is not of its kind, was written by another program.
    kind = _KINDS.get(found.get(KIND, b"text"), Kind.BINARY) if found else Kind.TEXT
    data = decode_payload(kind, payload)
    if data is None:
        kind, data = Kind.BINARY, payload
    expires_at = found.get(EXPIRES_AT) if found else None
    expires_at_ms = _time_ms(expires_at) if expires_at is not None else 0
    if expires_at_ms is None:  # so was an end in another form
        kind, data, expires_at_ms = Kind.BINARY, payload, 0
    return Entry(revision, Value(kind, data, expires_at_ms), operation_id, len(payload))


def is_live(header: bytes, now_ms: int) -> bool:
    """Tell from a message's headers whether it has a value that can be read: it is neither a marker nor expired."""
    expires_at = header_value(header, EXPIRES_AT)
    is_expired = expires_at is not None and 0 < (_time_ms(expires_at) or 0) <= now_ms
    return not is_expired and not is_deletion(header)


def _time_ms(expires_at: bytes) -> int | None:
    """Return the time in an `Expires-At` header: 0 for never, `None` if no provider could have written the header."""
    return int(expires_at) if _TIME_MS.match(expires_at) else None


def encode_headers(write: Write, now_ms: int, *, sends_ttl: bool, sends_message_id: bool = False) -> bytes:
    """Encode the header block of a write.

    Args:
        write: The write.
        now_ms: The time by the store's clock.
        sends_ttl: Whether to tell the server when the message ends. A server without TTLs ignores the header, but honours it
            once it is upgraded; a bucket with history, or without TTLs on a newer server, must not get it.
        sends_message_id: Whether the stream must look for other attempts at the same change.
    """
    pairs = [(OPERATION_ID, write.operation_id)]
    if sends_message_id and write.message_id:
        pairs.append((MESSAGE_ID, write.message_id))
    if write.expected_revision is not None:
        pairs.append((EXPECTED_REVISION, b"%d" % write.expected_revision))
    value = write.value
    if value is None:
        # A purge removes the earlier revisions with the marker that it writes; a plain deletion leaves them.
        pairs += [(KV_OPERATION, b"DEL")] if write.keeps_history else [(KV_OPERATION, b"PURGE"), (ROLLUP, b"sub")]
        if sends_ttl:
            pairs.append((TTL, b"%ds" % MARKER_TTL_SECONDS))
        return header_block(*pairs)
    if value.kind is not Kind.TEXT:  # a text has no header, like a value of another client
        pairs.append((KIND, value.kind.value.encode()))
    if value.expires_at_ms:
        remaining_seconds = max(1, math.ceil((value.expires_at_ms - now_ms) / 1000))
        pairs.append((EXPIRES_AT, b"%d" % value.expires_at_ms))
        if sends_ttl:
            pairs.append((TTL, b"%ds" % remaining_seconds))
    return header_block(*pairs)
