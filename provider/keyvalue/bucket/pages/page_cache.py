"""The pages that this process has read or written last. Pure."""

from __future__ import annotations

import itertools
from collections import OrderedDict

from provider.keyvalue.bucket.pages.paged_value import PageId

CACHED_PAGE_BYTES = 32 * 1024 * 1024
"""Size of all cached pages of a process: the tree of a set of a million members of 30 bytes fits."""

_OVERHEAD_BYTES = 300
"""Memory of an entry beside its page: the id, the objects around both, the place in the table."""

_Place = tuple[int, str, PageId]
"""Name space, key as stored, and id. The key is part of it, since a page is of use under its own key only."""


class PageCache:
    """The pages used last, of all buckets of a process. A page never changes, so a cached one is never stale.

    Args:
        most_bytes: Greatest size of all pages together.
    """

    def __init__(self, most_bytes: int = CACHED_PAGE_BYTES) -> None:
        self.size = 0
        self._most_bytes = most_bytes
        self._pages: OrderedDict[_Place, bytes] = OrderedDict()
        self._spaces = itertools.count()

    def new_space(self) -> int:
        """Return the number of a new name space: of a stream that was found, or was found to be another one than before."""
        return next(self._spaces)

    def get(self, place: _Place) -> bytes | None:
        page = self._pages.get(place)
        if page is not None:
            self._pages.move_to_end(place)
        return page

    def put(self, place: _Place, page: bytes) -> None:
        """Remember a page; forget those that were not used for longest if there is no room."""
        size = len(page) + _OVERHEAD_BYTES
        if size > self._most_bytes:
            return
        self.drop(place)
        self._pages[place] = page
        self.size += size
        while self.size > self._most_bytes:
            _, oldest = self._pages.popitem(last=False)
            self.size -= len(oldest) + _OVERHEAD_BYTES

    def drop(self, place: _Place) -> None:
        """Forget a page that will not be used again."""
        page = self._pages.pop(place, None)
        if page is not None:
            self.size -= len(page) + _OVERHEAD_BYTES
