"""Atomic changes over a store that can only compare and set.

All changes of one key go through that key's lane. The changes that arrive while a write of the key is under way wait there,
and share the next write; each caller gets its own result, as if its change had been written alone. An acknowledged change
happened exactly once.

`plans` computes the value to write, `attempts` writes it exactly once.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.bucket.attempts import BatchWriter
from provider.keyvalue.bucket.cas import CompareAndSetStore
from provider.keyvalue.bucket.pages.paged_value import Head
from provider.keyvalue.bucket.pages.value_writer import ValueWriter
from provider.keyvalue.bucket.plans import Attempt, Batch, PendingChange
from provider.keyvalue.conditional import CONDITIONS
from provider.keyvalue.store import Call, FutureCall
from provider.streaks import FailureStreak
from provider.tasks import TaskOwner

CACHED_BYTES = 8 * 1024 * 1024
"""Size of the values that one bucket's engine keeps for the next change of their keys, unless the caller sets it."""

_MAX_CHANGES_PER_WRITE = 1024
"""Changes that share one write at most. Planning them takes about a millisecond, in which nothing else runs."""

_TICK_SECONDS = 0.02
"""Time between two looks for calls whose deadline has come. One timer for all costs less than one each; an answer is this
much late at most."""


class Engine:
    """The lanes of one store.

    Args:
        store: The store that has the values.
        tasks: Owner of the tasks of lanes at work.
        paging: Reads and writes the pages of large values.
        cached_bytes: Size of all values together that are kept for the next change of their key.

    Attributes:
        failures: The writes that have failed since the last one that was stored.
        counts: The writes so far, and the changes in them.
    """

    def __init__(
        self, store: CompareAndSetStore, tasks: TaskOwner, paging: ValueWriter, cached_bytes: int = CACHED_BYTES
    ) -> None:
        self._tasks = tasks
        self._paging = paging
        self._loop = asyncio.get_running_loop()
        self.failures = FailureStreak("writes", self._loop.time)
        self._writer = BatchWriter(store, cached_bytes, self.failures, paging, self._start_search)
        self.counts = self._writer.counts
        self._lanes: dict[str, list[PendingChange]] = {}
        """The waiting changes by key. A key has a lane as long as a task works on it."""
        self._pending: list[PendingChange] = []
        """All changes without an answer, waiting or being written, and those answered since the last tick."""
        self._tick: asyncio.TimerHandle | None = None

    async def change(self, request: kv.SingleKeyRequest, bucket_key: str, deadline: float) -> Any:
        """Carry out one change and return its result, or raise its error; see `submit`."""
        call = FutureCall(deadline, self._loop.create_future())
        self.submit(request, bucket_key, call)
        try:
            return await call.future
        finally:
            del call  # an error keeps this frame, and the future would keep the error

    def submit(self, request: kv.SingleKeyRequest, bucket_key: str, call: Call) -> None:
        """Carry out one change, which answers the call later, by its deadline at the latest.

        The call fails with an `errors.OutcomeUnknownError` if the change may or may not have happened, and with another
        `errors.StoreError` if it did not happen.

        Args:
            request: One of the types in `tables.CHANGES` or `conditional.CONDITIONS`.
            bucket_key: The key as stored.
            call: The call to answer.
        """
        if isinstance(request, (kv.ListAdd, kv.SetAdd)):
            try:
                self._paging.check_element(request)
            except errors.ElementTooLargeError as error:
                call.fail(errors.bare(error))
                return
        change = PendingChange(request, self._loop.time(), call)
        self._pending.append(change)
        if self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._expire)
        self._enqueue(bucket_key, change)

    def _enqueue(self, bucket_key: str, change: PendingChange) -> None:
        lane = self._lanes.get(bucket_key)
        if lane is None:
            self._lanes[bucket_key] = [change]
            # The changes that arrive in this turn of the event loop share the first write.
            self._loop.call_soon(self._write_next, bucket_key)
        else:
            lane.append(change)

    def forget(self) -> None:
        """Drop the remembered entries: the bucket may have been replaced by another one."""
        self._writer.forget()

    def close(self) -> None:
        """Stop the timer. Calls that still wait are not answered any more."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _write_next(self, bucket_key: str) -> None:
        """Write the next changes of a lane; a task is begun only where something has to be read."""
        # The lane is back once its write is under way, so that a defect until then does not block the key for good.
        lane = self._lanes.pop(bucket_key)
        changes = _take_batch(lane)
        if not changes:
            return
        batch = self._writer.begin(bucket_key, changes)
        self._lanes[bucket_key] = lane
        attempt = batch.under_way
        if attempt is None:
            self._tasks.start(self._work_off(batch, lane), bucket_key)
        else:
            attempt.sent.then(functools.partial(self._on_sent, batch, attempt))

    def _on_sent(self, batch: Batch, attempt: Attempt) -> None:
        """Answer the callers of a write that was stored and go on with the lane; settle any other outcome in a task."""
        if attempt.sent.error is not None:
            self._tasks.start(self._work_off(batch, self._lanes[batch.bucket_key]), batch.bucket_key)
            return
        try:
            self._writer.stored(attempt, attempt.sent.revision())
        finally:
            if self._lanes[batch.bucket_key]:
                self._write_next(batch.bucket_key)
            else:
                del self._lanes[batch.bucket_key]

    async def _work_off(self, batch: Batch, lane: list[PendingChange]) -> None:
        """Settle a batch, and then the rest of its lane, batch by batch."""
        try:
            while True:
                # A batch that does not fit into one message is written in parts.
                changes = await self._writer.settle(batch) or _take_batch(lane)
                if not changes:
                    return
                batch = self._writer.begin(batch.bucket_key, changes)
        finally:
            del self._lanes[batch.bucket_key]

    def _start_search(self, bucket_key: str, change: PendingChange, head: Head) -> None:
        self._tasks.start(self._search(bucket_key, change, head), f"search {bucket_key}")

    async def _search(self, bucket_key: str, change: PendingChange, head: Head) -> None:
        """Search a long list without holding up its lane, and then try the change again: the element may have moved."""
        try:
            await self._paging.search(bucket_key, change, head)
        except errors.StoreError as error:
            change.call.fail(errors.bare(error))
        else:
            self._enqueue(bucket_key, change)

    def _expire(self) -> None:
        """Answer the calls whose deadline has come, whatever their lane is waiting for."""
        now = self._loop.time()
        self._pending = [change for change in self._pending if not change.call.is_done]
        for change in self._pending:
            if change.call.deadline <= now:
                doubt = "no answer from the store in time" if change.is_sent else ""
                change.call.fail(change.too_late(doubt, now))
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if self._pending else None


def _take_batch(lane: list[PendingChange]) -> list[PendingChange]:
    """Remove the changes at the head of a lane that may share a write, and return those without an answer.

    A conditional change goes alone: its condition and its result are about the revision of its own write. The returned list
    is empty only if the lane is.
    """
    changes: list[PendingChange] = []
    taken = 0
    for change in lane:
        is_alone = type(change.request) in CONDITIONS
        if changes and (is_alone or len(changes) == _MAX_CHANGES_PER_WRITE):
            break
        taken += 1
        if not change.call.is_done:
            changes.append(change)
            if is_alone:
                break
    del lane[:taken]
    return changes
