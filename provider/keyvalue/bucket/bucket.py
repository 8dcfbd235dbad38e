"""A JetStream key-value bucket: entries read and written over a connection. Knows NATS; refuses to know operations.

Source: ADR-8 (key-value buckets), ADR-31 (direct get), ADR-43 (TTL of messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from provider import errors
from provider.keyvalue.bucket.engine import ConflictError, NotWrittenError, UnknownError, WrittenBeforeError
from provider.keyvalue.bucket.entries import (
    EXPECTED_REVISION,
    MESSAGE_ID,
    OPERATION_ID,
    RESERVED_HEADER,
    Entry,
    Write,
    decode_entry,
    encode_headers,
)
from provider.keyvalue.bucket.lease import LEASE_SECONDS, Proof, ReadLease
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.values import MANY_BYTES, Value
from provider.nats import jetstream as js
from provider.nats.buckets import (
    DUPLICATE_IN_PROCESS,
    MESSAGE_TOO_LARGE,
    NO_SPACE,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    key_subject,
    stream_name,
)
from provider.nats.frames import header_block, header_value, status_of, status_text
from provider.nats.headers import KV_OPERATION, ROLLUP
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
_READS_AT_ONCE = 128
_REQUEST_RESERVE_BYTES = 1024
_RESERVED_PAYLOAD = bytes(128)
"""Room that the reserved key holds: in a full bucket it is removed and written again, and somebody may come between."""

EXPECTED_SUBJECT = b"Nats-Expected-Last-Subject-Sequence-Subject"
"""Whose last sequence is meant, in place of the subject that is written to; since nats-server 2.11."""


class BucketTraits(msgspec.Struct, frozen=True):
    """What a bucket's stream is like, as far as reading and writing depend on it."""

    level: int
    replicas: int
    allows_direct: bool
    sends_ttl: bool
    expires_by_itself: bool
    has_history: bool
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
        self.stream = stream_name(name)
        self._is_mirrored = False
        self.traits = traits
        self.lease = ReadLease(self.write_reserved, self._is_everywhere, tasks)
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._on_missed = on_missed
        self._subject = key_subject(name, "")
        self._write_subject = f"{jetstream.publish_prefix}{self._subject}".encode()
        self._direct_subject = f"{jetstream.api_prefix}.DIRECT.GET.{self.stream}.{self._subject}".encode()
        self._own_mark = b"\r\n%b: %b\r\n" % (js.STREAM, self.stream.encode())
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
        self._is_direct = traits.replicas == 1 and traits.allows_direct and not self._is_mirrored
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
        if self._unsent.get(bucket_key) is readers:  # lost before it went out, and with it the request
            del self._unsent[bucket_key]
        value, is_read = None, False
        if reply is not None:
            with contextlib.suppress(errors.ApiError):
                value, is_read = self._live_value(bucket_key, self._direct_entry(*reply)), True
        for use in readers:
            use(value, is_read)

    async def read(self, bucket_key: str, consistency: Consistency, deadline: float) -> Value | None:
        """Return the value under a key; `None` when it is missing, deleted or expired.

        Raises:
            errors.StoreError: It could not be read in time.
        """
        read = self._read_direct if self._is_direct else self._readers[consistency]
        return self._live_value(bucket_key, await self._retried(read, bucket_key, deadline))

    async def read_entry(self, bucket_key: str, consistency: Consistency, deadline: float) -> Entry:
        """Do the same as `read`, and tell the revision; 0 when nothing can be read."""
        read = self._read_direct if self._is_direct else self._readers[consistency]
        entry = await self._retried(read, bucket_key, deadline)
        return entry if self._live_value(bucket_key, entry) is not None else Entry(0, None)

    def _live_value(self, bucket_key: str, entry: Entry) -> Value | None:
        value = entry.value
        if value is not None and value.expires_at_ms and value.is_expired(self._clock.now_ms()):
            self._remove_expired(bucket_key, entry.revision)
            return None
        return value

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        """Return the entry under a key from where writes are decided: for the change that follows.

        A bucket of several replicas that is full may have no room for the write that a lease takes. Then the leader is
        asked without one: what is deleted in such a bucket gives the room back.
        """
        read = self._read_direct if self._is_direct else self._read_strong
        try:
            return await self._retried(read, bucket_key, deadline)
        except errors.StoreFullError:
            entry = await self._retried(self._read_leader, bucket_key, deadline)
            entry.is_checked = False
            return entry

    async def read_many(
        self, bucket_keys: Sequence[str], consistency: Consistency, deadline: float
    ) -> list[Value | None]:
        """Return the values under several keys, in order; one snapshot where one replica serves all in one request.

        Raises:
            errors.TooMuchAtOnceError: They are over `MANY_BYTES`.
            errors.StoreError: They could not be read in time.
        """
        distinct = list(dict.fromkeys(bucket_keys))
        is_snapshot = self._is_direct and self.traits.level >= _MULTI_LAST_LEVEL and len(distinct) > 1
        read = self._read_direct if self._is_direct else self._readers[consistency]
        step = js.MANY_SUBJECTS if is_snapshot else _READS_AT_ONCE
        found: dict[str, Value | None] = {}
        size = 0
        most_bytes = self._connection.max_payload_bytes - _REQUEST_RESERVE_BYTES
        for page in _pages(distinct, step, most_bytes, len(self._subject) + len('"",')):
            if is_snapshot:
                entries = await self._retried(self._read_many_at_once, page, deadline)
            else:
                entries = await asyncio.gather(*(self._retried(read, key, deadline) for key in page))
            size += sum(entry.size for entry in entries)
            if size > MANY_BYTES:
                raise errors.TooMuchAtOnceError(len(distinct), MANY_BYTES)
            found.update((key, self._live_value(key, entry)) for key, entry in zip(page, entries, strict=True))
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
        return self._direct_entry(*await self._connection.request(subject, deadline=deadline))

    def _direct_entry(self, header: bytes, payload: bytes) -> Entry:
        """Decode the reply to a direct get, or tell a missing message from a request that failed, by its status."""
        if self._own_mark in header:
            return decode_entry(0, header, payload)
        status = status_of(header)
        if status == 404:
            return Entry(0, None)
        if header_value(header, js.STREAM) is not None:
            self._note_mirror()
            raise errors.ApiError(503, 0, "a mirror has answered in the bucket's place")
        raise errors.ApiError(status or 500, 0, status_text(header) or "answer without a sequence")

    def _note_mirror(self) -> None:
        """Ask the leader from now on: a mirror may be behind, and does not take part in what is purged."""
        if not self._is_mirrored:
            _log.warning("bucket_has_mirror", extra={"bucket": self.name})
        self._is_mirrored = True
        self.traits = self.traits

    async def _read_many_at_once(self, bucket_keys: tuple[str, ...], deadline: float) -> list[Entry]:
        found = await self._read_snapshot(bucket_keys, deadline, MANY_BYTES)
        return [found.get(key) or Entry(0, None) for key in bucket_keys]

    async def _read_snapshot(
        self, bucket_keys: Sequence[str], deadline: float, max_bytes: int | None = None
    ) -> dict[str, Entry]:
        subjects = [self._subject + key for key in bucket_keys]
        found = await self._jetstream.last_messages(self.stream, subjects, deadline, max_bytes)
        if found is None:
            raise errors.TooMuchAtOnceError(len(bucket_keys), max_bytes or 0)
        return {subject.removeprefix(self._subject): self._direct_entry(*reply) for subject, reply in found.items()}

    async def _read_leader(self, bucket_key: str, deadline: float) -> Entry:
        message = await self._jetstream.last_message(self.stream, self._subject + bucket_key, deadline)
        if message is None:
            return Entry(0, None)
        return decode_entry(message.sequence, message.header, message.payload)

    async def _read_strong(self, bucket_key: str, deadline: float) -> Entry:
        if self.traits.replicas == 1:
            return await self._read_leader(bucket_key, deadline)
        while True:
            proof = await self.lease.hold(deadline)
            if not proof.until:
                return await self._read_behind(bucket_key, proof, deadline)
            entry = await self._read_leader(bucket_key, deadline)
            if self._loop.time() < proof.until:
                return entry

    async def _read_behind(self, bucket_key: str, proof: Proof, deadline: float) -> Entry:
        """Read what stands behind a write that was sent after the read had begun: a replica is missing or behind.

        Any replica that has the write has what was acknowledged before it. nats-server before 2.11 cannot read two keys
        at once; there the leader is believed for as long as a majority has probably not elected another.
        """
        if not self.traits.allows_direct or self.traits.level < _MULTI_LAST_LEVEL:
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
        """Read from whoever says that it leads, and let a write fail if that is not what stands there.

        For when the replica that answers, which is the one nearest to the connection, does not catch up.
        """
        while True:
            entry = await self._read_leader(bucket_key, deadline)
            header = _condition(self._subject + bucket_key, entry.revision)
            try:
                await self._put_reserved(header, deadline)
            except errors.ApiError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
            else:
                return entry

    async def _read_fast(self, bucket_key: str, deadline: float) -> Entry:
        """Read any replica; one that is behind what this process has seen is not believed."""
        if not self.traits.allows_direct or self._is_mirrored:
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
        is_replicated = self.traits.replicas > 1
        header = encode_headers(
            write, self._clock.now_ms(), sends_ttl=self.traits.sends_ttl, sends_message_id=is_replicated
        )
        try:
            revision = await self._put_or_remove(write, header, deadline)
        except errors.ApiError as error:
            # With several replicas a deposed leader may refuse what its successor stores.
            if error.err_code in WRONG_LAST_SEQUENCE or error.err_code == DUPLICATE_IN_PROCESS:
                raise ConflictError(is_certain=not is_replicated) from None
            if error.err_code == MESSAGE_TOO_LARGE:
                await self._learn_limit(deadline)
                self._check_size(write.key, len(header) + len(write.payload))
                raise NotWrittenError(error.description) from None
            refusal = _refusal(error)
            if refusal is not None:
                raise refusal from None
            raise (UnknownError if is_replicated else NotWrittenError)(error.description) from None
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

    async def _put_or_remove(self, write: Write, header: bytes, deadline: float) -> int:
        """Put a write, or delete without a marker where there is no room for one; see `write`."""
        can_remove = write.value is None and write.expected_revision and not write.keeps_history
        try:
            self._check_size(write.key, len(header) + len(write.payload))
            return await self._put(write.bucket_key, write.payload, header, deadline)
        except errors.ValueTooLargeError:
            if not can_remove:
                raise
        except errors.ApiError as error:
            if error.err_code not in NO_SPACE or not can_remove:
                raise
        return await self._delete_without_marker(write.bucket_key, write.expected_revision or 0, deadline)

    async def claim(self, message_id: bytes, deadline: float) -> int | None:
        """Take a message id for a write of the reserved key; see `engine.CompareAndSetStore`."""
        header = header_block((KV_OPERATION, b"PURGE"), (ROLLUP, b"sub"), (MESSAGE_ID, message_id))
        reason = ""
        while True:
            try:
                await self._put_reserved(header, min(deadline, self._loop.time() + _ATTEMPT_SECONDS))
            except WrittenBeforeError as error:
                if reason:  # it may be this one's own, of which nothing was heard
                    raise errors.OutcomeUnknownError(reason) from None
                return error.revision
            except (errors.NatsError, TimeoutError) as error:
                reason = str(error) or "no answer in time"
                if self._loop.time() + _PAUSE_SECONDS >= deadline:
                    raise errors.OutcomeUnknownError(reason) from None
            else:
                return None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _put(self, bucket_key: str, payload: bytes, header: bytes, deadline: float) -> int:
        sent_at = self._loop.time()
        subject = self._write_subject + bucket_key.encode()
        acknowledged = js.acknowledged(await self._connection.request(subject, payload, header, deadline=deadline))
        if acknowledged.duplicate:
            raise WrittenBeforeError(acknowledged.seq)
        self.lease.note_write(sent_at, acknowledged.seq)
        return acknowledged.seq

    async def _delete_without_marker(self, bucket_key: str, revision: int, deadline: float) -> int:
        """Delete where there is no room for a marker: in a full bucket, or below a tiny MAX_VALUE_SIZE.

        Watchers do not see it, but an actor can make room. Returns the revision that stands there then: none.
        """
        subject = self._subject + bucket_key
        if not await self._jetstream.purge(self.stream, subject, deadline, below_sequence=revision + 1):
            raise ConflictError
        return 0

    async def write_reserved(self, deadline: float) -> int:
        """Write the reserved key, which no listing shows; returns its revision.

        A replica that has it has all that was acknowledged before.
        """
        return await self._put_reserved(RESERVED_HEADER, deadline)

    async def _put_reserved(self, header: bytes, deadline: float) -> int:
        """Write the reserved key; in a full bucket in the place of what stands under it.

        With several replicas a full stream takes nothing at all, not even what is smaller than what it replaces.
        """
        maximum = self.traits.max_value_bytes
        is_padded = maximum < 0 or len(header) + len(_RESERVED_PAYLOAD) <= maximum
        try:
            return await self._put(RESERVED_KEY, _RESERVED_PAYLOAD if is_padded else b"", header, deadline)
        except errors.ApiError as error:
            if error.err_code not in NO_SPACE:
                raise
        await self._jetstream.purge(self.stream, self._subject + RESERVED_KEY, deadline)
        return await self._put(RESERVED_KEY, b"", header, deadline)

    async def _is_everywhere(self, revision: int, deadline: float) -> bool:
        return (await self._jetstream.stream_info(self.stream, deadline)).is_everywhere(revision)

    async def _learn_limit(self, deadline: float) -> None:
        """Take note of how long a value may be: the bucket was changed since its traits were read."""
        with contextlib.suppress(errors.NatsError):
            config = (await self._jetstream.stream_info(self.stream, deadline)).config
            self.traits = msgspec.structs.replace(self.traits, max_value_bytes=config.max_msg_size)

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

    async def purge_up_to(self, bucket_key: str, revision: int) -> bool:
        """Remove what stands under a key unless it is newer than a revision, with the history before it.

        A history that somebody else has a part in stays. Failing leaves it for the sweeper.

        Returns:
            Whether something was removed.
        """
        deadline = self._loop.time() + 1.0
        try:
            if self.traits.has_history and not await self._is_all_own(bucket_key, revision, deadline):
                return False
            subject = self._subject + bucket_key
            return await self._jetstream.purge(self.stream, subject, deadline, below_sequence=revision + 1) > 0
        except errors.NatsError as error:
            _log.debug("expired_entry_left", extra={"bucket": self.name, "reason": str(error)})
            return False

    async def _is_all_own(self, bucket_key: str, revision: int, deadline: float) -> bool:
        sequence = 0
        while sequence < revision:
            subject = self._subject + bucket_key
            message = await self._jetstream.next_message(self.stream, subject, sequence + 1, deadline)
            if message is None:
                return True
            sequence = message.sequence
            if sequence <= revision and header_value(message.header, OPERATION_ID) is None:
                return False
        return True


def _condition(subject: str, revision: int) -> bytes:
    """Return the headers of a write that fails unless this revision is the last of another subject."""
    return header_block(
        (KV_OPERATION, b"PURGE"), (EXPECTED_REVISION, b"%d" % revision), (EXPECTED_SUBJECT, subject.encode())
    )


def _pages(keys: Sequence[str], most: int, most_bytes: int, bytes_beside: int) -> Iterator[tuple[str, ...]]:
    """Cut keys into pages of so many, and of so many bytes together with what stands beside each in a request."""
    page: list[str] = []
    size = 0
    for key in keys:
        key_bytes = len(key.encode()) + bytes_beside
        if page and (len(page) == most or size + key_bytes > most_bytes):
            yield tuple(page)
            page, size = [], 0
        page.append(key)
        size += key_bytes
    if page:
        yield tuple(page)


def _refusal(error: Exception) -> errors.StoreError | None:
    """Return what to answer when repeating the request would not help; `None` when it may."""
    if isinstance(error, errors.PermissionsError):
        return errors.StoreRefusedError(error.reason)
    if not isinstance(error, errors.ApiError):
        return None
    if error.err_code in NO_SPACE:
        return errors.StoreFullError(str(error))
    is_passing = error.code in (408, 429, 500, 503) or error.err_code == STREAM_NOT_FOUND
    return None if is_passing else errors.StoreRefusedError(str(error))


def store_error(error: Exception, waited_seconds: float) -> errors.StoreError:
    """Return what a caller is told of an error of the connection that repeating did not help against."""
    return _refusal(error) or _too_late(error, waited_seconds)


def _too_late(error: Exception, waited_seconds: float) -> errors.StoreError:
    if isinstance(error, (errors.RequestTimeoutError, TimeoutError)):
        return errors.StoreTimeoutError(int(waited_seconds * 1000), "the server is there but silent")
    return errors.StoreUnreachableError(str(error))
