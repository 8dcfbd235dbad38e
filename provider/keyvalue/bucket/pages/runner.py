"""Carries out operations on paged values over a store of pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

from provider.keyvalue.bucket.pages.head import is_page_id
from provider.keyvalue.bucket.pages.page_codec import hash_prefix
from provider.keyvalue.bucket.pages.paged_value import (
    AbsentPageError,
    DamagedPageError,
    Operation,
    PageId,
    PageStore,
    Wanted,
    key_hash,
)

Result = TypeVar("Result")


_PAGES_PER_PAUSE = 32
"""Pages after which an operation lets others go on, if all of them were cached: it takes about two milliseconds for them."""


class TooManyPagesError(Exception):
    """An operation was ended because it asked for more pages than it may read in one go."""


class PageRunner:
    """Carries out operations.

    Args:
        pages: The pages of a bucket.
    """

    def __init__(self, pages: PageStore) -> None:
        self.pages = pages

    async def run(
        self,
        bucket_keys: Sequence[str],
        operation: Operation[Result],
        deadline: float,
        most_pages: int | None = None,
    ) -> Result:
        """Carry out an operation and return its result.

        Args:
            bucket_keys: The keys whose pages it may read, as stored.
            operation: The operation.
            deadline: On the event loop's clock.
            most_pages: Number of pages that it may ask for; `None`: any number.

        Raises:
            AbsentPageError: A page is not there, or belongs to another key.
            DamagedPageError: A page is not what a provider could have written.
            TooManyPagesError: The operation needs more pages than it may ask for.
            errors.StoreError: The pages could not be read; or as the operation says.
        """
        keys = {key_hash(bucket_key) + ".": bucket_key for bucket_key in bucket_keys}
        asked = paused_at = 0
        try:
            wanted = next(operation)
            while True:
                asked += len(wanted.now)
                if most_pages is not None and asked > most_pages:
                    raise TooManyPagesError
                if not wanted.now or asked - paused_at >= _PAGES_PER_PAUSE:
                    paused_at = asked
                    await asyncio.sleep(0)
                wanted = operation.send(await self._read(keys, wanted, deadline) if wanted.now else {})
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            operation.close()

    async def _read(self, keys: Mapping[str, str], wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        for page_id in (*wanted.now, *wanted.soon):
            # An id from a page may have anything in it, and becomes a subject.
            if not is_page_id(page_id):
                raise DamagedPageError(PageId(page_id[:80]), "has a name that no page has")
        by_key: dict[str, tuple[list[PageId], list[PageId]]] = {}
        for page_id in wanted.now:
            # A head that was copied from another key, or crafted, must not read that key's pages.
            bucket_key = keys.get(hash_prefix(page_id))
            if bucket_key is None:
                raise AbsentPageError(page_id)
            by_key.setdefault(bucket_key, ([], []))[0].append(page_id)
        for page_id in wanted.soon:
            bucket_key = keys.get(hash_prefix(page_id))
            if bucket_key in by_key:
                by_key[bucket_key][1].append(page_id)
        reads = [
            self.pages.read(bucket_key, Wanted(tuple(now), tuple(soon)), deadline)
            for bucket_key, (now, soon) in by_key.items()
        ]
        if len(reads) == 1:
            return await reads[0]
        found: dict[PageId, bytes] = {}
        for pages in await asyncio.gather(*reads):
            found.update(pages)
        return found
