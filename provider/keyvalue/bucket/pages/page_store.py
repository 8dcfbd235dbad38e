"""The store of a bucket's pages: cached, read ahead, written several at a time.

A page never changes once it is written, and its id is never used again. So it may come from any replica and from the cache.
Only its absence needs proof; see `page_reader`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping

from provider import errors
from provider.keyvalue.bucket.cas import MAX_PAYLOAD
from provider.keyvalue.bucket.failures import refusal, store_error
from provider.keyvalue.bucket.pages.garbage.page_removal import PageRemover
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.page_reader import PAGE_OF, PageReader
from provider.keyvalue.bucket.pages.paged_value import PageId, Wanted
from provider.keyvalue.bucket.pages.pages_stream import OpenPages, PagesStream
from provider.keyvalue.clock import ServerClock
from provider.nats import jetstream as js
from provider.nats.buckets import NO_SPACE
from provider.nats.frames import header_block, header_value
from provider.nats.headers import TTL
from provider.room import Room
from provider.tasks import TaskOwner, share

_WRITES_AT_ONCE = 32
"""Pages of one write that are under way together: enough to hide the round trips."""

_UNACKNOWLEDGED_BYTES = 4 * 1024 * 1024
"""Pages of all writes that are under way together: they lie in the connection's buffer a second time."""

_FIRST_ATTEMPT_SECONDS = 0.7
"""Time for the first attempt to write a page, doubled for each further one: a slow network may need longer for many pages."""

_PAUSE_SECONDS = 0.02
"""Pause between attempts: at most fifty a second while there is no leader."""


class StreamPageStore:
    """The pages of one bucket; a `paged_value.PageStore`.

    Args:
        pages: The stream of the pages.
        cache: The cache of the process.
        clock: The server's clock.
        tasks: Owner of the work in the background.
        grace_seconds: Time for which a page stays after it was replaced, or after the end of its value.
    """

    def __init__(
        self, pages: PagesStream, cache: PageCache, clock: ServerClock, tasks: TaskOwner, grace_seconds: float
    ) -> None:
        self._pages = pages
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._reader = PageReader(pages, cache, tasks)
        self._room = Room(_UNACKNOWLEDGED_BYTES)
        self.remover = PageRemover(pages, tasks, grace_seconds)

    async def read(self, bucket_key: str, wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        """Return pages; see `paged_value.PageStore`."""
        return await self._reader.read(bucket_key, wanted, deadline)

    async def write(self, bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        """Write pages; see `paged_value.PageStore`."""
        if not pages:
            return 0
        found = await self._pages.to_write(deadline)
        header = self._header(found, bucket_key, expires_at_ms)
        sequences: list[int] = []
        rest = iter(pages.items())

        async def write_some() -> None:
            for page_id, payload in rest:
                await self._room.take(len(payload))
                page = bytes(payload)  # a page of a long text is a view, which would hold all of it while it is cached
                try:
                    sequences.append(await self._put(found, page_id, page, header, deadline))
                finally:
                    self._room.give_back(len(page))
                self._reader.remember(found, bucket_key, page_id, page)

        began = self._loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                await share(write_some, min(_WRITES_AT_ONCE, len(pages)))
        except TimeoutError as error:
            raise store_error(error, self._loop.time() - began) from None
        self.remover.note_write(bucket_key, sequences)
        return max(sequences)

    def remove_later(self, bucket_key: str, page_ids: Collection[PageId], size: int) -> None:
        """Remove pages after the grace period; see `paged_value.PageStore`."""
        self.remover.remove_later(page_ids, size)

    def remove_all_later(self, bucket_key: str, up_to_sequence: int, size: int) -> None:
        """Remove all pages of a key after the grace period; see `paged_value.PageStore`."""
        self.remover.remove_all_later(bucket_key, up_to_sequence, size)

    def remove_now(self, bucket_key: str, page_ids: Iterable[PageId]) -> None:
        """Remove pages that no head has reached; see `paged_value.PageStore`."""
        self.remover.remove_now(page_ids)

    def _header(self, found: OpenPages, bucket_key: str, expires_at_ms: int) -> bytes:
        pairs = [(PAGE_OF, bucket_key.encode())]
        if expires_at_ms > 0 and found.stream.traits.expires_by_itself:
            # Like a page that was replaced, it outlives its head for the readers that are under way.
            seconds = (expires_at_ms - self._clock.now_ms()) / 1000 + self.remover.grace_seconds
            pairs.append((TTL, b"%ds" % max(1, math.ceil(seconds))))
        return header_block(*pairs)

    async def _put(self, found: OpenPages, page_id: PageId, page: bytes, header: bytes, deadline: float) -> int:
        """Write one page and return its sequence. A repetition is harmless: it writes the same page again."""
        began, seconds = self._loop.time(), _FIRST_ATTEMPT_SECONDS
        while True:
            times = self.remover.times_made_room
            try:
                return await self._try_put(found, page_id, page, header, min(deadline, self._loop.time() + seconds))
            except (errors.NatsError, TimeoutError) as error:
                is_full = isinstance(error, errors.ApiError) and error.err_code in NO_SPACE
                is_over = refusal(error) is not None or self._loop.time() + _PAUSE_SECONDS >= deadline
                if is_over and not (is_full and await self._make_room(times, deadline)):
                    raise store_error(error, self._loop.time() - began) from None
                if isinstance(error, errors.NoRespondersError):
                    await self._check_same(found, deadline)
            seconds *= 2
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _try_put(self, found: OpenPages, page_id: PageId, page: bytes, header: bytes, deadline: float) -> int:
        jetstream = found.stream.jetstream
        sent_at = self._loop.time()
        subject = f"{jetstream.publish_prefix}{found.stream.subject_prefix}{page_id}".encode()
        try:
            reply = await jetstream.connection.request(subject, page, header, deadline=deadline)
        except errors.MessageTooLargeError as error:
            # Its key is as long as a small message, or the server took larger ones when its element was added.
            bucket_key = (header_value(header, PAGE_OF) or b"").decode()
            raise errors.ValueTooLargeError(bucket_key, error.size, MAX_PAYLOAD, error.maximum) from None
        sequence = js.acknowledged(reply, found.stream.name).seq
        found.writes.lease.note_write(sent_at, sequence)
        return sequence

    async def _make_room(self, times_before: int, deadline: float) -> bool:
        try:
            return await self.remover.make_room(times_before, deadline)
        except (errors.NatsError, TimeoutError):
            return False

    async def _check_same(self, found: OpenPages, deadline: float) -> None:
        """Give up if the stream was deleted or made anew: it has lost the pages that this write has put there before."""
        now = await self._pages.look(deadline)
        if now is None or now.created != found.created:
            raise errors.StoreUnreachableError("the stream of pages was deleted")
