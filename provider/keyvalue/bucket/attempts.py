"""One batch of changes, written exactly once: attempts, conflicts, lost answers and deposed leaders.

Every attempt carries two ids in the message that it writes. The operation id names the attempt: a later read tells from it
whether the entry found is this attempt's. The message id is the same for all attempts at a batch: the stream takes only one
message of each id, so of several attempts at most one is ever stored.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections import OrderedDict

from provider import errors
from provider.keyvalue.bucket.cas import (
    AlreadyWrittenError,
    CompareAndSetStore,
    ConflictError,
    MaybeWrittenError,
    NotWrittenError,
)
from provider.keyvalue.bucket.entries import NO_ENTRY, Entry, Write, may_tell_ttl
from provider.keyvalue.bucket.plans import Batch, BatchPlan, PendingChange, is_blind, plan_batch
from provider.keyvalue.bucket.ttl import NO_END, End
from provider.keyvalue.payloads import encode_payload
from provider.streaks import FailureStreak

_ATTEMPT_SECONDS = 0.7
"""Time for one write. Two of them, and the read between that looks for the first, fit into the two seconds that a host gives
a call by default."""

_IMMEDIATE_RETRIES = 3
"""Conflicts after which a batch is planned again at once. Most conflicts are over with the next read."""

_MAX_JITTER_SECONDS = 0.001
"""Longest pause after further conflicts: about one round trip, so that writers of one key that run in step come apart."""

_PAUSE_SECONDS = 0.02
"""Pause after a write that no server took: at most fifty attempts a second while there is no leader or no connection."""

_CACHED_ENTRIES = 1024
"""Entries kept for the next change of their key. Keys that are changed again and again, such as counters, are few."""


class WriteCounts:
    """The work of a writer so far.

    Attributes:
        changes: Number of changes written.
        writes: Number of writes that carried them.
        conflicts: Number of writes that another writer was ahead of.
    """

    __slots__ = ("changes", "conflicts", "writes")

    def __init__(self) -> None:
        self.changes = self.writes = self.conflicts = 0


class BatchWriter:
    """Writes batches of changes to a store, each exactly once.

    Args:
        store: The store that has the values.
        cached_bytes: Size of all payloads together that are kept for the next change of their key.
        failures: Told of each batch that is written, and of each that cannot be.

    Attributes:
        counts: Work so far.
    """

    def __init__(self, store: CompareAndSetStore, cached_bytes: int, failures: FailureStreak) -> None:
        self.counts = WriteCounts()
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._cache = _EntryCache(cached_bytes)
        # Ids are unique among all providers: 48 random bits for this engine, and a count.
        self._id_prefix = secrets.token_urlsafe(6).encode() + b"."
        self._ids = itertools.count()

    def forget(self) -> None:
        """Drop the remembered entries: they may belong to another bucket than the one that is read next."""
        self._cache.clear()

    async def settle(self, bucket_key: str, changes: list[PendingChange]) -> list[PendingChange]:
        """Answer changes by one write, if they fit into it; return those that have to wait for the next write."""
        rest: list[PendingChange] = []
        while True:
            batch = Batch(bucket_key, changes, self._new_id())
            try:
                await self._carry_out(batch)
            except errors.ValueTooLargeError as error:
                # The last plan does not fit and was not stored. An attempt before it, on another entry, may have been.
                if batch.is_doubtful and await self._was_stored(batch):
                    return rest
                # One change alone is too large: only its caller gets the error.
                changes = batch.changes
                if len(changes) == 1:
                    batch.fail(error)
                    return rest
                # Several are too large together: write the first half now, under a new message id.
                middle = len(changes) // 2
                changes, rest = changes[:middle], changes[middle:] + rest
            except errors.StoreError as error:
                # Full, refused, unreachable: the last plan was not stored. An attempt before it may have been.
                doubt = errors.OutcomeUnknownError("a write was refused by a leader that may have been deposed")
                batch.fail(doubt if batch.is_doubtful else error)
                self._failures.failed(error)
                return rest
            else:
                return rest

    async def _carry_out(self, batch: Batch) -> None:
        """Plan a batch on the key's entry and write it; start over until no other writer is first.

        Raises:
            errors.StoreError: The last plan was not stored, unless the error is an `OutcomeUnknownError`.
        """
        # 1. Start from the entry that our last write left. If it is out of date, the write conflicts.
        entry, is_fresh = self._cache.take(batch.bucket_key), False
        conflicts = 0
        while batch.drop_answered():
            # 2. Without one, read the entry. Only a batch that begins with an overwrite is written blind, without a read:
            #    not after a rejected attempt, which may have been stored, nor where the store may remove the new value at
            #    its end, which depends on the entry that it replaces.
            can_be_blind = not batch.is_doubtful and is_blind(
                batch.changes, expires_by_itself=self._store.expires_by_itself
            )
            if entry is None and not can_be_blind:
                entry, is_fresh = await self._store.read_latest(batch.bucket_key, batch.deadline), True
                # 3. An earlier attempt may have been stored although it was rejected: its operation id tells.
                if batch.answer_if_stored(entry) or not batch.drop_answered():
                    return
            # 4. Plan the whole batch and write once. A conflict starts over, with a read and a new plan.
            base = entry if entry is not None else NO_ENTRY
            plan = plan_batch(batch.changes, base, self._store.now_ms())
            if plan.is_change:
                if await self._attempt(batch, plan, entry):
                    return
                conflicts += 1
                self.counts.conflicts += 1
                if conflicts > _IMMEDIATE_RETRIES:
                    await asyncio.sleep(random.random() * _MAX_JITTER_SECONDS)
            # 5. Never answer "unchanged" from memory: another writer may have changed the key. Only a fresh read proves it.
            elif is_fresh:
                await self._answer_unchanged(batch, plan, base)
                return
            entry = None

    async def _answer_unchanged(self, batch: Batch, plan: BatchPlan, entry: Entry) -> None:
        """Answer a batch whose plan changes nothing.

        Raises:
            errors.StoreFullError: The entry was read without a lease, so it may be old.
            errors.OutcomeUnknownError: An earlier attempt may have been stored, and that could not be ruled out in time.
        """
        if not entry.is_checked:
            raise errors.StoreFullError(
                "the change has no effect, but there is no room for the write that would prove it"
            )
        # The change may be made already, by an attempt that was rejected and then overwritten by another writer.
        revision = await self._store.fence(batch.message_id, batch.deadline) if batch.is_doubtful else None
        if revision is not None:
            batch.answer_stored_at(revision)
        else:
            plan.answer(0)

    async def _was_stored(self, batch: Batch) -> bool:
        """Rule out that an attempt at a batch is stored from now on; if one was before, answer the batch by it.

        Returns:
            Whether the batch was answered; also with an error, if the outcome stays unknown.
        """
        try:
            revision = await self._store.fence(batch.message_id, batch.deadline)
            if revision is None:
                return False
            batch.answer_stored_at(revision)
        except errors.OutcomeUnknownError as unknown:
            batch.fail(unknown)
        return True

    async def _attempt(self, batch: Batch, plan: BatchPlan, base: Entry | None) -> bool:
        """Write a plan upon a base and answer the batch; false: another writer was first, as far as is known.

        Raises:
            errors.StoreError: As for `_carry_out`.
        """
        value = plan.value
        tells_ttl = (
            base is not None and value is not None and self._store.expires_by_itself and may_tell_ttl(value, base)
        )
        write = Write(
            batch.bucket_key,
            batch.changes[0].request.key,
            value,
            encode_payload(value) if value is not None else b"",
            self._new_id(),
            base.revision if base is not None else None,
            plan.keeps_history,
            batch.message_id,
            tells_ttl,
        )
        try:
            revision = await self._write(write, batch)
        except ConflictError as error:
            # A leader that may be deposed has rejected it: the attempt may be stored by the leader after it.
            if not error.is_certain:
                batch.note_attempt(write, plan)
            return False
        except AlreadyWrittenError as error:
            # An attempt before this one is stored, or this one was sent twice; the revision tells which.
            batch.note_attempt(write, plan)
            batch.answer_stored_at(error.revision)
            return True
        self.counts.writes += 1
        self.counts.changes += len(batch.changes)
        if self._failures.count:
            self._failures.succeeded()
        end = End(value.expires_at_ms, is_servers=True, is_safe=True) if value is not None and tells_ttl else NO_END
        self._cache.put(write.bucket_key, Entry(revision, value, end=end), len(write.payload))
        plan.answer(revision)
        return True

    async def _write(self, write: Write, batch: Batch) -> int:
        """Send a write until it is known to be stored; return its revision.

        Raises:
            ConflictError: The write was rejected or not taken by any server. It has to be planned again: until it is
                repeated, some callers may have been told that their change failed.
            AlreadyWrittenError: The stream has an attempt at the batch.
            errors.StoreError: As for `_carry_out`.
        """
        doubt = ""
        while True:
            deadline = batch.deadline
            if self._loop.time() >= deadline:
                raise batch.changes[0].too_late(doubt, self._loop.time())
            batch.mark_sent(True)
            try:
                return await self._store.write(write, min(deadline, self._loop.time() + _ATTEMPT_SECONDS))
            except MaybeWrittenError as error:
                # Time-out, lost connection, a leader in trouble: the write may be stored. Look for it below.
                doubt = error.reason
            except errors.StoreError as error:
                raise self._refused(error, batch, doubt) from None
            except (ConflictError, NotWrittenError) as error:
                if not doubt:
                    raise await self._not_written(error, batch, deadline) from None
                # After a doubtful write, the conflict may be with that write itself. Look for it below.
                await asyncio.sleep(_PAUSE_SECONDS)
            revision = await self._find(write, deadline, doubt)
            if revision is not None:
                return revision

    def _refused(self, error: errors.StoreError, batch: Batch, doubt: str) -> errors.StoreError:
        """Return the error for a write that was refused for good, perhaps after it was sent once and may be stored."""
        if doubt:
            return errors.OutcomeUnknownError(doubt)
        # Sizes are checked before anything is sent.
        if isinstance(error, errors.ValueTooLargeError):
            batch.mark_sent(False)
        return error

    async def _not_written(
        self, error: ConflictError | NotWrittenError, batch: Batch, deadline: float
    ) -> ConflictError | errors.StoreError:
        """Return the error for a write that was not stored, as far as is known, after a pause if no server took it."""
        if isinstance(error, ConflictError):
            if error.is_certain:
                batch.mark_sent(False)
            return error
        # No responders, no connection: the write went nowhere.
        batch.mark_sent(False)
        if self._loop.time() + _PAUSE_SECONDS >= deadline:
            return errors.StoreUnreachableError(error.reason)
        await asyncio.sleep(_PAUSE_SECONDS)
        return ConflictError()

    async def _find(self, write: Write, deadline: float, doubt: str) -> int | None:
        """Look for a write of unknown outcome; return its revision, or `None` if it may be sent again.

        Raises:
            errors.OutcomeUnknownError: The key was written since, so the write was overwritten or was never stored.
        """
        try:
            current = await self._store.read_latest(write.bucket_key, deadline)
        except errors.StoreError:
            raise errors.OutcomeUnknownError(doubt) from None
        if current.operation_id == write.operation_id:
            return current.revision
        # A blind write has no condition: repeating it could overwrite a write that came after it.
        if write.expected_revision is None:
            raise errors.OutcomeUnknownError(doubt)
        # The entry is still the expected one. If the first write is on its way, only one of the two can succeed.
        if current.revision == write.expected_revision:
            return None
        raise errors.OutcomeUnknownError(f"{doubt}, and another writer has changed the key since")

    def _new_id(self) -> bytes:
        return self._id_prefix + b"%x" % next(self._ids)


class _EntryCache:
    """The entries last written, so that the next change of a key needs no read. Bounded by count and by bytes."""

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
        self.take(bucket_key)
        self._entries[bucket_key] = (entry, size)
        self._bytes += size
        while len(self._entries) > _CACHED_ENTRIES or self._bytes > self._max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._bytes -= dropped

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
