"""The cache of pages: bounded, and without a page of another stream or key."""

from __future__ import annotations

from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.paged_value import PageId

PAGE = PageId("hash.op.0")


def test_the_pages_used_last_stay() -> None:
    cache = PageCache(5000)
    for number in range(4):
        cache.put((0, "k", PageId(f"h.o.{number}")), bytes(1000))
        assert cache.get((0, "k", PageId("h.o.0"))) is not None
    assert cache.size <= 5000
    assert cache.get((0, "k", PageId("h.o.1"))) is None
    assert cache.get((0, "k", PageId("h.o.3"))) is not None


def test_a_page_is_that_of_its_stream_and_its_key() -> None:
    cache = PageCache()
    first, second = cache.new_space(), cache.new_space()
    cache.put((first, "k", PAGE), b"page")
    assert cache.get((second, "k", PAGE)) is None
    assert cache.get((first, "other", PAGE)) is None
    assert cache.get((first, "k", PAGE)) == b"page"


def test_a_page_that_is_dropped_or_too_large_takes_no_room() -> None:
    cache = PageCache(1000)
    cache.put((0, "k", PAGE), bytes(500))
    cache.put((0, "k", PAGE), bytes(600))
    cache.drop((0, "k", PAGE))
    cache.put((0, "k", PAGE), bytes(2000))
    assert (cache.size, cache.get((0, "k", PAGE))) == (0, None)
