"""The last message of a key as an entry, and the headers of a write. Pure; the form of a message is in `stored_form`."""

from __future__ import annotations

import math
from collections import OrderedDict

from msgspec import Struct

from provider.keyvalue.bucket.pages.paged_value import Head
from provider.keyvalue.bucket.reading.stored_form import KIND, OPERATION_ID, PAGED, decode_message
from provider.keyvalue.bucket.ttl import (
    EXPIRES_AT,
    EXPIRES_BY,
    NEVER,
    NO_END,
    NO_LIFETIMES,
    SERVER,
    End,
    Lifetimes,
)
from provider.keyvalue.kinds import NEVER_MS, Kind, Value
from provider.nats.frames import header_block
from provider.nats.headers import KV_OPERATION, MARKER_REASON, MAX_AGE, ROLLUP, TTL

FENCE = b"Kv-Fence"
"""The revision of the message that this one repeats, so that a paused writer cannot commit; 0: it stands where there was
none."""

EXPECTED_REVISION = b"Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = b"Nats-Expected-Last-Subject-Sequence-Subject"
"""Subject that the expected revision is of, if not the one that is written to. Since nats-server 2.11."""
MESSAGE_ID = b"Nats-Msg-Id"

_CACHED_ENTRIES = 1024
"""Entries that an `EntryCache` keeps for the next change of their key. Keys that are changed again and again, such as counters, are few."""

_ROLL_UP = (ROLLUP, b"sub")
"""The header by which a message removes the earlier ones of its key. A bucket without history does that by itself."""


class Entry(Struct, eq=False):
    """The last message of a key, decoded.

    Attributes:
        revision: The message's sequence in the stream; 0: there is no message.
        value: The value; `None` if there is no message, or if it is a marker. The data of a paged one is its `Head`.
        operation_id: Id of the attempt that wrote the message; b"" if it was another client.
        size: Size of the payload in bytes.
        is_checked: Whether this is the last message for sure. If not, it is only good as the base of a compare-and-set.
        end: The end of the message. The value has the time of its own end, too.
    """

    revision: int
    value: Value | None
    operation_id: bytes = b""
    size: int = 0
    end: End = NO_END
    is_checked: bool = True

    def is_expired(self, now_ms: int) -> bool:
        return self.value is not None and self.value.is_expired(now_ms)


NO_ENTRY = Entry(0, None)
"""The base of a change that replaces the entry without having read it."""


class Write(Struct, frozen=True):
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
        tells_ttl: Whether to tell the server the end of the value; see `may_tell_ttl`.
        is_expiry: Whether a marker replaces an expired value.
        is_fence: Whether a marker stands where there was no message, so that a later write can expect its revision.
    """

    bucket_key: str
    key: str
    value: Value | None
    payload: bytes
    operation_id: bytes
    expected_revision: int | None
    keeps_history: bool = False
    message_id: bytes = b""
    tells_ttl: bool = False
    is_expiry: bool = False
    is_fence: bool = False


def decode_entry(
    revision: int, header: bytes, payload: bytes, lifetimes: Lifetimes = NO_LIFETIMES, time_ms: int = 0
) -> Entry:
    """Decode a stored message; see `stored_form.decode_message`."""
    revision, value, operation_id, end = decode_message(revision, header, payload, lifetimes, time_ms)
    return Entry(revision, value, operation_id, len(payload) if value is not None else 0, end)


def may_tell_ttl(value: Value, base: Entry) -> bool:
    """Tell whether the server may remove a value by itself at its end: nothing older can show then; see `ttl`.

    Args:
        value: The value to write.
        base: The entry that it replaces, by compare-and-set.
    """
    if value.expires_at_ms == NEVER_MS:
        return True
    return value.expires_at_ms > 0 and (
        base.revision == 0 or (base.end.is_safe and 0 < base.end.at_ms <= value.expires_at_ms)
    )


def reserved_header(*pairs: tuple[bytes, bytes], rolls_up: bool) -> bytes:
    """Encode the header block of a message under the reserved key. It is a marker, so that no listing shows it.

    Args:
        pairs: Further headers.
        rolls_up: Whether the marker has to remove the one before it.
    """
    return header_block((KV_OPERATION, b"PURGE"), *([_ROLL_UP] if rolls_up else []), *pairs)


def encode_headers(write: Write, now_ms: int, *, sends_message_id: bool = False, rolls_up: bool = False) -> bytes:
    """Encode the header block of a write. A marker has no end: it stays.

    Args:
        write: The write.
        now_ms: The time by the store's clock, for a write that tells the server its end.
        sends_message_id: Whether the stream must look for other attempts at the same change.
        rolls_up: Whether a marker that keeps no history has to remove it.
    """
    pairs = [(OPERATION_ID, write.operation_id)] if write.operation_id else []
    if sends_message_id and write.message_id:
        pairs.append((MESSAGE_ID, write.message_id))
    if write.expected_revision is not None:
        pairs.append((EXPECTED_REVISION, b"%d" % write.expected_revision))
    value = write.value
    if value is None:
        # A purge removes the earlier revisions with the marker that it writes; a plain deletion leaves them.
        pairs.append((KV_OPERATION, b"DEL" if write.keeps_history else b"PURGE"))
        if rolls_up and not write.keeps_history:
            pairs.append(_ROLL_UP)
        pairs += [(MARKER_REASON, MAX_AGE)] if write.is_expiry else [(FENCE, b"0")] if write.is_fence else []
        return header_block(*pairs)
    is_head = type(value.data) is Head
    if is_head or value.kind is not Kind.TEXT:  # a text has no header, like a value of another client
        pairs.append((KIND, PAGED if is_head else value.kind.value.encode()))
    if value.expires_at_ms > 0:
        pairs.append((EXPIRES_AT, b"%d" % value.expires_at_ms))
        if write.tells_ttl:
            remaining_seconds = max(1, math.ceil((value.expires_at_ms - now_ms) / 1000))
            pairs += [(EXPIRES_BY, SERVER), (TTL, b"%ds" % remaining_seconds)]
    elif value.expires_at_ms and write.tells_ttl:
        pairs.append((TTL, NEVER))
    return header_block(*pairs)


class EntryCache:
    """The entries last written, so that the next change of a key needs no read. Bounded by count and by bytes.

    Args:
        max_bytes: Size of all payloads together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self._bytes = 0
        self._max_bytes = max_bytes

    def take(self, bucket_key: str) -> Entry | None:
        """Remove and return an entry: planning may change its value in place."""
        entry, size = self._entries.pop(bucket_key, (None, 0))
        self._bytes -= size
        return entry

    def put(self, bucket_key: str, entry: Entry, size: int) -> None:
        if bucket_key in self._entries:
            self.take(bucket_key)
        self._entries[bucket_key] = (entry, size)
        self._bytes += size
        while len(self._entries) > _CACHED_ENTRIES or self._bytes > self._max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._bytes -= dropped

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
