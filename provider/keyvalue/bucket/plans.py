"""The changes of a key that share one write, the plan of that write, and the attempts at it that are in doubt."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from contracts import keyvalue as kv
from contracts.extensions import SwapResponse
from provider import errors
from provider.keyvalue.bucket.cas import SentWrite
from provider.keyvalue.bucket.entries import NO_ENTRY, Entry, Write
from provider.keyvalue.bucket.pages.paged_value import Edit, Head, PageId
from provider.keyvalue.conditional import CONDITIONS, Put, PutPaged
from provider.keyvalue.kinds import Value
from provider.keyvalue.store import Call
from provider.keyvalue.tables import CHANGES, OVERWRITES


class PendingChange(Struct, eq=False):
    """One change of a key, with the call that it answers.

    Attributes:
        request: One of the types in `tables.CHANGES` or `conditional.CONDITIONS`.
        began: Time of the call, on the event loop's clock.
        call: The call; done as soon as the caller has an answer, be it only that time is over.
        is_sent: Whether a write with this change may be on its way or stored.
        skipped: Pages of a list in which a ListDel has found nothing; see `tree_reads.position_of`.
    """

    request: kv.SingleKeyRequest
    began: float
    call: Call
    is_sent: bool = False
    skipped: set[PageId] | None = None

    def too_late(self, doubt: str, now: float) -> errors.StoreError:
        """Return the error for a change whose deadline has come.

        Args:
            doubt: The reason why it may have happened nevertheless; "" if it has not.
            now: On the event loop's clock.
        """
        if doubt:
            return errors.OutcomeUnknownError(doubt)
        waited_ms = int((now - self.began) * 1000)
        return errors.StoreTimeoutError(waited_ms, "the key's earlier writes are still under way")


class BatchPlan(Struct, frozen=True):
    """The effect of a batch on an entry.

    Attributes:
        outcomes: Each change with its result or its error, in the order of the calls.
        value: The value to write; `None`: a marker that deletes.
        is_change: Whether anything has to be written.
        keeps_history: Whether the marker leaves the earlier revisions, in a bucket with history.
    """

    outcomes: list[tuple[PendingChange, Any, errors.StoreError | None]]
    value: Value | None
    is_change: bool
    keeps_history: bool

    def answer(self, revision: int) -> None:
        """Give each caller its outcome; `revision` is that of the write, 0 if nothing was written."""
        for change, result, error in self.outcomes:
            if error is not None:
                change.call.fail(error)
            else:
                # Only the write tells the revision of a swap. A swap has a batch of its own, so the value is its own.
                if type(result) is SwapResponse and result.success:
                    is_there = self.value is not None
                    result = SwapResponse(True, revision if is_there else 0)  # noqa: PLW2901  (the change's own)
                change.call.answer(result)


class Attempt(Struct, frozen=True):
    """A write that was sent.

    Attributes:
        write: The write.
        plan: The plan that it carries out.
        sent: The write under way.
        prepared: The pages that it adds and replaces, if the value has or had any.
    """

    write: Write
    plan: BatchPlan
    sent: SentWrite
    prepared: Prepared | None = None


class Prepared(Struct, frozen=True):
    """A write whose pages are stored.

    Attributes:
        operation_id: Id of the attempt, by which its pages are named.
        value: Value of the head, or of one message.
        payload: Its encoded form.
        edit: Change of the pages.
        before: The head that it replaces; `None`: the value had no pages.
    """

    operation_id: bytes
    value: Value | None
    payload: bytes
    edit: Edit
    before: Head | None


class Batch(Struct, eq=False):
    """Changes of one key that share one write, and the attempts at that write which may have been stored.

    With several replicas a rejected attempt may have been stored: a deposed leader rejects what its successor stores.

    Attributes:
        bucket_key: The key as stored.
        changes: The changes, in the order of the calls.
        message_id: The id that all attempts have in common.
        under_way: The attempt that was sent last, if its outcome has not been looked at.
        known: The entry that our last write left, for a first attempt that has to read pages.
        needs_pages: Whether the new value is known not to fit into one message.
        apart: Changes that were taken out of the batch and wait for the next one.
    """

    bucket_key: str
    changes: list[PendingChange]
    message_id: bytes
    under_way: Attempt | None = None
    known: Entry | None = None
    needs_pages: bool = False
    apart: list[PendingChange] = []
    _attempts: dict[bytes, tuple[int, BatchPlan]] = {}
    """The revision that each doubtful attempt expected, and its plan, by operation id."""

    @property
    def is_doubtful(self) -> bool:
        """True if an attempt that was rejected may have been stored."""
        return bool(self._attempts)

    @property
    def deadline(self) -> float:
        """The last deadline of the callers that still wait; 0 if none does."""
        latest = 0.0
        for change in self.changes:
            if not change.call.is_done and change.call.deadline > latest:
                latest = change.call.deadline
        return latest

    @property
    def has_answered(self) -> bool:
        """True if a caller has been told that time is over. A plan with its change must not be sent any more."""
        return any(change.call.is_done for change in self.changes)

    def drop_answered(self) -> bool:
        """Drop the changes whose callers were told that time is over; return whether any change is left."""
        self.changes = [change for change in self.changes if not change.call.is_done]
        return bool(self.changes)

    def has(self, kind: type[kv.Request]) -> bool:
        """Tell whether a change of a kind is in the batch."""
        return any(type(change.request) is kind for change in self.changes)

    def renew(self, message_id: bytes) -> None:
        """Take another message id, since it is known that no attempt under the one before was stored, or ever will be."""
        self.message_id = message_id
        self._attempts = {}

    def keep_apart(self, kind: type[kv.Request]) -> None:
        """Leave this batch to the changes before the first one of a kind, or to that one alone if it comes first."""
        for index, change in enumerate(self.changes):
            if type(change.request) is kind:
                cut = max(index, 1)
                self.changes, self.apart = self.changes[:cut], self.changes[cut:] + self.apart
                return

    def mark_sent(self, is_sent: bool) -> None:
        for change in self.changes:
            change.is_sent = is_sent

    def fail(self, error: errors.StoreError) -> None:
        for change in self.changes:
            change.call.fail(error)

    def note_attempt(self, attempt: Attempt) -> None:
        """Remember a rejected attempt that may have been stored.

        A blind write is left out: it has no condition that a leader could reject.
        """
        write = attempt.write
        if write.expected_revision is not None:
            self._attempts[write.operation_id] = write.expected_revision, attempt.plan

    def answer_if_stored(self, entry: Entry) -> bool:
        """Answer the changes if one of the attempts has written this entry; return whether it has."""
        attempt = self._attempts.get(entry.operation_id)
        if attempt is None:
            return False
        attempt[1].answer(entry.revision)
        return True

    def answer_stored_at(self, revision: int) -> None:
        """Answer the changes by the attempt that was stored at a revision.

        An attempt is stored directly upon the revision that it expected, and every revision that an attempt expected was
        the key's last at some time. So it is the attempt that expected the highest revision below this one.

        Raises:
            errors.OutcomeUnknownError: The stored attempt is not among those remembered.
        """
        before = [attempt for attempt in self._attempts.values() if attempt[0] < revision]
        if not before:
            raise errors.OutcomeUnknownError("another attempt at the change was written")
        max(before, key=lambda attempt: attempt[0])[1].answer(revision)


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


def plan_batch(changes: list[PendingChange], entry: Entry, now_ms: int) -> BatchPlan:
    """Apply changes to an entry one after the other, each to the value that the one before it left.

    An error of one change is that caller's alone: the others are planned as if it had not been there.

    Args:
        changes: The changes, in the order of the calls.
        entry: The entry to change, or `NO_ENTRY` if the first change replaces it unseen.
        now_ms: The time by the store's clock.
    """
    before = None if entry.is_expired(now_ms) else entry.value
    value, is_change, keeps_history = before, False, False
    outcomes: list[tuple[PendingChange, Any, errors.StoreError | None]] = []
    for change in changes:
        try:
            apply = CHANGES.get(type(change.request))
            if apply is not None:
                effect = apply(change.request, value, now_ms)
            else:
                revision = entry.revision if before is not None else 0
                if type(change.request) is PutPaged and change.request.base_revision != entry.revision:
                    outcomes.append((change, SwapResponse(False, revision), None))
                    continue
                effect = CONDITIONS[type(change.request)](change.request, value, revision, now_ms)
        except errors.StoreError as error:
            outcomes.append((change, None, errors.bare(error)))
        else:
            value, keeps_history = effect.value, effect.keeps_history
            is_change = is_change or effect.is_change
            outcomes.append((change, effect.result, None))
    # A key that did not exist, and was created and deleted again in one batch, needs no marker.
    is_absent_throughout = before is None and value is None and entry is not NO_ENTRY
    return BatchPlan(outcomes, value, is_change and not is_absent_throughout, keeps_history)


def is_blind(changes: list[PendingChange], *, expires_by_itself: bool) -> bool:
    """Tell whether changes can be written without a look at the entry that they replace.

    Args:
        changes: The changes, in the order of the calls.
        expires_by_itself: Whether the store can remove a value at its end; then a value with an end needs a look.
    """
    if not _is_overwrite(changes[0].request):
        return False
    if expires_by_itself:
        for change in changes:
            if getattr(change.request, "expires", 0):
                return False
    return True


def _is_overwrite(request: kv.Request) -> bool:
    """Tell whether a change depends neither on the value before it nor on its revision."""
    return type(request) in OVERWRITES or (isinstance(request, Put) and request.revision is None)
