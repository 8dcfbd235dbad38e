"""Reads of pages: from the cache, from any replica, and the proof that a page is absent.

A replica may not have a page yet, and a leader that was cut off says "no message" of pages that were acknowledged seconds
before. So only the leader is believed that a page is absent, and only under the read lease of the pages' stream. That lease is
not the bucket's: the two streams have leaders of their own.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping

from provider import errors
from provider.keyvalue.bucket.failures import refusal, store_error
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, PageId, Wanted
from provider.keyvalue.bucket.pages.pages_stream import OpenPages, PagesStream
from provider.nats.frames import header_value
from provider.tasks import TaskOwner

PAGE_OF = b"Kv-Page-Of"
"""Header of a page: the key, as stored, that it is a part of. No head under another key may use it."""

_FIRST_ATTEMPT_SECONDS = 0.7
"""Time for the first attempt to read a page, doubled for each further one: a slow network may need longer for many pages."""

_PAUSE_SECONDS = 0.02
"""Pause between attempts: at most fifty a second while there is no leader."""

_REQUESTS_AT_ONCE = 64
"""Requests for pages that a bucket has under way: enough to hide the round trips. The others wait for their turn."""

_AHEAD_BYTES = 4 * 1024 * 1024
"""Pages that one read asks for ahead of their use: what an operation that ends early has read for nothing."""

_MOST_KEPT_BYTES = 64 * 1024
"""Largest page that stays in the cache once it was used. The pages of a tree are smaller; those of one large text would
displace the trees of all other keys, and are seldom read twice."""

_Fetched = bytes | errors.StoreError | AbsentPageError


class PageReader:
    """The reads of one bucket's pages.

    Args:
        pages: The stream of the pages.
        cache: The cache of the process.
        tasks: Owner of the reads that run ahead.
    """

    def __init__(self, pages: PagesStream, cache: PageCache, tasks: TaskOwner) -> None:
        self._pages = pages
        self._cache = cache
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._turns = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self._fetching: dict[tuple[PageId, str], asyncio.Future[_Fetched]] = {}
        """The reads under way, by page and key."""
        self._found: OpenPages | None = None
        self._space = 0

    async def read(self, bucket_key: str, wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        """Return pages; see `paged_value.PageStore`."""
        found = await self._pages.to_read(deadline)
        if found is None:
            raise AbsentPageError(wanted.now[0])
        space = self._space_of(found)
        pages: dict[PageId, bytes] = {}
        waiting: dict[PageId, asyncio.Future[_Fetched]] = {}
        # All requests go out before the first answer is awaited.
        for page_id in wanted.now:
            cached = self._cache.get((space, bucket_key, page_id))
            if cached is not None and len(cached) <= _MOST_KEPT_BYTES:
                pages[page_id] = cached
            else:
                waiting[page_id] = self._begin(found, bucket_key, page_id, deadline)
        for page_id, future in waiting.items():
            pages[page_id] = await self._finish(found, bucket_key, page_id, future, deadline)
        self._read_ahead(found, bucket_key, wanted, deadline, max((len(page) for page in pages.values()), default=1))
        return pages

    def remember(self, found: OpenPages, bucket_key: str, page_id: PageId, page: bytes) -> None:
        """Keep a page that was just written: the next operation on its key will probably read it."""
        if len(page) <= _MOST_KEPT_BYTES:
            self._cache.put((self._space_of(found), bucket_key, page_id), page)

    def _read_ahead(self, found: OpenPages, bucket_key: str, wanted: Wanted, deadline: float, page_bytes: int) -> None:
        """Begin to read the next pages, taking them to be as large as those that were just read."""
        for page_id in wanted.soon[: max(1, _AHEAD_BYTES // max(page_bytes, 1))][:_REQUESTS_AT_ONCE]:
            self._begin(found, bucket_key, page_id, deadline)

    def _begin(self, found: OpenPages, bucket_key: str, page_id: PageId, deadline: float) -> asyncio.Future[_Fetched]:
        """Return the read of a page: of the cache, or the one that is under way, or a new one."""
        cached = self._cache.get((self._space_of(found), bucket_key, page_id))
        if cached is not None:
            done: asyncio.Future[_Fetched] = self._loop.create_future()
            done.set_result(cached)
            return done
        under_way = self._fetching.get((page_id, bucket_key))
        if under_way is None:
            under_way = self._fetching[page_id, bucket_key] = self._loop.create_future()
            self._tasks.start(self._fetch_into(under_way, found, bucket_key, page_id, deadline), "read a page")
        return under_way

    async def _finish(
        self,
        found: OpenPages,
        bucket_key: str,
        page_id: PageId,
        future: asyncio.Future[_Fetched],
        deadline: float,
    ) -> bytes:
        fetched = await asyncio.shield(future)
        if isinstance(fetched, errors.StoreError) and self._loop.time() < deadline - _PAUSE_SECONDS:
            # A read that another caller began ended at that caller's deadline.
            fetched = await self._fetched(found, bucket_key, page_id, deadline)
        if not isinstance(fetched, bytes):
            # A copy, as an error keeps the frames that it passes, and they name the one of the future.
            raise copy.copy(fetched)
        if len(fetched) > _MOST_KEPT_BYTES:
            self._cache.drop((self._space_of(found), bucket_key, page_id))
        return fetched

    async def _fetch_into(
        self, future: asyncio.Future[_Fetched], found: OpenPages, bucket_key: str, page_id: PageId, deadline: float
    ) -> None:
        try:
            async with self._turns:
                fetched = await self._fetched(found, bucket_key, page_id, deadline)
            if isinstance(fetched, bytes):
                # Large ones too, until they are used: they may have been read ahead.
                self._cache.put((self._space_of(found), bucket_key, page_id), fetched)
            if not future.done():
                future.set_result(fetched)
        finally:
            del self._fetching[page_id, bucket_key]
            future.cancel()

    async def _fetched(self, found: OpenPages, bucket_key: str, page_id: PageId, deadline: float) -> _Fetched:
        """Read a page until there is an answer or the deadline comes; return it, or the error of its readers."""
        began, seconds = self._loop.time(), _FIRST_ATTEMPT_SECONDS
        current: OpenPages | None = found
        while current is not None:
            try:
                return await self._attempt(current, bucket_key, page_id, min(deadline, self._loop.time() + seconds))
            except AbsentPageError as error:
                return errors.bare(error)
            except (errors.NatsError, TimeoutError) as error:
                if refusal(error) is not None or self._loop.time() + _PAUSE_SECONDS >= deadline:
                    return errors.bare(store_error(error, self._loop.time() - began))
                is_missed = isinstance(error, errors.NoRespondersError)
            if is_missed:
                # No server answers for the stream: it has no leader, or it is gone with all its pages.
                try:
                    current = await self._pages.look(deadline)
                except errors.StoreError as failure:
                    return errors.bare(failure)
            seconds *= 2
            await asyncio.sleep(_PAUSE_SECONDS)
        return AbsentPageError(page_id)

    async def _attempt(self, found: OpenPages, bucket_key: str, page_id: PageId, deadline: float) -> bytes:
        stream, reader = found.stream, found.reader
        # 1. Any replica that has the page will do: it never changes.
        if stream.traits.allows_direct and not stream.is_mirrored:
            subject = reader.direct_subject + page_id.encode()
            header, page = await stream.jetstream.connection.request(subject, deadline=deadline)
            if reader.is_found(header):
                return _checked(bucket_key, page_id, header, page)
        # 2. The replica may be behind, or a mirror may have answered in its place: ask the leader.
        message = await stream.jetstream.last_message(stream.name, stream.subject_prefix + page_id, deadline)
        if message is not None:
            return _checked(bucket_key, page_id, message.header, message.payload)
        # 3. The leader may have been deposed: its answer counts only under the lease.
        if not (await reader.strong(page_id, deadline)).revision:
            raise AbsentPageError(page_id)
        raise TimeoutError  # the page is there after all: read it again

    def _space_of(self, found: OpenPages) -> int:
        """Return the name space of a stream in the cache. That of another stream is new: its pages are not there."""
        if self._found is None or self._found.stream is not found.stream:
            self._space = self._cache.new_space()
        self._found = found
        return self._space


def _checked(bucket_key: str, page_id: PageId, header: bytes, page: bytes) -> bytes:
    """Return a page if it belongs to the key. A head that was copied from another key, or forged, must not read others' pages."""
    if header_value(header, PAGE_OF) != bucket_key.encode():
        raise AbsentPageError(page_id)
    return page
