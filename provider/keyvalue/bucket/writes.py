"""The writes of a bucket: one compare-and-set at a time, with its outcome as the engine needs it.

Source: ADR-8 (puts, markers), ADR-43 (TTL of messages).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools

import msgspec

from provider import errors
from provider.keyvalue.bucket.cas import (
    MAX_PAYLOAD,
    AlreadyWrittenError,
    ConflictError,
    MaybeWrittenError,
    NotWrittenError,
    SentWrite,
)
from provider.keyvalue.bucket.entries import EXPECTED_REVISION, MESSAGE_ID, Write, encode_headers, reserved_header
from provider.keyvalue.bucket.failures import refusal
from provider.keyvalue.bucket.lease import ReadLease
from provider.keyvalue.bucket.stream import BucketStream
from provider.keyvalue.bucket.ttl import Expirations
from provider.keyvalue.keys import RESERVED_KEY
from provider.keyvalue.store import complete
from provider.nats import jetstream as js
from provider.nats.buckets import DUPLICATE_IN_PROCESS, MESSAGE_TOO_LARGE, NO_SPACE, WRONG_LAST_SEQUENCE
from provider.nats.frames import header_block
from provider.nats.headers import KV_OPERATION
from provider.nats.requests import Reply
from provider.tasks import TaskOwner

_ATTEMPT_SECONDS = 0.6
"""Time for one attempt to fence a message id. Three fit into the two seconds that a host gives a call by default."""

_PAUSE_SECONDS = 0.02
"""Pause between these attempts: far below an election's duration, and at most fifty a second while there is no leader."""

_MARK_SECONDS = 1.0
"""Time to replace one expired value by a marker. No caller waits for it; after a failure the sweep tries again."""

_MOST_OWED_MARKERS = 10_000
"""Keys that were removed without a marker, and whose marker is still to be put: about a megabyte of memory."""


_RESERVED_PAYLOAD = bytes(128)
"""Room that the reserved key keeps in the bucket. In a full bucket its message is removed and written again without this
payload, and another writer may take some of the room in between."""


class Writes:
    """The writes of one open bucket.

    Args:
        stream: The bucket's stream.
        tasks: Owner of the renewals of the lease, and of the work on writes that were not simply acknowledged.
    """

    def __init__(self, stream: BucketStream, tasks: TaskOwner) -> None:
        self.lease = ReadLease(self.write_reserved, stream.is_everywhere, tasks)
        """The read lease. Every acknowledged write may renew it."""
        self.expirations = Expirations()
        """The values that have to be removed at their end, because the server may not do it."""
        self._owed_markers: dict[str, None] = {}
        """The keys that were removed without a marker."""
        self._stream = stream
        self._tasks = tasks
        self._jetstream = stream.jetstream
        self._connection = stream.jetstream.connection
        self._loop = asyncio.get_running_loop()
        self._subject = f"{self._jetstream.publish_prefix}{stream.subject_prefix}".encode()

    # --- entries

    def write(self, write: Write, deadline: float) -> SentWrite:
        """Send an entry; see `cas.CompareAndSetStore` for the outcomes.

        A write that the server acknowledges needs no task; any other outcome is worked out in one.
        """
        traits = self._stream.traits
        if write.value is None and traits.has_history and not traits.rolls_up:
            # The stream does not let a marker remove the history, so the marker must not say that it has.
            write = msgspec.structs.replace(write, keeps_history=True)
        now_ms = self._stream.clock.now_ms() if write.tells_ttl else 0
        header = encode_headers(write, now_ms, sends_message_id=traits.replicas > 1, rolls_up=traits.rolls_up)
        sent = SentWrite(deadline)
        then = functools.partial(self._on_reply, sent, write, header, self._loop.time())
        try:
            self._check_size(write.key, len(header) + len(write.payload))
            subject = self._subject + write.bucket_key.encode()
            self._connection.request_then(subject, write.payload, header, deadline=deadline, then=then)
        except (errors.ValueTooLargeError, errors.NatsError) as error:  # nothing was sent
            then(errors.bare(error))
        return sent

    def _on_reply(
        self,
        sent: SentWrite,
        write: Write,
        header: bytes,
        sent_at: float,
        reply: Reply | errors.ValueTooLargeError | errors.NatsError,
    ) -> None:
        if isinstance(reply, tuple):
            try:
                revision = self._noted(write, self._acknowledged(reply, sent_at))
            except (AlreadyWrittenError, errors.NatsError) as refusal:
                error: Exception = errors.bare(refusal)
            else:
                sent.answer(revision)
                return
        else:
            error = reply
        after = self._after(error, write, len(header) + len(write.payload), sent.deadline)
        self._tasks.start(complete(sent, after, sent.answer), "work out a write")

    async def _after(self, error: Exception, write: Write, size: int, deadline: float) -> int:
        """Return the revision of a write by another way than the one that has failed, or raise its outcome."""
        if _lacks_room(error) and write.value is None and write.expected_revision and not write.keeps_history:
            try:
                return self._noted(
                    write, await self._put_short_marker(write.bucket_key, write.expected_revision, deadline)
                )
            except errors.NatsError as failure:
                error = errors.bare(failure)
        if isinstance(error, errors.ApiError) and error.err_code == MESSAGE_TOO_LARGE:
            # The limit was lowered since the traits were read. If the write is within the one read now, repeat it.
            await self._refresh_limit(deadline)
            self._check_size(write.key, size)
            raise NotWrittenError(error.description)
        if isinstance(error, errors.NoRespondersError):
            self._stream.on_missed()
        raise _outcome(error, is_replicated=self._stream.traits.replicas > 1)

    def _noted(self, write: Write, revision: int) -> int:
        """Note what follows from a write that was stored, and return its revision."""
        self._stream.note_revision(write.bucket_key, revision)
        value = write.value
        if value is not None and value.expires_at_ms > 0 and not write.tells_ttl:
            self.expirations.note(write.bucket_key, revision, value.expires_at_ms)
        else:
            self.expirations.drop(write.bucket_key, revision)
        return revision

    async def _put_short_marker(self, bucket_key: str, revision: int, deadline: float) -> int:
        """Delete a key in a full bucket, or below a tiny MAX_VALUE_SIZE.

        With one replica, a full bucket takes a message that is smaller than the one that it replaces. With several it takes
        none. Then the key is removed without a marker, so that a caller can make room, and the marker follows.
        """
        header = _short_marker(revision)
        traits = self._stream.traits
        is_too_large = 0 <= traits.max_value_bytes < len(header)
        if not is_too_large and traits.replicas == 1 and not traits.has_history:
            try:
                return await self._put(bucket_key, b"", header, deadline)
            except errors.ApiError as error:
                if error.err_code not in NO_SPACE:
                    raise
        if traits.denies_purge:
            raise errors.StoreFullError("there is no room for a marker, and the stream has deny_purge")
        subject = self._stream.subject_prefix + bucket_key
        if not await self._jetstream.purge(self._stream.name, subject, deadline, below_sequence=revision + 1):
            raise ConflictError
        if not is_too_large and len(self._owed_markers) < _MOST_OWED_MARKERS:
            self._owed_markers[bucket_key] = None
            with contextlib.suppress(errors.NatsError):  # the key is removed all the same, and the sweep tries again
                await self.place_owed_markers(deadline)
        return 0

    async def place_owed_markers(self, deadline: float | None = None) -> None:
        """Put the markers of keys that were removed without one, as far as there is room.

        Raises:
            errors.NatsError: The server could not be asked, or refused.
        """
        deadline = deadline or self._loop.time() + _MARK_SECONDS
        for bucket_key in list(self._owed_markers):
            try:
                await self._put(bucket_key, b"", _short_marker(0), deadline)
            except errors.ApiError as error:
                if error.err_code in NO_SPACE:
                    return
                if error.err_code not in WRONG_LAST_SEQUENCE:  # else the key has been written since
                    raise
            self._owed_markers.pop(bucket_key, None)

    async def _put(self, bucket_key: str, payload: bytes, header: bytes, deadline: float) -> int:
        sent_at = self._loop.time()
        subject = self._subject + bucket_key.encode()
        return self._acknowledged(await self._connection.request(subject, payload, header, deadline=deadline), sent_at)

    def _acknowledged(self, reply: Reply, sent_at: float) -> int:
        """Return the revision of a write from the reply to it."""
        acknowledged = js.acknowledged(reply, self._stream.name)
        if acknowledged.duplicate:
            raise AlreadyWrittenError(acknowledged.seq)
        self.lease.note_write(sent_at, acknowledged.seq)
        return acknowledged.seq

    def _check_size(self, key: str, size: int) -> None:
        maximum = self._connection.max_payload_bytes
        if size > maximum:
            raise errors.ValueTooLargeError(key, size, MAX_PAYLOAD, maximum)
        maximum = self._stream.traits.max_value_bytes
        if 0 <= maximum < size:
            raise errors.ValueTooLargeError(key, size, "the bucket's MAX_VALUE_SIZE", maximum)

    async def _refresh_limit(self, deadline: float) -> None:
        """Read the stream's limit for one value again; if that fails, it stays as it is."""
        with contextlib.suppress(errors.NatsError):
            config = (await self._jetstream.stream_info(self._stream.name, deadline)).config
            self._stream.learn(msgspec.structs.replace(self._stream.traits, max_value_bytes=config.max_msg_size))

    # --- the reserved key

    async def fence(self, message_id: bytes, deadline: float) -> int | None:
        """Use up a message id by a write of the reserved key; see `cas.CompareAndSetStore`.

        The stream takes one message of each id. So after this one, no attempt under the id can be stored; and if an
        attempt was stored before, the server answers with its revision.
        """
        reason = ""
        while True:
            try:
                await self.write_reserved(min(deadline, self._loop.time() + _ATTEMPT_SECONDS), (MESSAGE_ID, message_id))
            except AlreadyWrittenError as error:
                # The message found may be a fence of ours whose acknowledgement was lost, and not the attempt.
                if reason:
                    raise errors.OutcomeUnknownError(reason) from None
                return error.revision
            except (errors.NatsError, TimeoutError) as error:
                reason = str(error) or "no answer in time"
                if self._loop.time() + _PAUSE_SECONDS >= deadline:
                    raise errors.OutcomeUnknownError(reason) from None
            else:
                return None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def write_reserved(self, deadline: float, *conditions: tuple[bytes, bytes]) -> int:
        """Write the reserved key, which no listing shows, and return its revision.

        A replica that has this write has everything that was acknowledged before it.

        Args:
            deadline: On the event loop's clock.
            conditions: Headers by which the stream decides whether it takes the write.

        Raises:
            errors.NatsError: The write failed, or a condition was not met.
        """
        header = reserved_header(*conditions, rolls_up=self._stream.traits.rolls_up)
        maximum = self._stream.traits.max_value_bytes
        is_padded = maximum < 0 or len(header) + len(_RESERVED_PAYLOAD) <= maximum
        try:
            return await self._put(RESERVED_KEY, _RESERVED_PAYLOAD if is_padded else b"", header, deadline)
        except errors.ApiError as error:
            if error.err_code not in NO_SPACE or self._stream.traits.denies_purge:
                raise
        # A full stream of several replicas takes nothing, not even a message smaller than the one that it replaces.
        await self._jetstream.purge(self._stream.name, self._stream.subject_prefix + RESERVED_KEY, deadline)
        return await self._put(RESERVED_KEY, b"", header, deadline)

    # --- expired entries

    async def mark_expired(self, bucket_key: str, revision: int) -> bool:
        """Replace an expired value by a marker; return false if the key was written after a revision.

        In a bucket with history, the earlier revisions stay.

        Raises:
            errors.StoreError, errors.NatsError: As for any write.
        """
        has_history = self._stream.traits.has_history
        write = Write(bucket_key, bucket_key, None, b"", b"", revision, keeps_history=has_history, is_expiry=True)
        try:
            await self.write(write, self._loop.time() + _MARK_SECONDS)
        except ConflictError:
            return False
        except (NotWrittenError, MaybeWrittenError) as error:
            raise errors.StoreUnreachableError(error.reason) from None
        return True


def _lacks_room(error: Exception) -> bool:
    return isinstance(error, errors.ValueTooLargeError) or (
        isinstance(error, errors.ApiError) and error.err_code in NO_SPACE
    )


def _short_marker(expected_revision: int) -> bytes:
    """Return the headers of the shortest marker. In a bucket without history it needs no rollup."""
    return header_block((KV_OPERATION, b"PURGE"), (EXPECTED_REVISION, b"%d" % expected_revision))


def _outcome(error: Exception, *, is_replicated: bool) -> Exception:
    """Return the outcome of a write that failed with `error`; see `cas.CompareAndSetStore`."""
    match error:
        # With several replicas, a deposed leader may reject a write that its successor stores.
        case errors.ApiError(err_code=code) if code in WRONG_LAST_SEQUENCE or code == DUPLICATE_IN_PROCESS:
            return ConflictError(is_certain=not is_replicated)
        case errors.ApiError():
            # A leader that answers with a passing error, such as "unavailable", may have proposed the write before.
            passing = MaybeWrittenError if is_replicated else NotWrittenError
            return refusal(error) or passing(error.description)
        case errors.NoRespondersError() | errors.NotConnectedError():
            return NotWrittenError(str(error))
        case errors.ConnectionLostError() | errors.RequestTimeoutError() | errors.UnexpectedReplyError():
            return MaybeWrittenError(str(error))
        case errors.PermissionsError():
            return errors.StoreForbiddenError(error.reason)
    return error
