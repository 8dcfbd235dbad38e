"""The reads of a bucket: one key or many, at the consistency that the link asks for.

One replica has the last write by definition, so a direct get is always enough there. With several replicas it depends:
`strong` asks the leader under a read lease, `leader` asks the leader, `fast` asks any replica.

Source: ADR-31 (direct get).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from provider import errors
from provider.keyvalue.bucket.entries import EXPECTED_REVISION, EXPECTED_SUBJECT, Entry, decode_entry
from provider.keyvalue.bucket.failures import refusal, too_late
from provider.keyvalue.bucket.lease import LEASE_SECONDS, Proof, ReadLease
from provider.keyvalue.bucket.stream import BucketStream
from provider.keyvalue.bucket.writes import Writes
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.values import MANY_BYTES, Value
from provider.nats import jetstream as js
from provider.nats.buckets import WRONG_LAST_SEQUENCE
from provider.nats.frames import header_block, header_value, status_of, status_text
from provider.nats.headers import KV_OPERATION
from provider.nats.requests import Reply
from provider.tasks import TaskOwner

ReadValue = Callable[[Value | None, bool], None]
"""Called with a value, and whether it could be read."""

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_ATTEMPT_SECONDS = 0.6
"""Time for one request. Three attempts fit into the two seconds that a host gives a call by default."""

_PAUSE_SECONDS = 0.02
"""Pause between attempts: far below an election's duration, and at most fifty requests a second while there is no leader."""

_MULTI_LAST_LEVEL = 1
"""The API level, of nats-server 2.11, since which one direct get reads the last messages of many keys."""

_READS_AT_ONCE = 128
"""Requests that a read of many keys has under way: enough to hide the round trip, few enough for a reply buffer."""

_REQUEST_RESERVE_BYTES = 1024
"""Room in a request for everything beside the subjects: the JSON around them and the headers."""


class Reads:
    """The reads of one open bucket.

    Args:
        stream: The bucket's stream.
        writes: Used where a read has to write, and for the lease.
        tasks: Owner of the removals of expired values.
    """

    def __init__(self, stream: BucketStream, writes: Writes, tasks: TaskOwner) -> None:
        self._stream = stream
        self._writes = writes
        self._lease: ReadLease = writes.lease
        self._tasks = tasks
        self._jetstream = stream.jetstream
        self._connection = stream.jetstream.connection
        self._clock = stream.clock
        self._loop = asyncio.get_running_loop()
        self._direct_subject = f"{self._jetstream.api_prefix}.DIRECT.GET.{stream.name}.{stream.subject_prefix}".encode()
        self._own_mark = b"\r\n%b: %b\r\n" % (js.STREAM, stream.name.encode())
        """The header by which the stream, and not a mirror, has answered a direct get."""
        self._unsent: dict[str, list[ReadValue]] = {}
        """The readers of each direct get that has not been sent yet."""
        self._unsent_writes = -1
        """The connection's count of writes when `_unsent` was begun: when it has grown, they have been sent."""
        self._readers = {
            Consistency.STRONG: self._read_strong,
            Consistency.LEADER: self._read_leader,
            Consistency.FAST: self._read_fast,
        }

    # --- one key

    def begin_read(self, bucket_key: str, deadline: float, use: ReadValue) -> bool:
        """Read a key by one direct get, without a task, where that is enough for every consistency.

        Args:
            bucket_key: The key as stored.
            deadline: On the event loop's clock.
            use: Called exactly once, with the value and whether the read succeeded; if it failed, call `read`.

        Returns:
            Whether the read has begun.
        """
        if not self._stream.has_one_copy:
            return False
        if self._unsent_writes != self._connection.writes:
            self._unsent = {}
            self._unsent_writes = self._connection.writes
        readers = self._unsent.get(bucket_key)
        if readers is not None:
            readers.append(use)
            return True
        readers = [use]
        try:
            self._connection.request_then(
                self._direct_subject + bucket_key.encode(),
                min(deadline, self._loop.time() + _ATTEMPT_SECONDS),
                functools.partial(self._hand_out, bucket_key, readers),
            )
        except errors.NotConnectedError:
            return False
        self._unsent[bucket_key] = readers
        return True

    def _hand_out(self, bucket_key: str, readers: list[ReadValue], reply: Reply | None) -> None:
        """Give the reply to a direct get to every reader that asked before the request was sent.

        No reader joins a request that is under way: it could miss a write that was acknowledged before the reader asked.
        """
        # The connection was lost before the request was sent: no reader may join it any more.
        if self._unsent.get(bucket_key) is readers:
            del self._unsent[bucket_key]
        value, is_read = None, False
        if reply is not None:
            with contextlib.suppress(errors.ApiError):
                value, is_read = self._live_value(bucket_key, self._direct_entry(*reply)), True
        for use in readers:
            use(value, is_read)

    async def read(self, bucket_key: str, consistency: Consistency, deadline: float) -> Value | None:
        """Return the value under a key; `None` if it is missing, deleted or expired.

        Raises:
            errors.StoreError: The value could not be read in time.
        """
        entry = await self._retried(self._reader(consistency), bucket_key, deadline)
        return self._live_value(bucket_key, entry)

    async def read_entry(self, bucket_key: str, consistency: Consistency, deadline: float) -> Entry:
        """Return the value under a key with its revision; both are absent (`None`, 0) in the cases that `read` names.

        Raises:
            errors.StoreError: The entry could not be read in time.
        """
        entry = await self._retried(self._reader(consistency), bucket_key, deadline)
        return entry if self._live_value(bucket_key, entry) is not None else Entry(0, None)

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Return the entry under a key for a change that is based on it; see `cas.CompareAndSetStore`.

        A full bucket of several replicas may lack the room for the write that a lease takes. Then the leader is asked
        without a lease, and the entry is marked as not checked. That is enough to delete the key, which makes room: if
        the entry is old, the compare-and-set fails.
        """
        reader = self._read_direct if self._stream.has_one_copy else self._read_strong
        try:
            return await self._retried(reader, bucket_key, deadline)
        except errors.StoreFullError:
            entry = await self._retried(self._read_leader, bucket_key, deadline)
            entry.is_checked = False
            return entry

    def _reader(self, consistency: Consistency) -> Callable[[str, float], Awaitable[Entry]]:
        return self._read_direct if self._stream.has_one_copy else self._readers[consistency]

    def _live_value(self, bucket_key: str, entry: Entry) -> Value | None:
        """Return an entry's value unless it has expired; an expired value is removed where the server does not do it."""
        value = entry.value
        if value is not None and value.expires_at_ms and value.is_expired(self._clock.now_ms()):
            if not self._stream.traits.expires_by_itself:
                self._tasks.start(self._writes.purge_up_to(bucket_key, entry.revision), "remove expired")
            return None
        return value

    async def _retried(self, read: Callable[[Asked, float], Awaitable[Found]], asked: Asked, deadline: float) -> Found:
        """Repeat a read, which is harmless, until it succeeds, is refused for good, or its deadline comes."""
        loop = self._loop
        began = loop.time()
        while True:
            try:
                return await read(asked, min(deadline, loop.time() + _ATTEMPT_SECONDS))
            except (errors.NatsError, TimeoutError) as error:
                # No server answers for the stream: it was deleted, or has no leader. The store looks which it is.
                if isinstance(error, errors.NoRespondersError):
                    self._stream.on_missed()
                refused = refusal(error)
                if refused is not None:
                    raise refused from None
                if loop.time() + _PAUSE_SECONDS >= deadline:
                    raise too_late(error, loop.time() - began) from None
            await asyncio.sleep(_PAUSE_SECONDS)

    # --- many keys

    async def read_many(
        self, bucket_keys: Sequence[str], consistency: Consistency, deadline: float
    ) -> list[Value | None]:
        """Return the values under several keys, in order.

        They are one snapshot where the stream has one replica and one request is enough for all of them.

        Raises:
            errors.TooMuchAtOnceError: The values together exceed `MANY_BYTES`.
            errors.StoreError: The values could not be read in time.
        """
        distinct = list(dict.fromkeys(bucket_keys))
        is_snapshot = self._stream.has_one_copy and self._stream.traits.level >= _MULTI_LAST_LEVEL and len(distinct) > 1
        reader = self._reader(consistency)
        found: dict[str, Value | None] = {}
        size = 0
        for page in self._pages(distinct, js.MANY_SUBJECTS if is_snapshot else _READS_AT_ONCE):
            if is_snapshot:
                entries = await self._retried(self._read_page, page, deadline)
            else:
                entries = await asyncio.gather(*(self._retried(reader, key, deadline) for key in page))
            size += sum(entry.size for entry in entries)
            if size > MANY_BYTES:
                raise errors.TooMuchAtOnceError(len(distinct), MANY_BYTES)
            found.update((key, self._live_value(key, entry)) for key, entry in zip(page, entries, strict=True))
        return [found[key] for key in bucket_keys]

    def _pages(self, bucket_keys: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
        """Cut keys into pages of at most `most` keys, each of which fits into one request."""
        most_bytes = self._connection.max_payload_bytes - _REQUEST_RESERVE_BYTES
        return pages(bucket_keys, most, most_bytes, len(self._stream.subject_prefix) + len('"",'))

    async def _read_page(self, bucket_keys: tuple[str, ...], deadline: float) -> list[Entry]:
        found = await self._read_snapshot(bucket_keys, deadline, MANY_BYTES)
        return [found.get(key) or Entry(0, None) for key in bucket_keys]

    async def _read_snapshot(
        self, bucket_keys: Sequence[str], deadline: float, max_bytes: int | None = None
    ) -> dict[str, Entry]:
        """Read several keys as of one moment from any replica; keys without a message are left out."""
        prefix = self._stream.subject_prefix
        subjects = [prefix + key for key in bucket_keys]
        found = await self._jetstream.last_messages(self._stream.name, subjects, deadline, max_bytes)
        if found is None:
            raise errors.TooMuchAtOnceError(len(bucket_keys), max_bytes or 0)
        return {subject.removeprefix(prefix): self._direct_entry(*reply) for subject, reply in found.items()}

    # --- any replica

    async def _read_direct(self, bucket_key: str, deadline: float) -> Entry:
        subject = self._direct_subject + bucket_key.encode()
        return self._direct_entry(*await self._connection.request(subject, deadline=deadline))

    def _direct_entry(self, header: bytes, payload: bytes) -> Entry:
        """Decode the reply to a direct get.

        Raises:
            errors.ApiError: The request failed, or a mirror has answered it. A missing key is not an error.
        """
        if self._own_mark in header:
            return decode_entry(0, header, payload)
        status = status_of(header)
        if status == 404:
            return Entry(0, None)
        if header_value(header, js.STREAM) is not None:
            self._stream.note_mirror()
            raise errors.ApiError(503, 0, "a mirror has answered instead of the bucket")
        raise errors.ApiError(status or 500, 0, status_text(header) or "answer without a sequence")

    async def _read_fast(self, bucket_key: str, deadline: float) -> Entry:
        """Read any replica. If it is behind a revision that this process has seen, read the leader instead."""
        if not self._stream.traits.allows_direct or self._stream.is_mirrored:
            return await self._read_leader(bucket_key, deadline)
        entry = await self._read_direct(bucket_key, deadline)
        if entry.revision < self._stream.seen_revision(bucket_key):
            entry = await self._read_leader(bucket_key, deadline)
        self._stream.note_revision(bucket_key, entry.revision)
        return entry

    # --- the leader

    async def _read_leader(self, bucket_key: str, deadline: float) -> Entry:
        """Read from the server that takes itself for the leader; a deposed one may answer for some seconds."""
        subject = self._stream.subject_prefix + bucket_key
        message = await self._jetstream.last_message(self._stream.name, subject, deadline)
        if message is None:
            return Entry(0, None)
        return decode_entry(message.sequence, message.header, message.payload)

    async def _read_strong(self, bucket_key: str, deadline: float) -> Entry:
        """Return the last acknowledged entry, whatever happens in the cluster."""
        if self._stream.traits.replicas == 1:
            return await self._read_leader(bucket_key, deadline)
        while True:
            # 1. Get the lease: until it ends there is no leader but the one that everybody follows.
            proof = await self._lease.hold(deadline)
            # No lease: a replica is down or behind. The lease has made a write that this read can wait for.
            if not proof.until:
                return await self._read_after_write(bucket_key, proof, deadline)
            # 2. Ask the leader. Its answer is valid if it is here before the lease ends; else start over.
            entry = await self._read_leader(bucket_key, deadline)
            if self._loop.time() < proof.until:
                return entry

    async def _read_after_write(self, bucket_key: str, proof: Proof, deadline: float) -> Entry:
        """Read a key from a replica that has a write which was sent after this read began.

        That replica has everything that was acknowledged before the read began, whoever leads.
        """
        # nats-server before 2.11 cannot read two keys at once. There the leader's answer counts if it arrives before a
        # majority, which had the write at `sent_at`, can have elected another leader.
        if not self._stream.traits.allows_direct or self._stream.traits.level < _MULTI_LAST_LEVEL:
            entry = await self._read_leader(bucket_key, deadline)
            if self._loop.time() < proof.sent_at + LEASE_SECONDS:
                return entry
            raise TimeoutError
        found = await self._read_snapshot((bucket_key, RESERVED_KEY), deadline)
        reserved = found.get(RESERVED_KEY)
        if reserved is not None and reserved.revision >= proof.revision:
            return found.get(bucket_key) or Entry(0, None)
        return await self._read_checked(bucket_key, deadline)

    async def _read_checked(self, bucket_key: str, deadline: float) -> Entry:
        """Read the leader, then prove the answer by a write that the stream takes only if the key has that revision.

        For when the replica that answers direct gets, which is the one nearest to the connection, does not catch up.
        """
        while True:
            entry = await self._read_leader(bucket_key, deadline)
            subject = (self._stream.subject_prefix + bucket_key).encode()
            condition = header_block(
                (KV_OPERATION, b"PURGE"), (EXPECTED_REVISION, b"%d" % entry.revision), (EXPECTED_SUBJECT, subject)
            )
            try:
                await self._writes.write_reserved(deadline, condition)
            except errors.ApiError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
                # The leader was deposed, or the key was written since: read again.
            else:
                return entry


def pages(keys: Sequence[str], most: int, most_bytes: int, overhead_bytes: int) -> Iterator[tuple[str, ...]]:
    """Cut keys into pages.

    Args:
        keys: The keys, in the order of the pages.
        most: Keys on a page at most.
        most_bytes: Size of a page at most, `overhead_bytes` for each key included; a key above it gets its own page.
        overhead_bytes: Size of the text around each key in a request.
    """
    page: list[str] = []
    size = 0
    for key in keys:
        key_bytes = len(key.encode()) + overhead_bytes
        if page and (len(page) == most or size + key_bytes > most_bytes):
            yield tuple(page)
            page, size = [], 0
        page.append(key)
        size += key_bytes
    if page:
        yield tuple(page)
