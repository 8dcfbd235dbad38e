"""Items in order, in blocks. Pure.

Blocks are tuples, which never change: a list of them is a snapshot that costs nothing. Adding or removing an item makes one block
anew. The newest items stand in a list, as nearly all are added at the end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from provider.keyvalue.cache.items.item import Item

Block = tuple[Item, ...]

BLOCK_ITEMS = 512
"""Items in a block: copying it takes a few microseconds, and a million items are 2,000 blocks."""


class Blocks:
    """A number of items in the order of a key, which no two of them share.

    Args:
        key: Function that returns the key of an item.
        first_key: Function that returns the key of the first item of a block.
    """

    __slots__ = ("_first_key", "_key", "_newest", "_sealed")

    def __init__(self, key: Callable[[Item], Any], first_key: Callable[[Block], Any]) -> None:
        self._key = key
        self._first_key = first_key
        self._sealed: list[Block] = []
        self._newest: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all items. There must be no change meanwhile."""
        return chain(chain.from_iterable(self._sealed), self._newest) if self._sealed else iter(self._newest)

    @property
    def last(self) -> Item | None:
        """The last item, or None."""
        if self._newest:
            return self._newest[-1]
        return self._sealed[-1][-1] if self._sealed else None

    def blocks(self) -> list[Block]:
        """Return all items as they are now, in blocks that never change."""
        return [*self._sealed, tuple(self._newest)] if self._newest else self._sealed.copy()

    def add(self, item: Item) -> bool:
        """Add an item; return whether it is the last one."""
        newest, key = self._newest, self._key(item)
        last = newest[-1] if newest else self.last
        if last is None or key > self._key(last):
            newest.append(item)
            if len(newest) >= BLOCK_ITEMS:
                self._seal()
            return True
        index = self._index(key)
        if index < 0:
            newest.insert(bisect_left(newest, key, key=self._key), item)
            if len(newest) >= BLOCK_ITEMS:
                self._seal()
            return False
        block = self._sealed[index]
        at = bisect_left(block, key, key=self._key)
        block = (*block[:at], item, *block[at:])
        if len(block) < 2 * BLOCK_ITEMS:
            self._sealed[index] = block
        else:
            self._sealed[index : index + 1] = [block[:BLOCK_ITEMS], block[BLOCK_ITEMS:]]
        return False

    def get(self, key: Any) -> Item | None:
        """Return the item with a key, or None."""
        index = self._index(key)
        block = self._newest if index < 0 else self._sealed[index]
        at = bisect_left(block, key, key=self._key)
        return block[at] if at < len(block) and self._key(block[at]) == key else None

    def remove(self, key: Any) -> Item | None:
        """Remove the item with a key and return it, or None."""
        index = self._index(key)
        block = self._newest if index < 0 else self._sealed[index]
        at = bisect_left(block, key, key=self._key)
        if at == len(block) or self._key(block[at]) != key:
            return None
        item = block[at]
        if index < 0:
            del self._newest[at]
        else:
            self._put(index, self._sealed[index][:at] + self._sealed[index][at + 1 :])
        return item

    def between(self, after: Any, until: Any) -> Iterator[Item]:
        """Iterate over the items behind one key, up to another one or to the end. There must be no change meanwhile.

        Args:
            after: Key before the first item; None: from the first one.
            until: Key of the last item, or one behind it; None: to the last one.
        """
        key = self._key
        first = 0 if after is None else max(bisect_right(self._sealed, after, key=self._first_key) - 1, 0)
        for index in range(first, len(self._sealed) + 1):
            block = self._sealed[index] if index < len(self._sealed) else self._newest
            start = 0 if after is None else bisect_right(block, after, key=key)
            end = len(block) if until is None else bisect_right(block, until, key=key)
            yield from block[start:end]
            if end < len(block):
                return

    def count_until(self, key: Any) -> int:
        """Return the number of items up to a key."""
        index = bisect_right(self._sealed, key, key=self._first_key)
        if index == len(self._sealed) and self._newest and self._key(self._newest[0]) <= key:
            return sum(map(len, self._sealed)) + bisect_right(self._newest, key, key=self._key)
        if not index:
            return 0
        return sum(map(len, self._sealed[: index - 1])) + bisect_right(self._sealed[index - 1], key, key=self._key)

    def positions(self, start: int, stop: int) -> list[Block]:
        """Return the items from a position up to, but not with, another one, in blocks that never change."""
        if not self._sealed:
            return [tuple(self._newest[start:stop])]
        found: list[Block] = []
        at = 0
        for block in (*self._sealed, self._newest):
            end = at + len(block)
            if end > start:
                found.append(tuple(block[max(start - at, 0) : stop - at]))
            at = end
            if at >= stop:
                break
        return found

    def pop_blocks(self, count: int) -> bool:
        """Drop a number of blocks from the end; return whether there are more. The rest is of no use but to be dropped."""
        self._newest.clear()
        del self._sealed[-count:]
        return bool(self._sealed)

    def _index(self, key: Any) -> int:
        """Return the index of the sealed block where a key belongs; -1: it belongs to the newest items."""
        if not self._sealed or (self._newest and key >= self._key(self._newest[0])):
            return -1
        return max(bisect_right(self._sealed, key, key=self._first_key) - 1, 0)

    def _seal(self) -> None:
        self._sealed.append(tuple(self._newest))
        self._newest = []

    def _put(self, index: int, block: Block) -> None:
        """Put a block that has become smaller in its place; join it with the next one if both are small."""
        following = self._sealed[index + 1] if index + 1 < len(self._sealed) else ()
        if following and len(block) + len(following) <= BLOCK_ITEMS // 2:
            self._sealed[index : index + 2] = [block + following]
        else:
            self._sealed[index : index + 1] = [block] if block else []
