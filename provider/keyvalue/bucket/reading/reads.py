"""The reads of a bucket as callers ask for them: one key or many, repeated until a deadline, without expired values."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from provider import errors
from provider.keyvalue.bucket.entries import Entry
from provider.keyvalue.bucket.failures import refusal, store_error
from provider.keyvalue.bucket.reading.consistency import MULTI_GET_LEVEL, KeyReader
from provider.keyvalue.bucket.stream import BucketStream
from provider.keyvalue.bucket.writes import Writes
from provider.keyvalue.kinds import Value
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.values import MANY_BYTES
from provider.nats import jetstream as js
from provider.nats.requests import Outcome
from provider.streaks import FailureStreak

ReadValue = Callable[[Value | None, bool], None]
"""Called with a value, and whether it could be read."""

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_ATTEMPT_SECONDS = 0.6
"""Time for one request. Three attempts fit into the two seconds that a host gives a call by default."""

_PAUSE_SECONDS = 0.02
"""Pause between attempts: at most fifty requests a second while there is no leader, and far less than an election takes."""

_READS_AT_ONCE = 128
"""Requests that a read of many keys has under way where one request reads one key: enough to hide the round trips, without
filling the connection's buffer in one turn."""

_REQUEST_RESERVE_BYTES = 1024
"""Room in a request for everything beside the subjects: the JSON around them, and the limits."""


class Reads:
    """The reads of one open bucket.

    Args:
        stream: The bucket's stream.
        writes: Used where a read has to write, and for the lease.

    Attributes:
        failures: The reads that have failed since the last one that succeeded.
    """

    def __init__(self, stream: BucketStream, writes: Writes) -> None:
        self._stream = stream
        self._reader = KeyReader(stream, writes)
        self._direct_subject = self._reader.direct_subject
        self._expirations = writes.expirations
        self._connection = stream.jetstream.connection
        self._clock = stream.clock
        self._loop = asyncio.get_running_loop()
        self.failures = FailureStreak("reads", self._loop.time)
        self._unsent: dict[str, list[ReadValue]] = {}
        """The readers of each direct get that has not been sent yet, by key."""
        self._unsent_writes = -1
        """The connection's count of writes when `_unsent` was begun. Once it has grown, all of them have been sent."""

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
        # Readers may join a request only until it is sent. Later, they could miss a write that was acknowledged meanwhile.
        readers = self._unsent.get(bucket_key)
        if readers is not None:
            readers.append(use)
            return True
        readers = [use]
        try:
            self._connection.request_then(
                self._direct_subject + bucket_key.encode(),
                deadline=min(deadline, self._loop.time() + _ATTEMPT_SECONDS),
                then=functools.partial(self._hand_out, bucket_key, readers),
            )
        except errors.NotConnectedError:
            return False
        self._unsent[bucket_key] = readers
        return True

    def _hand_out(self, bucket_key: str, readers: list[ReadValue], outcome: Outcome) -> None:
        """Give the reply to a direct get to all its readers."""
        # The connection was lost before the request was sent: no further reader may join it.
        if self._unsent.get(bucket_key) is readers:
            del self._unsent[bucket_key]
        value, is_read = None, False
        if isinstance(outcome, tuple):
            try:
                value, is_read = self._live_value(bucket_key, self._reader.decode_direct(*outcome)), True
            except errors.ApiError:
                pass  # the callers read again, on the way that tells the reason
            else:
                if self.failures.count:
                    self.failures.succeeded()
        for use in readers:
            use(value, is_read)

    async def read(self, bucket_key: str, consistency: Consistency, deadline: float) -> Value | None:
        """Return the value under a key; `None` if it is missing, deleted or expired.

        Raises:
            errors.StoreError: The value could not be read in time.
        """
        entry = await self._retried(self._reader.at(consistency), bucket_key, deadline)
        return self._live_value(bucket_key, entry)

    async def read_entry(self, bucket_key: str, consistency: Consistency, deadline: float) -> Entry:
        """Return the value under a key with its revision; the revision is 0 where `read` returns no value.

        Raises:
            errors.StoreError: The entry could not be read in time.
        """
        entry = await self._retried(self._reader.at(consistency), bucket_key, deadline)
        return self._live_entry(bucket_key, entry)

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Return the entry under a key as the base of a change; see `cas.CompareAndSetStore`."""
        try:
            return await self._retried(self._reader.at(Consistency.STRONG), bucket_key, deadline)
        except errors.StoreFullError:
            # A full bucket of several replicas may lack the room for the lease's write. The leader's answer without a
            # lease may be old, but it is enough to delete the key, which makes room: the compare-and-set is the check.
            entry = await self._retried(self._reader.leader, bucket_key, deadline)
            entry.is_checked = False
            return entry

    def _live_entry(self, bucket_key: str, entry: Entry) -> Entry:
        return entry if self._live_value(bucket_key, entry) is not None else Entry(0, None)

    def _live_value(self, bucket_key: str, entry: Entry) -> Value | None:
        """Return an entry's value unless it has expired; an expired one is left to the sweep if the server leaves it."""
        value = entry.value
        if value is not None and value.expires_at_ms > 0 and value.is_expired(self._clock.now_ms()):
            if not entry.end.is_servers:
                self._expirations.note(bucket_key, entry.revision, value.expires_at_ms)
            return None
        return value

    async def _retried(self, read: Callable[[Asked, float], Awaitable[Found]], asked: Asked, deadline: float) -> Found:
        """Repeat a read, which is harmless, until it succeeds, is refused for good, or its deadline comes."""
        loop = self._loop
        began = loop.time()
        while True:
            try:
                found = await read(asked, min(deadline, loop.time() + _ATTEMPT_SECONDS))
            except (errors.NatsError, TimeoutError) as error:
                # No server answers for the stream: it has no leader, or it was deleted. The store finds out which.
                if isinstance(error, errors.NoRespondersError):
                    self._stream.on_missed()
                if refusal(error) is not None or loop.time() + _PAUSE_SECONDS >= deadline:
                    raise self._failed(error, loop.time() - began) from None
            else:
                if self.failures.count:
                    self.failures.succeeded()
                return found
            await asyncio.sleep(_PAUSE_SECONDS)

    def _failed(self, error: Exception, waited_seconds: float) -> errors.StoreError:
        """Count a read that failed, and return its error.

        The caller raises it without keeping it: a frame with the error that it raises would wait for the collector.
        """
        failure = store_error(error, waited_seconds)
        self.failures.failed(failure)
        return failure

    # --- many keys

    async def read_many(self, bucket_keys: Sequence[str], consistency: Consistency, deadline: float) -> list[Entry]:
        """Return the entries under several keys, in order; that of a key without a value has revision 0.

        They are one snapshot if the stream has one replica and one request is enough for all of them.

        Raises:
            errors.TooMuchAtOnceError: The values together exceed `MANY_BYTES`.
            errors.StoreError: The values could not be read in time.
        """
        distinct = list(dict.fromkeys(bucket_keys))
        is_snapshot = self._stream.has_one_copy and self._stream.traits.level >= MULTI_GET_LEVEL and len(distinct) > 1
        most_bytes = self._connection.max_payload_bytes - _REQUEST_RESERVE_BYTES
        overhead_bytes = len(self._stream.subject_prefix) + len('"",')
        read = self._reader.at(consistency)
        found: dict[str, Entry] = {}
        size = 0
        for page in _pages(distinct, js.MANY_SUBJECTS if is_snapshot else _READS_AT_ONCE, most_bytes, overhead_bytes):
            if is_snapshot:
                entries = await self._retried(self._read_page, page, deadline)
            else:
                entries = await asyncio.gather(*(self._retried(read, key, deadline) for key in page))
            size += sum(entry.size for entry in entries)
            if size > MANY_BYTES:
                raise errors.TooMuchAtOnceError(len(distinct), MANY_BYTES)
            found.update((key, self._live_entry(key, entry)) for key, entry in zip(page, entries, strict=True))
        return [found[key] for key in bucket_keys]

    async def _read_page(self, bucket_keys: tuple[str, ...], deadline: float) -> list[Entry]:
        found = await self._reader.snapshot(bucket_keys, deadline, MANY_BYTES)
        return [found.get(key) or Entry(0, None) for key in bucket_keys]


def _pages(keys: Sequence[str], most: int, most_bytes: int, overhead_bytes: int) -> Iterator[tuple[str, ...]]:
    """Cut keys into pages that fit into one request each.

    Args:
        keys: The keys, in the order of the pages.
        most: The most keys on a page.
        most_bytes: The largest size of a page, with `overhead_bytes` for each key. A larger key has a page of its own.
        overhead_bytes: Size of the text around each key in the request.
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
