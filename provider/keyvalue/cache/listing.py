"""Pages of the keys of a replica: in the order of the keys for actors, in that of a checksum for components. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from zlib import crc32

from contracts.extensions import MAX_PAGE_KEYS, ListKeys, ListKeysResponse
from provider.keyvalue.byte_values import KeyPage, ListPage
from provider.keyvalue.cache.items.item import size_of
from provider.keyvalue.cache.replica import Replica


def list_keys(replica: Replica, request: ListKeys, key_prefix: str, now_ms: int) -> ListKeysResponse:
    """Return a page of an actor's keys in their order. The cursor is the last key."""
    prefix, after = key_prefix + request.prefix, key_prefix + request.cursor
    found = (key for key in _readable_keys(replica, prefix, key_prefix, now_ms) if key > after)
    keys = heapq.nsmallest(request.limit + 1, found)
    page = [key[len(key_prefix) :] for key in keys[: request.limit]]
    return ListKeysResponse(page, page[-1] if len(keys) > request.limit else "")


def list_page(replica: Replica, request: ListPage, key_prefix: str, now_ms: int) -> KeyPage:
    """Return a page of a component's keys in the order of a checksum, which every replica computes alike.

    The cursor is the least checksum of the keys that follow, so keys with the same checksum are on one page. A key that is
    there all the time is on exactly one page, whatever is added or removed meanwhile.
    """
    least = len(key_prefix)
    placed = [
        (place, key)
        for key in replica.live_keys()
        if (place := crc32(key.encode())) >= request.cursor and key.startswith(key_prefix) and len(key) > least
    ]
    ordered = heapq.nsmallest(MAX_PAGE_KEYS + 1, placed)
    ends = itertools.accumulate(size_of(key) for _, key in ordered[:MAX_PAGE_KEYS])
    fitting = max(1, sum(end <= request.max_bytes for end in ends))
    if fitting >= len(ordered):
        page, cursor = ordered, None
    else:
        # All keys up to the last one's checksum: many may have the same, if their author wants it so.
        last = ordered[fitting - 1][0]
        page = sorted(pair for pair in placed if pair[0] <= last)
        cursor = min((place for place, _ in placed if place > last), default=None)
    # Of keys whose values have expired, only those of this page are looked at.
    return KeyPage([key[least:] for _, key in page if replica.read(key, now_ms) is not None], cursor)


def _readable_keys(replica: Replica, prefix: str, key_prefix: str, now_ms: int) -> Iterator[str]:
    """Iterate over the keys that begin with a text, are longer than the link's prefix, and have a value."""
    return (
        key
        for key in replica.live_keys()
        if key.startswith(prefix) and len(key) > len(key_prefix) and replica.read(key, now_ms) is not None
    )
