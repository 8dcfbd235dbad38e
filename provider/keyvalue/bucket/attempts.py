"""One batch of changes, written exactly once: attempts, conflicts, lost answers and deposed leaders.

Every attempt carries two ids in the message that it writes. The operation id names the attempt: a later read tells from it
whether the entry found is this attempt's. The message id is the same for all attempts at a batch: the stream takes only one
message of each id, so of several attempts at most one is ever stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from msgspec import structs

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.bucket.cas import (
    MAX_PAYLOAD,
    AlreadyWrittenError,
    CompareAndSetStore,
    ConflictError,
    MaybeWrittenError,
    NotWrittenError,
    SentWrite,
    id_maker,
)
from provider.keyvalue.bucket.entries import NO_ENTRY, Entry, EntryCache, Write, may_tell_ttl
from provider.keyvalue.bucket.pages.paged_value import Head, is_paged
from provider.keyvalue.bucket.pages.settling import MOST_INLINE_BYTES
from provider.keyvalue.bucket.pages.value_writer import LongSearchError, ValueWriter, is_working_copy, payload_of
from provider.keyvalue.bucket.plans import (
    Attempt,
    Batch,
    BatchPlan,
    PendingChange,
    Prepared,
    WriteCounts,
    is_blind,
    plan_batch,
)
from provider.keyvalue.bucket.ttl import NO_END, End
from provider.keyvalue.conditional import PutPaged
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


OnLongSearch = Callable[[str, PendingChange, Head], None]
"""Called with a key, a ListDel, and the list as it was read."""


class BatchWriter:
    """Writes batches of changes to a store, each exactly once.

    Args:
        store: The store that has the values.
        cached_bytes: Size of all payloads together that are kept for the next change of their key.
        failures: Told of each batch that is written, and of each that cannot be.
        paging: Reads and writes the pages of large values.
        on_long_search: Called with a ListDel that has to search its list before it can share the key with other changes.

    Attributes:
        counts: Work so far.
    """

    def __init__(
        self,
        store: CompareAndSetStore,
        cached_bytes: int,
        failures: FailureStreak,
        paging: ValueWriter,
        on_long_search: OnLongSearch,
    ) -> None:
        self.counts = WriteCounts()
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._failures = failures
        self._paging = paging
        self._on_long_search = on_long_search
        self._cache = EntryCache(cached_bytes)
        self._new_id = id_maker()

    def forget(self) -> None:
        """Drop the remembered entries: they may belong to another bucket than the one that is read next."""
        self._cache.clear()

    def begin(self, bucket_key: str, changes: list[PendingChange]) -> Batch:
        """Make a batch of changes, and send its first attempt if nothing has to be read for that.

        The caller has to look at the attempt's outcome: `stored` is for one that was stored. Everything else is for `settle`.
        """
        batch = Batch(bucket_key, changes, self._new_id())
        # 1. Start from the entry that our last write left. If it is out of date, the write conflicts.
        entry = self._cache.take(bucket_key)
        if entry is not None and (is_paged(entry.value) or type(changes[0].request) is PutPaged):
            batch.known = entry
        elif entry is not None or self._can_be_blind(batch):
            plan = self._plan(batch, entry)
            batch.needs_pages = self._paging.outgrows_message(plan.value)
            payload = b"" if batch.needs_pages else payload_of(plan.value)
            is_large = len(payload) > MOST_INLINE_BYTES and self._paging.needs_pages(plan.value, payload)
            if plan.is_change and not batch.needs_pages and not is_large:
                try:
                    batch.under_way = self._send(batch, plan, entry, payload)
                except errors.StoreError:
                    batch.under_way = None  # time is over, as `settle` will find, too
        return batch

    async def settle(self, batch: Batch) -> list[PendingChange]:
        """Answer the changes of a batch by one write, if they fit; return those that have to wait for the next write."""
        rest: list[PendingChange] = []
        while True:
            try:
                await self._carry_out(batch)
            except LongSearchError as search:
                self._on_long_search(batch.bucket_key, batch.changes[0], search.head)
                return batch.apart + rest
            except errors.ValueTooLargeError as error:
                errors.bare(error)  # the attempt keeps the error, whose frames hold the attempt and the whole value
                # The last plan does not fit and was not stored. An attempt before it, on another entry, may have been.
                if batch.is_doubtful and await self._was_stored(batch):
                    return batch.apart + rest
                if error.limit == MAX_PAYLOAD and not batch.needs_pages and self._paging.allows_new:
                    batch.needs_pages = True
                    batch.renew(self._new_id())
                    continue
                refusal = self._paging.refusal if error.limit == MAX_PAYLOAD else None
                # One change alone is too large: only its caller gets the error.
                changes = batch.changes
                if len(changes) == 1:
                    batch.fail(refusal or error)
                    return batch.apart + rest
                # Several are too large together: write the first half now, under a new message id.
                middle = len(changes) // 2
                rest = changes[middle:] + batch.apart + rest
                batch = self.begin(batch.bucket_key, changes[:middle])
            except errors.StoreError as error:
                # Full, refused, unreachable: the last plan was not stored. An attempt before it may have been.
                doubt = errors.OutcomeUnknownError("a write was refused by a leader that may have been deposed")
                batch.fail(doubt if batch.is_doubtful else error)
                self._failures.failed(error)
                return batch.apart + rest
            else:
                return batch.apart + rest

    async def _carry_out(self, batch: Batch) -> None:
        """Wait for the attempt at a batch, and make further ones until no other writer is first.

        Raises:
            errors.StoreError: The last plan was not stored, unless the error is an `OutcomeUnknownError`.
        """
        conflicts = 0
        while batch.drop_answered():
            if batch.under_way is None:
                await self._begin_anew(batch)
            if batch.under_way is not None:
                if await self._is_settled(batch):
                    return
                conflicts += 1
                self.counts.conflicts += 1
                if conflicts > _IMMEDIATE_RETRIES:
                    await asyncio.sleep(random.random() * _MAX_JITTER_SECONDS)

    async def _begin_anew(self, batch: Batch) -> None:
        """Read the entry, plan the batch upon it and send the plan.

        Nothing is sent if the batch is answered without a write, or if the entry turns out to be out of date.
        """
        entry, batch.known = batch.known, None
        is_fresh = entry is None
        # 2. Only a batch that begins with an overwrite is written blind, without a read.
        if entry is None and not self._can_be_blind(batch):
            entry = await self._store.read_latest(batch.bucket_key, batch.deadline)
            # 3. An earlier attempt may have been stored although it was rejected: its operation id tells.
            if batch.answer_if_stored(entry) or not batch.drop_answered():
                return
        # A plan upon a paged value needs those of its elements that the batch names.
        base = entry
        if entry is not None and is_paged(entry.value) and not entry.is_expired(self._store.now_ms()):
            # A ListDel goes its own way from here, under another message id: no earlier attempt may be stored after that.
            if batch.is_doubtful and batch.has(kv.ListDel):
                if await self._was_stored(batch):
                    return
                batch.renew(self._new_id())
            base = await self._paging.working_entry(batch, entry)
            if base is None or not batch.drop_answered():
                return
        # 4. Plan the whole batch and write once. A conflict starts over, with a read and a new plan.
        plan = self._plan(batch, base)
        if plan.is_change:
            needs_pages = self._paging.outgrows_message(plan.value, did_not_fit=batch.needs_pages)
            payload = b"" if needs_pages else payload_of(plan.value)
            if needs_pages or self._paging.needs_pages(plan.value, payload):
                await self._send_with_pages(batch, plan, entry)
            else:
                # A value that had pages and has none any more, or the same ones.
                replacement = self._paging.replacement(plan.value, payload, entry, self._new_id())
                batch.under_way = self._send(batch, plan, entry, payload, replacement)
        # 5. Never answer "unchanged" from memory: another writer may have changed the key. Only a fresh read proves it.
        elif is_fresh:
            assert entry is not None, "a blind overwrite is a change"
            await self._answer_unchanged(batch, plan, entry)

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

    def _can_be_blind(self, batch: Batch) -> bool:
        """Tell whether a batch can be written without a read and without a condition.

        It cannot after a rejected attempt, which may have been stored, nor where the store may remove the new value at its
        end, which depends on the entry that it replaces. Nor can a head: its pages could be collected while its writer is
        paused, and the revision that it expects tells that.
        """
        if batch.is_doubtful or batch.needs_pages:
            return False
        return is_blind(batch.changes, expires_by_itself=self._store.expires_by_itself)

    def _plan(self, batch: Batch, base: Entry | None) -> BatchPlan:
        return plan_batch(batch.changes, base if base is not None else NO_ENTRY, self._store.now_ms())

    async def _send_with_pages(self, batch: Batch, plan: BatchPlan, base: Entry | None) -> None:
        """Write the pages of a plan, and send its head unless the entry is out of date, or a caller was answered meanwhile.

        Raises:
            errors.StoreError: The pages could not be written, or the deadlines of all callers have come.
        """
        assert plan.value is not None
        if base is None:
            # The head that the batch began with was replaced. A new one is not written blind: read the key first.
            batch.needs_pages = True
            return
        operation_id = self._new_id()
        if not base.revision:
            # A head must expect a revision that is gone for good once anything else was written: never "nothing".
            base = await self._write_fence(batch)
            if base is None or batch.has_answered:
                return
        try:
            prepared = await self._paging.prepare(batch, plan.value, base, operation_id)
        except errors.StoreRefusedError:
            if batch.needs_pages or is_working_copy(plan.value):
                raise
            # Without permission for pages, or with CREATE=never, a list or a set may grow up to the size of a message.
            if not batch.has_answered:
                batch.under_way = self._send(batch, plan, base, payload_of(plan.value))
            return
        if prepared is None:
            return
        try:
            if not batch.has_answered:
                plan = structs.replace(plan, value=prepared.value)
                batch.under_way = self._send(batch, plan, base, prepared.payload, prepared)
        finally:
            if batch.under_way is None:
                self._paging.lost(batch.bucket_key, prepared.edit)

    async def _write_fence(self, batch: Batch) -> Entry | None:
        """Write a marker under a key without a message and return it; `None`: there is a message, or the outcome is unknown."""
        write = Write(batch.bucket_key, batch.changes[0].request.key, None, b"", self._new_id(), 0, is_fence=True)
        try:
            return Entry(
                await self._store.write(write, min(batch.deadline, self._loop.time() + _ATTEMPT_SECONDS)), None
            )
        except (ConflictError, AlreadyWrittenError, MaybeWrittenError):
            return None
        except NotWrittenError as error:
            if self._loop.time() + _PAUSE_SECONDS >= batch.deadline:
                raise errors.StoreUnreachableError(error.reason) from None
            await asyncio.sleep(_PAUSE_SECONDS)
            return None

    def _send(
        self,
        batch: Batch,
        plan: BatchPlan,
        base: Entry | None,
        payload: bytes,
        prepared: Prepared | None = None,
    ) -> Attempt:
        """Send the write that carries out a plan upon a base, and whose pages are stored.

        Raises:
            errors.StoreError: Nothing was sent: the deadlines of all callers have come.
        """
        value = plan.value
        tells_ttl = (
            base is not None and value is not None and may_tell_ttl(value, base) and self._store.expires_by_itself
        )
        write = Write(
            batch.bucket_key,
            batch.changes[0].request.key,
            value,
            payload,
            self._new_id() if prepared is None else prepared.operation_id,
            base.revision if base is not None else None,
            plan.keeps_history,
            batch.message_id,
            tells_ttl,
        )
        return Attempt(write, plan, self._sent(batch, write, doubt=""), prepared)

    def _sent(self, batch: Batch, write: Write, doubt: str) -> SentWrite:
        """Send a write for as long as a caller waits."""
        now, deadline = self._loop.time(), batch.deadline
        if now >= deadline:
            raise batch.changes[0].too_late(doubt, now)
        batch.mark_sent(True)
        return self._store.write(write, min(deadline, now + _ATTEMPT_SECONDS))

    async def _is_settled(self, batch: Batch) -> bool:
        """Wait for the attempt under way and answer the batch; false: another writer was first, as far as is known.

        Raises:
            errors.StoreError: As for `_carry_out`.
        """
        attempt, batch.under_way = batch.under_way, None
        assert attempt is not None
        try:
            revision = await self._outcome(batch, attempt)
        except ConflictError as error:
            # A leader that may be deposed has rejected it: the attempt may be stored by the leader after it.
            errors.bare(error)
            if not error.is_certain:
                batch.note_attempt(attempt)
            elif attempt.prepared is not None:
                self._paging.lost(batch.bucket_key, attempt.prepared.edit)
            return False
        except errors.StoreError as error:
            if attempt.prepared is not None and not isinstance(error, errors.OutcomeUnknownError):
                self._paging.refused(batch.bucket_key, attempt.prepared.edit)
            raise
        except AlreadyWrittenError as error:
            # An attempt before this one is stored, or this one was sent twice; the revision tells which.
            batch.note_attempt(attempt)
            batch.answer_stored_at(errors.bare(error).revision)
            return True
        self.stored(attempt, revision)
        return True

    def stored(self, attempt: Attempt, revision: int) -> None:
        """Answer the callers of an attempt that was stored, and remember the entry."""
        self.counts.writes += 1
        self.counts.changes += len(attempt.plan.outcomes)
        if self._failures.count:
            self._failures.succeeded()
        write, value = attempt.write, attempt.write.value
        end = (
            End(value.expires_at_ms, is_servers=True, is_safe=True) if value is not None and write.tells_ttl else NO_END
        )
        self._cache.put(write.bucket_key, Entry(revision, value, end=end), len(write.payload))
        if attempt.prepared is not None:
            self._paging.committed(write.bucket_key, attempt.prepared)
        attempt.plan.answer(revision)

    async def _outcome(self, batch: Batch, attempt: Attempt) -> int:
        """Wait for a write, and send it again until it is known to be stored; return its revision.

        Raises:
            ConflictError: The write was rejected or not taken by any server. It has to be planned again: until it is
                repeated, some callers may have been told that their change failed.
            AlreadyWrittenError: The stream has an attempt at the batch.
            errors.StoreError: As for `_carry_out`.
        """
        write, sent, doubt = attempt.write, attempt.sent, ""
        while True:
            try:
                return await sent
            except MaybeWrittenError as error:
                # Time-out, lost connection, a leader in trouble: the write may be stored. Look for it below.
                doubt = errors.bare(error).reason  # the write keeps the error, and this frame the write
            except errors.StoreError as error:
                raise self._refused(error, batch, doubt) from None
            except (ConflictError, NotWrittenError) as error:
                if not doubt:
                    raise await self._not_written(error, batch) from None
                # After a doubtful write, the conflict may be with that write itself. Look for it below.
                errors.bare(error)
                await asyncio.sleep(_PAUSE_SECONDS)
            revision = await self._find(write, batch.deadline, doubt)
            if revision is not None:
                return revision
            sent = self._sent(batch, write, doubt)

    def _refused(self, error: errors.StoreError, batch: Batch, doubt: str) -> errors.StoreError:
        """Return the error for a write that was refused for good, perhaps after it was sent once and may be stored."""
        if doubt:
            return errors.OutcomeUnknownError(doubt)
        # Sizes are checked before anything is sent.
        if isinstance(error, errors.ValueTooLargeError):
            batch.mark_sent(False)
        return error

    async def _not_written(
        self, error: ConflictError | NotWrittenError, batch: Batch
    ) -> ConflictError | errors.StoreError:
        """Return the error for a write that was not stored, as far as is known, after a pause if no server took it."""
        if isinstance(error, ConflictError):
            if error.is_certain:
                batch.mark_sent(False)
            return error
        # No responders, no connection: the write went nowhere.
        batch.mark_sent(False)
        if self._loop.time() + _PAUSE_SECONDS >= batch.deadline:
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
