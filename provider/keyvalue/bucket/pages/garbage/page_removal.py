"""The removal of pages that no head reaches any more, by the process that has replaced them.

Readers of the head before may still ask for its pages, so they stay for some time. The pages of a process that ends before are
left to the collector.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from provider import errors
from provider.keyvalue.bucket.pages.paged_value import PageId, key_hash
from provider.keyvalue.bucket.pages.pages_stream import PagesStream
from provider.tasks import TaskOwner

_log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Requests that are under way together: some 10,000 pages a second, without a queue in the server before callers' requests."""

_REQUEST_SECONDS = 5.0
"""Time for one removal. No caller waits for it."""

_MOST_WAITING_BYTES = 96 * 1024 * 1024
"""Pages that wait for their removal. A busy set, or a large text that is overwritten again and again, replaces pages faster than
their time goes by. Beyond this size the oldest go early, so that the stream stays at a small multiple of the pages in use. A
reader that misses one reads the head again."""

_USUAL_GRACE_SECONDS = 60.0
"""The grace period for which that size is meant. It grows with the period, which an operator sets for a backup."""

_LEAST_BYTES = 4 * 1024
"""Size that a removal counts for at least: the memory of those that wait is bounded too, at some 10 MB."""

_ROOM_BYTES = 4 * 1024 * 1024
"""Pages that go at once when the stream is full, the oldest first: as many as are written together. To remove all of them
could take longer than the callers wait."""

_MOST_WRITES_KNOWN = 1024
"""Keys whose last write is remembered, some 100 KB. Only a write in the last seconds matters."""


class _Removal(NamedTuple):
    """A removal that is due at a time of the event loop's clock.

    Attributes:
        subject: The page, or the pattern of all pages of a key.
        size: Bytes that are removed, about.
        up_to: Highest sequence that is removed; 0: any.
        incarnation: The streams in which the pages were replaced: heads that were restored since may reach them again.
    """

    due: float
    subject: str
    size: int
    incarnation: int = 0
    up_to: int = 0


class PageRemover:
    """The pending removals of one bucket's pages.

    Args:
        pages: The stream of the pages.
        tasks: Owner of the work in the background.
        grace_seconds: Time for which a replaced page stays.
    """

    def __init__(self, pages: PagesStream, tasks: TaskOwner, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self._pages = pages
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Removal] = deque()
        """In the order of their times."""
        self._waiting_bytes = 0
        self._most_waiting_bytes = _MOST_WAITING_BYTES * max(1.0, grace_seconds / _USUAL_GRACE_SECONDS)
        self.lacks_room = False
        """True if the stream was full and nothing waited that could be removed."""
        self.times_made_room = 0
        """Number of times that `make_room` has removed something."""
        self._making_room = asyncio.Lock()
        self._worker: asyncio.Task[None] | None = None
        self._is_changed = asyncio.Event()
        self._writes: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """First and last sequence of the last write, by key."""
        self._reason = ""

    @property
    def waiting(self) -> int:
        """Number of removals that are not done yet."""
        return len(self._waiting)

    def note_write(self, bucket_key: str, sequences: Iterable[int]) -> None:
        """Remember the sequences of the pages that were written last under a key."""
        self._writes.pop(bucket_key, None)
        self._writes[bucket_key] = min(sequences), max(sequences)
        if len(self._writes) > _MOST_WRITES_KNOWN:
            self._writes.popitem(last=False)

    def remove_later(self, page_ids: Collection[PageId], size: int) -> None:
        """Remove pages of so many bytes together; see `paged_value.PageStore`."""
        due, each = self._loop.time() + self.grace_seconds, size // max(1, len(page_ids))
        for page_id in page_ids:
            self._add(_Removal(due, page_id, max(each, _LEAST_BYTES), self._pages.incarnation))
        self._work()

    def remove_now(self, page_ids: Iterable[PageId]) -> None:
        for page_id in page_ids:
            self._waiting.appendleft(_Removal(0.0, page_id, 0, self._pages.incarnation))
        self._work()

    def remove_all_later(self, bucket_key: str, up_to_sequence: int, size: int) -> None:
        """Remove all pages of a key up to a sequence; see `paged_value.PageStore`."""
        self._tasks.start(self._plan_all(bucket_key, up_to_sequence, size), "plan the removal of pages")

    async def make_room(self, times_before: int, deadline: float) -> bool:
        """Remove pages that wait, whatever their time, because the stream is full; tell whether there may be room now.

        Args:
            times_before: The value of `times_made_room` when the write was sent for which there was no room.
            deadline: On the event loop's clock.

        Raises:
            errors.NatsError: The server could not be asked, or refused.
        """
        async with self._making_room:
            if self.times_made_room == times_before:
                count = size = 0
                while self._waiting and size < _ROOM_BYTES:
                    group = self._next_group(is_due=False)
                    counts = await asyncio.gather(*(self._remove(one, deadline) for one in group))
                    count += sum(counts)
                    size += sum(one.size for one, removed in zip(group, counts, strict=True) if removed)
                self.times_made_room += bool(count)
                self.lacks_room = not count
            return self.times_made_room > times_before

    async def finish(self) -> None:
        """Carry out the removals that are due, before the process ends. The collector finds the pages of the others."""
        self._waiting = deque(removal for removal in self._waiting if removal.due <= self._loop.time())
        self._work()
        if self._worker is not None:
            await asyncio.wait({self._worker})

    async def _plan_all(self, bucket_key: str, up_to: int, size: int) -> None:
        try:
            found = await self._pages.look(self._loop.time() + _REQUEST_SECONDS)
        except errors.StoreError as error:
            self._log_once(str(error))
            return
        # The sequence is of a stream that is gone, if the stream of today has not come so far: the pages below it are others.
        if found is None or found.last_sequence < up_to:
            return
        # Likewise if this process has just written pages below and above it: those of the head that came after.
        first, last = self._writes.get(bucket_key, (0, 0))
        if first <= up_to < last:
            up_to = first - 1
        if up_to <= 0:
            return
        due = self._loop.time() + self.grace_seconds
        subject = f"{key_hash(bucket_key)}.>"
        self._add(_Removal(due, subject, max(size, _LEAST_BYTES), found.incarnation, up_to))
        self._work()

    def _add(self, removal: _Removal) -> None:
        self._waiting.append(removal)
        self._waiting_bytes += removal.size

    def _work(self) -> None:
        self._is_changed.set()
        if self._waiting and (self._worker is None or self._worker.done()):
            self._worker = self._tasks.start(self._remove_as_due(), "remove pages")

    async def _remove_as_due(self) -> None:
        while self._waiting:
            self._is_changed.clear()
            if seconds := self._seconds_left():
                await self._pause(seconds)
            else:
                await self._remove_group()

    def _seconds_left(self) -> float:
        """Return the time until the first removal."""
        if self._waiting_bytes > self._most_waiting_bytes:
            return 0.0
        return max(0.0, self._waiting[0].due - self._loop.time())

    async def _pause(self, seconds: float) -> None:
        """Wait for the time of the next removal, or for another removal."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_changed.wait()
        except TimeoutError:
            return

    def _next_group(self, *, is_due: bool) -> list[_Removal]:
        """Take out the removals that come next: only those whose time has come, or any."""
        group: list[_Removal] = []
        while len(group) < _AT_ONCE and self._waiting and not (is_due and self._seconds_left()):
            group.append(self._waiting.popleft())
            self._waiting_bytes -= group[-1].size
        return group

    async def _remove_group(self) -> None:
        group = self._next_group(is_due=True)
        deadline = self._loop.time() + _REQUEST_SECONDS
        await asyncio.gather(*(self._try_to_remove(one, deadline) for one in group))

    async def _try_to_remove(self, removal: _Removal, deadline: float) -> None:
        try:
            await self._remove(removal, deadline)
        except (errors.NatsError, errors.StoreError, TimeoutError) as error:
            self._log_once(str(error) or "no answer in time")  # the collector finds what stays

    async def _remove(self, removal: _Removal, deadline: float) -> int:
        found = await self._pages.recent(deadline)
        # 0: this process had not used the stream yet, so it knows no other one.
        if found is None or removal.incarnation not in (0, found.incarnation):
            return 0
        subject = found.stream.subject_prefix + removal.subject
        below = removal.up_to + 1 if removal.up_to else 0
        return await found.stream.jetstream.purge(found.stream.name, subject, deadline, below_sequence=below)

    def _log_once(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            _log.warning("pages_not_removed", extra={"stream": self._pages.name, "reason": reason})
