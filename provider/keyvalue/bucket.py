"""A JetStream key-value bucket: entries read and written over a connection. Knows NATS; refuses to know operations.

Source: ADR-8 (key-value buckets), ADR-31 (direct get), ADR-43 (TTL of messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from provider import errors
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.engine import ConflictError, NotWrittenError, UnknownError
from provider.keyvalue.entries import RESERVED_HEADER, Entry, Write, decode_entry, encode_headers
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.lease import ReadLease
from provider.keyvalue.link import Consistency
from provider.keyvalue.values import Value
from provider.nats import jetstream as js
from provider.nats.frames import header_value, status_of
from provider.nats.requests import Reply
from provider.tasks import TaskOwner

ReadValue = Callable[[Value | None, bool], None]
"""Called with a value, and whether it could be read."""

Asked = TypeVar("Asked")
Found = TypeVar("Found")

_log = logging.getLogger(__name__)

_ATTEMPT_SECONDS = 0.6
_PAUSE_SECONDS = 0.02
_WATERMARKS = 65_536
_MULTI_LAST_LEVEL = 1
_MULTI_LAST_KEYS = 1024


class BucketTraits(msgspec.Struct, frozen=True):
    """What a bucket's stream is like, as far as reading and writing depend on it."""

    level: int
    replicas: int
    allows_direct: bool
    sends_ttl: bool
    expires_by_itself: bool
    max_value_bytes: int
    """-1: no limit of its own."""


class Bucket:
    """One open bucket.

    Args:
        jetstream: Where it lives.
        name: Without the `KV_` of its stream.
        traits: May be replaced while the bucket is open.
        clock: The server's.
        tasks: Owns what is done in the background.
        on_missed: Called when nobody answers, as when the stream has been deleted.
    """

    def __init__(
        self,
        jetstream: js.JetStream,
        name: str,
        traits: BucketTraits,
        clock: ServerClock,
        tasks: TaskOwner,
        on_missed: Callable[[], None],
    ) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self.traits = traits
        self.lease = ReadLease(self._renew_lease)
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._on_missed = on_missed
        self._subject = f"$KV.{name}."
        self._write_subject = f"{jetstream.publish_prefix}{self._subject}".encode()
        self._direct_subject = f"{jetstream.api_prefix}.DIRECT.GET.{self.stream}.{self._subject}".encode()
        self._direct_many_subject = f"{jetstream.api_prefix}.DIRECT.GET.{self.stream}".encode()
        self._unsent: dict[str, list[ReadValue]] = {}
        self._unsent_writes = -1
        self._highest: OrderedDict[str, int] = OrderedDict()
        self._readers = {
            Consistency.STRONG: self._read_strong,
            Consistency.LEADER: self._read_leader,
            Consistency.FAST: self._read_fast,
        }

    @property
    def traits(self) -> BucketTraits:
        return self._traits

    @traits.setter
    def traits(self, traits: BucketTraits) -> None:
        self._traits = traits
        self._is_direct = traits.replicas == 1 and traits.allows_direct
        """Whether any server that answers a direct get has the last write: there is but one replica."""

    def now_ms(self) -> int:
        return self._clock.now_ms()

    # --- reading

    def begin_read(self, bucket_key: str, deadline: float, use: ReadValue) -> bool:
        """Read a key by one direct get, without a task, where that is enough for every consistency.

        Args:
            bucket_key: The key as stored.
            deadline: On the event loop's clock.
            use: Called exactly once, with the value and whether the read succeeded; if not, `read` is to be used.

        Returns:
            Whether the read has begun.
        """
        if not self._is_direct:
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
        """Give what a direct get has found to everybody who asked before the request went out.

        Joining a request that is already under way would let a read miss a write that was acknowledged before the read
        began.
        """
        value, is_read = None, False
        if reply is not None:
            with contextlib.suppress(errors.ApiError):
                value, is_read = self._live_value(bucket_key, _direct_entry(*reply)), True
        for use in readers:
            use(value, is_read)

    async def read(self, bucket_key: str, consistency: Consistency, deadline: float) -> Value | None:
        """Return the value under a key; `None` when it is missing, deleted or expired.

        Raises:
            errors.StoreError: It could not be read in time.
        """
        read = self._read_direct if self._is_direct else self._readers[consistency]
        return self._live_value(bucket_key, await self._retried(read, bucket_key, deadline))

    def _live_value(self, bucket_key: str, entry: Entry) -> Value | None:
        value = entry.value
        if value is not None and value.expires_at_ms and value.is_expired(self._clock.now_ms()):
            self._remove_expired(bucket_key, entry.revision)
            return None
        return value

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Return the entry under a key from where writes are decided: for the change that follows."""
        read = self._read_direct if self._is_direct else self._read_strong
        return await self._retried(read, bucket_key, deadline)

    async def read_many(
        self, bucket_keys: Sequence[str], consistency: Consistency, deadline: float
    ) -> list[Value | None]:
        """Return the values under several keys, in order; one snapshot where one replica serves all in one request."""
        distinct = list(dict.fromkeys(bucket_keys))
        found: dict[str, Value | None] = {}
        for start in range(0, len(distinct), _MULTI_LAST_KEYS):
            page = distinct[start : start + _MULTI_LAST_KEYS]
            if self._is_direct and self.traits.level >= _MULTI_LAST_LEVEL and len(page) > 1:
                entries = await self._retried(self._read_snapshot, tuple(page), deadline)
                values = [self._live_value(key, entry) if (entry := entries.get(key)) else None for key in page]
            else:
                values = await asyncio.gather(*(self.read(key, consistency, deadline) for key in page))
            found.update(zip(page, values, strict=True))
        return [found[key] for key in bucket_keys]

    async def _retried(self, read: Callable[[Asked, float], Awaitable[Found]], what: Asked, deadline: float) -> Found:
        """Repeat a read, which is harmless, until its deadline."""
        loop = self._loop
        began = loop.time()
        while True:
            try:
                return await read(what, min(deadline, loop.time() + _ATTEMPT_SECONDS))
            except (errors.NatsError, TimeoutError) as error:
                if isinstance(error, errors.NoRespondersError):
                    self._on_missed()
                refusal = _refusal(error)
                if refusal is not None:
                    raise refusal from None
                if loop.time() + _PAUSE_SECONDS >= deadline:
                    raise _too_late(error, loop.time() - began) from None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _read_direct(self, bucket_key: str, deadline: float) -> Entry:
        subject = self._direct_subject + bucket_key.encode()
        return _direct_entry(*await self._connection.request(subject, deadline=deadline))

    async def _read_snapshot(self, bucket_keys: tuple[str, ...], deadline: float) -> dict[str, Entry]:
        subjects = [self._subject + key for key in bucket_keys]
        replies = await self._connection.request_many(
            self._direct_many_subject,
            msgspec.json.encode({"multi_last": subjects}),
            deadline=deadline,
            is_last=lambda reply: status_of(reply[0]) != 0,
        )
        found = {}
        for header, payload in replies:
            subject = (header_value(header, b"Nats-Subject") or b"").decode()
            found[subject.removeprefix(self._subject)] = decode_entry(0, header, payload)
        return found

    async def _read_leader(self, bucket_key: str, deadline: float) -> Entry:
        message = await self._jetstream.last_message(self.stream, self._subject + bucket_key, deadline)
        if message is None:
            return Entry(0, None)
        return decode_entry(message.sequence, message.header, message.payload)

    async def _read_strong(self, bucket_key: str, deadline: float) -> Entry:
        if self.traits.replicas == 1:
            return await self._read_leader(bucket_key, deadline)
        while True:
            until = await self.lease.hold(deadline)
            entry = await self._read_leader(bucket_key, deadline)
            if self._loop.time() < until:
                return entry

    async def _read_fast(self, bucket_key: str, deadline: float) -> Entry:
        """Read any replica; one that is behind what this process has seen is not believed."""
        if not self.traits.allows_direct:
            return await self._read_leader(bucket_key, deadline)
        entry = await self._read_direct(bucket_key, deadline)
        if entry.revision < self._highest.get(bucket_key, 0):
            entry = await self._read_leader(bucket_key, deadline)
        self._note_revision(bucket_key, entry.revision)
        return entry

    def _note_revision(self, bucket_key: str, revision: int) -> None:
        if self.traits.replicas == 1 or not revision:
            return
        self._highest[bucket_key] = max(revision, self._highest.pop(bucket_key, 0))
        if len(self._highest) > _WATERMARKS:
            self._highest.popitem(last=False)

    # --- writing

    async def write(self, write: Write, deadline: float) -> int:
        """Write an entry; see `engine.CompareAndSetStore`."""
        header = encode_headers(write, self._clock.now_ms(), sends_ttl=self.traits.sends_ttl)
        self._check_size(write.key, len(header) + len(write.payload))
        try:
            try:
                revision = await self._put(write.bucket_key, write.payload, header, deadline)
            except errors.ApiError as error:
                if error.err_code not in js.NO_SPACE or write.value is not None or not write.expected_revision:
                    raise
                revision = await self._delete_without_marker(write.bucket_key, write.expected_revision, deadline)
        except errors.ApiError as error:
            is_certain = self.traits.replicas == 1  # else a deposed leader may refuse what its successor stores
            if error.err_code in js.WRONG_LAST_SEQUENCE:
                raise ConflictError(is_certain=is_certain) from None
            refusal = _refusal(error)
            if refusal is not None:
                raise refusal from None
            raise (NotWrittenError if is_certain else UnknownError)(error.description) from None
        except errors.NoRespondersError as error:
            self._on_missed()
            raise NotWrittenError(str(error)) from None
        except errors.NotConnectedError as error:
            raise NotWrittenError(str(error)) from None
        except (errors.ConnectionLostError, errors.RequestTimeoutError) as error:
            raise UnknownError(str(error)) from None
        except errors.PermissionsError as error:
            raise errors.StoreRefusedError(error.reason) from None
        self._note_revision(write.bucket_key, revision)
        return revision

    async def _put(self, bucket_key: str, payload: bytes, header: bytes, deadline: float) -> int:
        sent_at = self._loop.time()
        subject = self._write_subject + bucket_key.encode()
        revision = js.acknowledged(await self._connection.request(subject, payload, header, deadline=deadline))
        self.lease.extend(sent_at)
        return revision

    async def _delete_without_marker(self, bucket_key: str, revision: int, deadline: float) -> int:
        """Delete where there is no room for a marker: a full stream takes only what is smaller than what it replaces.

        Watchers do not see it, but an actor can make room. Returns the revision that stands there then: none.
        """
        subject = self._subject + bucket_key
        if not await self._jetstream.purge(self.stream, subject, deadline, below_sequence=revision + 1):
            raise ConflictError
        return 0

    async def _renew_lease(self, deadline: float) -> None:
        await self._put(RESERVED_KEY, b"", RESERVED_HEADER, deadline)

    def _check_size(self, key: str, size: int) -> None:
        maximum = self._connection.max_payload_bytes
        if size > maximum:
            raise errors.ValueTooLargeError(key, size, "the server's max_payload", maximum)
        maximum = self.traits.max_value_bytes
        if 0 <= maximum < size:
            raise errors.ValueTooLargeError(key, size, "the bucket's MAX_VALUE_SIZE", maximum)

    def _remove_expired(self, bucket_key: str, revision: int) -> None:
        """Remove an expired message where the server does not; a value put since then stays."""
        if self.traits.expires_by_itself:
            return
        self._tasks.start(self.purge_up_to(bucket_key, revision), "remove expired")

    async def purge_up_to(self, bucket_key: str, revision: int) -> None:
        """Remove what stands under a key unless it is newer than a revision; failing leaves it for the sweeper."""
        deadline = self._loop.time() + 1.0
        try:
            subject = self._subject + bucket_key
            await self._jetstream.purge(self.stream, subject, deadline, below_sequence=revision + 1)
        except errors.NatsError as error:
            _log.debug("expired_entry_left", extra={"bucket": self.name, "reason": str(error)})


def _direct_entry(header: bytes, payload: bytes) -> Entry:
    """Decode the reply to a direct get, or tell a missing message from a request that failed, by its status."""
    status = status_of(header)
    if not status:
        return decode_entry(0, header, payload)
    if status == 404:
        return Entry(0, None)
    description = header[: header.find(b"\r\n")].partition(b" ")[2].decode(errors="replace")
    raise errors.ApiError(status or 500, 0, description or "answer without a sequence")


def _refusal(error: Exception) -> errors.StoreError | None:
    """Return what to answer when repeating the request would not help; `None` when it may."""
    if isinstance(error, errors.PermissionsError):
        return errors.StoreRefusedError(error.reason)
    if not isinstance(error, errors.ApiError):
        return None
    if error.err_code in js.NO_SPACE:
        return errors.StoreFullError(str(error))
    is_passing = error.code in (408, 429, 500, 503) or error.err_code == js.STREAM_NOT_FOUND
    return None if is_passing else errors.StoreRefusedError(str(error))


def _too_late(error: Exception, waited_seconds: float) -> errors.StoreError:
    if isinstance(error, (errors.RequestTimeoutError, TimeoutError)):
        return errors.StoreTimeoutError(int(waited_seconds * 1000), "the server is there but silent")
    return errors.StoreUnreachableError(str(error))
