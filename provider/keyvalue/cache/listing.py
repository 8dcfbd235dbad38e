"""Pages of the keys of a replica: in the order of the keys for actors, in that of a hash for components. Pure."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator

from contracts.extensions import MAX_PAGE_KEYS, ListKeys, ListKeysResponse
from provider.keyvalue.byte_values import KeyPage, ListPage
from provider.keyvalue.cache.cells import size_of
from provider.keyvalue.cache.replica import Replica


def list_keys(replica: Replica, request: ListKeys, key_prefix: str, now_ms: int) -> ListKeysResponse:
    """Return a page of an actor's keys in their order. The cursor is the last key."""
    prefix, after = key_prefix + request.prefix, key_prefix + request.cursor
    found = (key for key in _readable_keys(replica, prefix, key_prefix, now_ms) if key > after)
    keys = heapq.nsmallest(request.limit + 1, found)
    page = [key[len(key_prefix) :] for key in keys[: request.limit]]
    return ListKeysResponse(page, page[-1] if len(keys) > request.limit else "")


def list_page(replica: Replica, request: ListPage, key_prefix: str, now_ms: int) -> KeyPage:
    """Return a page of a component's keys in the order of a hash of 64 bits, which every replica computes alike.

    The cursor is the least hash of the keys that follow, so keys with the same hash are on one page. A key that is there
    all the time is on exactly one page, whatever is added or removed meanwhile.
    """
    found = ((_place(key), key) for key in _readable_keys(replica, key_prefix, key_prefix, now_ms))
    ordered = heapq.nsmallest(MAX_PAGE_KEYS + 1, (pair for pair in found if pair[0] >= request.cursor))
    ends = itertools.accumulate(size_of(key) for _, key in ordered[:MAX_PAGE_KEYS])
    fitting = max(1, sum(end <= request.max_bytes for end in ends))
    while fitting < len(ordered) and ordered[fitting][0] == ordered[fitting - 1][0]:
        fitting += 1
    cursor = ordered[fitting][0] if fitting < len(ordered) else None
    return KeyPage([key[len(key_prefix) :] for _, key in ordered[:fitting]], cursor)


def _place(key: str) -> int:
    """Return the place of a key in the order of a component's pages."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _readable_keys(replica: Replica, prefix: str, key_prefix: str, now_ms: int) -> Iterator[str]:
    """Iterate over the keys that begin with a text, are longer than the link's prefix, and have a value."""
    return (
        key
        for key in replica.live_keys()
        if key.startswith(prefix) and len(key) > len(key_prefix) and replica.read(key, now_ms) is not None
    )
