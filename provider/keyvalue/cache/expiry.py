"""The removal of expired items, so that they take no room. Reads do not see an item from the moment it expires. Pure."""

from __future__ import annotations

import heapq
import itertools

from provider.keyvalue.cache.causality import MAX_DRIFT_MS, by_replica
from provider.keyvalue.cache.items.cells import Tally
from provider.keyvalue.cache.items.item import Item
from provider.keyvalue.cache.messages import Event
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.state import removal_of

_SLICE = 500
"""Items removed at a time, so that calls do not wait for more than a few milliseconds."""

_MIN_ENTRIES = 1024
"""Entries from which the queue is searched for obsolete ones; fewer are not worth the search."""


class ExpiryQueue:
    """The items that are to expire, in the order in which they do.

    Args:
        replica: Replica that holds them.

    Attributes:
        grace_ms: Time that an item of another replica is kept beyond its expiry. Its own replica removes it first, by
            the clock that counts; the others do only in case that replica has ended.
    """

    def __init__(self, replica: Replica) -> None:
        self.grace_ms = MAX_DRIFT_MS
        self._replica = replica
        self._entries: list[tuple[int, int, str, Item]] = []
        self._numbers = itertools.count()
        """Numbers that make entries comparable when they expire at the same moment."""
        self._kept = 0
        """Entries that the last search has left."""

    def add(self, key: str, item: Item) -> None:
        """Add an item that expires."""
        grace_ms = 0 if item.replica == self._replica.id else self.grace_ms
        heapq.heappush(self._entries, (item.expires_at_ms + grace_ms, next(self._numbers), key, item))
        # Items that are overwritten leave their entries behind. Search for them when the queue has doubled, so that the
        # search costs a constant time for each addition.
        if len(self._entries) > 2 * self._kept + _MIN_ENTRIES:
            self._entries = [entry for entry in self._entries if self._is_present(entry[2], entry[3])]
            heapq.heapify(self._entries)
            self._kept = len(self._entries)

    def remove_due(self, now_ms: int) -> bool:
        """Remove the items that have expired, a limited number at a time; return whether there are more."""
        for _ in range(_SLICE):
            if not self._entries or self._entries[0][0] > now_ms:
                return False
            _, _, key, item = heapq.heappop(self._entries)
            remove_expired(self._replica, key, item, now_ms)
        return True

    def _is_present(self, key: str, item: Item) -> bool:
        cell = self._replica.cells.get(key)
        return cell is not None and (cell.has(item.dot) or cell.tally(item.dot) is not None)


def remove_expired(replica: Replica, key: str, item: Item, now_ms: int) -> None:
    """Remove a text that has expired, with its siblings of earlier times and the tallies on them, or an expired tally.

    No caller has asked for this removal, so everything else stays: values of other kinds, increments on other texts,
    later texts.

    Args:
        replica: Replica that commits the removal, unless the item is gone already.
        key: Key of the item.
        item: The text, or an item that stands for a tally; see `ReplicaState`.
        now_ms: Time of this machine, in milliseconds since 1970.
    """
    cell = replica.cells.get(key)
    if cell is None or not 0 < item.expires_at_ms <= now_ms:
        return
    texts = cell.texts()
    expired = [text for text in texts if text.order <= item.order] if cell.has(item.dot) else []
    expired_dots, text_dots = {text.dot for text in expired}, {text.dot for text in texts}

    def has_expired(tally: Tally) -> bool:
        """Tell whether a tally goes: with the text that it counts on, or on its own."""
        is_meant = (tally.replica, tally.start) == item.dot and tally.base not in text_dots
        return tally.base in expired_dots or (is_meant and 0 < tally.expires_at_ms <= now_ms)

    tallies = [tally for tally in cell.live_tallies() if has_expired(tally)]
    if expired or tallies:
        removes = by_replica(text.dot for text in expired)
        removals = [removal_of(tally) for tally in tallies]
        replica.commit(Event(replica.clock.tick(now_ms), key, None, removes, removals))
