"""A scan of a bucket: the header of every key's last message, through a short-lived consumer, and pages of keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from contracts.extensions import ListKeys, ListKeysResponse
from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.failures import store_error
from provider.keyvalue.bucket.ttl import EXPIRES_AT, EXPIRES_BY, End, Lifetimes, end_of
from provider.keyvalue.byte_values import KeyPage, ListPage
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES, RESERVED_KEY, decode_key
from provider.nats.buckets import CONSUMER_NOT_FOUND, NANOSECONDS, NO_SPACE, SEALED, key_subject
from provider.nats.consumer import PullConsumer, PullOptions, Status
from provider.nats.frames import header_reader
from provider.nats.headers import DELETIONS, KV_OPERATION, MARKER_REASON, TTL
from provider.nats.jetstream import JetStream

_REQUEST_SECONDS = 2.0
"""Time limit for each step of the server: the default deadline of a whole call."""

_PULL = PullOptions(batch=256, silence_seconds=_REQUEST_SECONDS)
"""Requests that do not wait: the end of one shows that there are no more messages.

256 messages per request are so many that the requests cost little beside them.
"""

_INACTIVE_SECONDS = 30
"""When the server deletes the consumer by itself. A reader may take this long over one batch."""

_BEHIND_SECONDS = 0.002
"""Pause before a replica that lags behind is asked again: about one round trip within a cluster."""

_HEADERS_PER_PAGE = 20_000
"""Greatest number of headers read for one page of `list_keys`: half a second's work, well before a call's deadline."""

_MAX_REVISION = 2**63
"""A cursor that is beyond every revision, but in the range in which the server can still add 1 to it."""

_FILTERS_LEVEL = 1
"""The API level from which every server supports several filters per consumer (nats-server 2.11)."""


class KeyHeader(NamedTuple):
    """A key's message without its payload.

    Attributes:
        bucket_key: The key as stored.
        time_ms: When the message was stored, by the server's clock.
        is_marker: Whether the message marks its key as deleted or expired.
        end: The end of the message.
    """

    bucket_key: str
    revision: int
    time_ms: int
    is_marker: bool
    end: End

    def is_live(self, now_ms: int) -> bool:
        """Tell whether the message is a readable value: neither a marker nor expired."""
        return not self.is_marker and not 0 < self.end.at_ms <= now_ms


_read_headers = header_reader(KV_OPERATION, MARKER_REASON, EXPIRES_AT, EXPIRES_BY, TTL)


def decode_head(bucket_key: str, revision: int, time_ms: int, header: bytes, lifetimes: Lifetimes) -> KeyHeader:
    """Decode the headers of a message; see `ttl.end_of`."""
    found = _read_headers(header)
    is_marker = found.get(KV_OPERATION) in DELETIONS or MARKER_REASON in found
    end = end_of(found, time_ms, lifetimes)
    return KeyHeader(bucket_key, revision, time_ms, is_marker, end)


async def scan(
    jetstream: JetStream, bucket: Bucket, after_revision: int = 0, under: str = "", *, has_earlier: bool = False
) -> AsyncGenerator[KeyHeader, None]:
    """Yield the header of every key's last message in the order of the revisions, markers and expired values included.

    A key that is written during the scan comes again. A subject that is not UTF-8 is not a key and is left out. Every
    write acknowledged before the scan is included, even when the replica that is read from lags behind.

    Args:
        jetstream: The JetStream that has the bucket.
        bucket: The bucket to scan.
        after_revision: Revision up to which keys are left out.
        under: Beginning of the keys to include, as stored: whole tokens, each with its dot. "": all keys.
        has_earlier: True if earlier messages of a key may come too, all behind `after_revision`. Then a bucket with
            history need not be scanned from its beginning.

    Raises:
        errors.NatsError, TimeoutError: The bucket cannot be read.
    """
    loop = asyncio.get_running_loop()
    prefix = key_subject(bucket.name, "")
    give_up_at = 0.0
    async with PullConsumer(jetstream, bucket.stream, _PULL, _REQUEST_SECONDS) as consumer:
        mark = await _write_mark(bucket, after_revision, under, loop.time() + _REQUEST_SECONDS)
        config = _consumer_config(bucket, after_revision, under, has_earlier)
        await consumer.create(config, loop.time() + _REQUEST_SECONDS)
        has_begun = False
        while True:
            message = await consumer.next()
            if isinstance(message, Status):
                # In a cluster, a request may be faster than the news of the consumer that was just created.
                is_unknown_yet = message is Status.UNSERVED and not has_begun
                if not mark and not is_unknown_yet:
                    _check_complete(message)
                    return
                # The replica has no more messages, but the mark is missing: it lags behind. Ask it again.
                give_up_at = give_up_at or loop.time() + _REQUEST_SECONDS
                if loop.time() >= give_up_at:
                    raise TimeoutError
                await asyncio.sleep(_BEHIND_SECONDS)
                continue
            has_begun = True
            if message.sequence >= mark:
                mark = 0
            try:
                bucket_key = message.subject.decode().removeprefix(prefix)
            except UnicodeDecodeError:
                continue
            if message.sequence > after_revision:
                yield decode_head(
                    bucket_key,
                    message.sequence,
                    message.time_ms,
                    message.header,
                    bucket.traits.lifetimes,
                )


def _check_complete(status: Status) -> None:
    """Raise an error if a scan has ended for any other reason than that there are no more messages.

    The server may be gone, or may have deleted the consumer while the reader was slow.
    """
    if status is not Status.EXPIRED:
        raise errors.ApiError(503, CONSUMER_NOT_FOUND, "consumer lost during the scan")


def _consumer_config(bucket: Bucket, after_revision: int, under: str, has_earlier: bool) -> dict[str, Any]:
    """Return the consumer's configuration.

    Without history, every message in the bucket is the last of its key, so the scan may begin at any revision.
    """
    start: dict[str, Any]
    if after_revision and (has_earlier or not bucket.traits.has_history):
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": after_revision + 1}
    elif bucket.traits.has_history:
        start = {"deliver_policy": "last_per_subject"}
    else:
        start = {"deliver_policy": "all"}
    return start | {
        **_filter(bucket, under),
        "ack_policy": "none",
        "headers_only": True,
        "inactive_threshold": _INACTIVE_SECONDS * NANOSECONDS,
    }


def _filter(bucket: Bucket, under: str) -> dict[str, Any]:
    subject = key_subject(bucket.name, f"{under}>")
    if not under or not _has_marks(bucket, under):
        return {"filter_subject": subject}
    # The mark is not below `under`, so it needs a filter of its own.
    return {"filter_subjects": [subject, key_subject(bucket.name, RESERVED_KEY)]}


def _has_marks(bucket: Bucket, under: str) -> bool:
    traits = bucket.traits
    return traits.replicas > 1 and not traits.is_sealed and (not under or traits.level >= _FILTERS_LEVEL)


async def _write_mark(bucket: Bucket, after_revision: int, under: str, deadline: float) -> int:
    """Write the reserved key of a replicated bucket and return its revision.

    The consumer may read from a replica that lags behind. Once that replica delivers the mark, it has delivered every
    write that was acknowledged before.

    Returns 0 when the scan must do without a mark: there is one replica, no permission, or no room, or the bucket is sealed.
    """
    if not _has_marks(bucket, under):
        return 0
    try:
        revision = await bucket.write_reserved(deadline)
    except errors.PermissionsError:
        return 0
    except errors.ApiError as error:
        if error.err_code not in NO_SPACE and error.err_code != SEALED:
            raise
        return 0
    return revision if revision > after_revision else 0


async def list_keys(
    jetstream: JetStream, bucket: Bucket, request: ListKeys, key_prefix: str, deadline: float
) -> ListKeysResponse:
    """Return a page of an actor's keys in the order in which they were last written, each key once.

    A key that is written between two pages may be on both. A page may have fewer keys than the limit, even none, and
    still be followed by others: when many keys do not match.

    Raises:
        errors.BadCursorError: The cursor is not from an earlier page.
        errors.StoreError: The bucket cannot be read.
    """
    # 18 digits at most: a revision is a 64-bit number.
    if request.cursor and not (request.cursor.isascii() and request.cursor.isdigit() and len(request.cursor) < 19):
        raise errors.BadCursorError(request.cursor[:40])
    page = _Page(key_prefix, request.prefix, request.limit, _HEADERS_PER_PAGE * MAX_BUCKET_KEY_BYTES)
    revision = await _fill(page, jetstream, bucket, int(request.cursor or 0), deadline)
    return ListKeysResponse(list(page.keys), str(revision) if revision else "")


async def list_page(
    jetstream: JetStream, bucket: Bucket, request: ListPage, key_prefix: str, deadline: float
) -> KeyPage:
    """Return a page of a component's keys; as `list_keys`, but bounded by bytes. The cursor is a revision.

    Raises:
        errors.StoreError: The bucket cannot be read.
    """
    page = _Page(key_prefix, "", _HEADERS_PER_PAGE, request.max_bytes)
    revision = await _fill(page, jetstream, bucket, min(request.cursor, _MAX_REVISION), deadline)
    return KeyPage(list(page.keys), revision or None)


class _Page:
    """The keys of a page that is being filled, in the order of their last messages.

    Args:
        key_prefix: The link's KEY_PREFIX.
        prefix: Beginning of the keys to list.
        max_keys: Number of keys at which the page is full.
        max_bytes: Size of all keys together at which it is full.
    """

    def __init__(self, key_prefix: str, prefix: str, max_keys: int, max_bytes: int) -> None:
        self.keys: dict[str, None] = {}
        self._bytes = 0
        self._key_prefix = key_prefix
        self._prefix = prefix
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    @property
    def is_full(self) -> bool:
        return len(self.keys) >= self._max_keys or self._bytes >= self._max_bytes

    def take(self, header: KeyHeader, now_ms: int) -> None:
        """Add the key of a message, unless it is not to be listed."""
        key = decode_key(header.bucket_key, self._key_prefix)
        if key is None or not key.startswith(self._prefix):
            return
        if key in self.keys:  # written again during the scan: only its last message counts
            del self.keys[key]
            self._bytes -= len(header.bucket_key)
        if header.is_live(now_ms):
            self.keys[key] = None
            self._bytes += len(header.bucket_key)


async def _fill(page: _Page, jetstream: JetStream, bucket: Bucket, after_revision: int, deadline: float) -> int:
    """Fill a page with the keys of the messages behind a revision; return the last one's revision, 0 if no more follow.

    Raises:
        errors.StoreError: The bucket cannot be read.
    """
    loop = asyncio.get_running_loop()
    began, now_ms = loop.time(), bucket.now_ms()
    revision = seen = 0
    try:
        async with (
            asyncio.timeout_at(deadline),
            contextlib.aclosing(scan(jetstream, bucket, after_revision)) as headers,
        ):
            async for header in headers:
                if page.is_full or seen == _HEADERS_PER_PAGE:
                    return revision
                revision, seen = header.revision, seen + 1
                page.take(header, now_ms)
    except (errors.NatsError, TimeoutError) as error:
        raise store_error(error, loop.time() - began) from None
    return 0
