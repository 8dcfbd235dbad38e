"""Atomic changes over a store that can only compare and set.

All changes of one key go through that key's lane. The changes that arrive while a write of the key is under way wait there,
and share the next write; each caller gets its own result, as if its change had been written alone. An acknowledged change
happened exactly once.

`plans` computes the value to write, `attempts` writes it exactly once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from contracts import keyvalue as kv
from provider.keyvalue.bucket.attempts import BatchWriter
from provider.keyvalue.bucket.cas import CompareAndSetStore
from provider.keyvalue.bucket.plans import PendingChange
from provider.keyvalue.conditional import CONDITIONS
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
        cached_bytes: Size of all values together that are kept for the next change of their key.

    Attributes:
        failures: The writes that have failed since the last one that was stored.
        counts: The writes so far, and the changes in them.
    """

    def __init__(self, store: CompareAndSetStore, tasks: TaskOwner, cached_bytes: int = CACHED_BYTES) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self.failures = FailureStreak("writes", self._loop.time)
        self._writer = BatchWriter(store, cached_bytes, self.failures)
        self.counts = self._writer.counts
        self._lanes: dict[str, list[PendingChange]] = {}
        """The waiting changes by key. A key has a lane as long as a task works on it."""
        self._pending: dict[PendingChange, None] = {}
        """All changes without an answer, waiting or being written."""
        self._tick: asyncio.TimerHandle | None = None

    async def change(self, request: kv.SingleKeyRequest, bucket_key: str, deadline: float) -> Any:
        """Carry out one change and return its result.

        Args:
            request: One of the types in `tables.CHANGES` or `conditional.CONDITIONS`.
            bucket_key: The key as stored.
            deadline: Time by which the caller must have an answer, on the event loop's clock.

        Raises:
            errors.OutcomeUnknownError: The change may or may not have happened.
            errors.StoreError: The change did not happen.
        """
        change = PendingChange(request, self._loop.time(), deadline, self._loop.create_future())
        self._pending[change] = None
        if self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._expire)
        lane = self._lanes.get(bucket_key)
        if lane is None:
            self._lanes[bucket_key] = [change]
            self._tasks.start(self._work_off(bucket_key), bucket_key)
        else:
            lane.append(change)
        try:
            return await change.future
        finally:
            del self._pending[change]

    def forget(self) -> None:
        """Drop the remembered entries: the bucket may have been replaced by another one."""
        self._writer.forget()

    def close(self) -> None:
        """Stop the timer. Calls that still wait are not answered any more."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    async def _work_off(self, bucket_key: str) -> None:
        """Write the changes of a lane, batch by batch, until it is empty."""
        lane = self._lanes[bucket_key]
        try:
            while lane:
                size = _batch_size(lane)
                changes = [change for change in lane[:size] if not change.future.done()]
                del lane[:size]
                # A batch that does not fit into one message is written in parts.
                while changes:
                    changes = await self._writer.settle(bucket_key, changes)
        finally:
            del self._lanes[bucket_key]

    def _expire(self) -> None:
        """Answer the calls whose deadline has come, whatever their lane is waiting for."""
        now = self._loop.time()
        for change in list(self._pending):
            if change.deadline <= now and not change.future.done():
                doubt = "no answer from the store in time" if change.is_sent else ""
                change.fail(change.too_late(doubt, now))
        self._tick = self._loop.call_later(_TICK_SECONDS, self._expire) if self._pending else None


def _batch_size(lane: list[PendingChange]) -> int:
    """Return how many changes at the head of a lane may share a write.

    A conditional change goes alone: its condition and its result are about the revision of its own write.
    """
    for number, change in enumerate(lane[:_MAX_CHANGES_PER_WRITE]):
        if type(change.request) in CONDITIONS:
            return max(number, 1)
    return _MAX_CHANGES_PER_WRITE
