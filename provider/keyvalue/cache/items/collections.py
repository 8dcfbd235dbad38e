"""The sets and lists of a cell. Pure.

A replica drops a large one in slices: `pop_blocks`, after it was taken out of its cell.
"""

from __future__ import annotations

from collections.abc import Collection as AbstractCollection
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol, Self

from provider.keyvalue.cache.causality import Dot
from provider.keyvalue.cache.items.blocks import Block, Blocks
from provider.keyvalue.cache.items.dots import DottedItems
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, ItemValue

order_of = attrgetter("order")

_SHARDS_FROM = 16_384
_SHARDS = 256
"""A dict of a million texts takes 20 ms to grow. So the members of a large set are in many dicts, of some thousands each."""


class Listener(Protocol):
    """The reader of a collection that others change meanwhile; see `walks`."""

    def came(self, item: Item) -> None:
        """Note that an item has come into view: an element, or the first item of a member."""

    def went(self, item: Item) -> None:
        """Note that such an item has gone."""

    def had_copies(self, value: ItemValue) -> None:
        """Note that a member with several items has one less."""


def _first_order_of(block: Block) -> tuple[int, str, int]:
    return block[0].order


class Collection:
    """The items of a set or a list.

    Attributes:
        listeners: Its readers that take more than one turn.
    """

    __slots__ = ("_items", "listeners")

    def __init__(self) -> None:
        self._items = DottedItems()
        self.listeners: tuple[Listener, ...] = ()

    @property
    def count(self) -> int:
        """Number of items."""
        return self._items.count

    @property
    def size_bytes(self) -> int:
        return self._items.size_bytes

    @property
    def text_bytes(self) -> int:
        """Size of the texts of all items in UTF-8."""
        return self._items.size_bytes - BOOKKEEPING_BYTES * self._items.count

    def get(self, dot: Dot) -> Item | None:
        return self._items.get(dot)

    def add(self, item: Item) -> None:
        raise NotImplementedError

    def remove(self, dot: Dot) -> Item | None:
        """Remove an item and return it, or None if it is not here."""
        raise NotImplementedError

    def between(self, after: Dot | None, until: Dot | None) -> Iterator[Item]:
        """Iterate in the order of dots over the items behind one dot, up to another one; see `DottedItems`."""
        return self._items.between(after, until)

    def counts(self) -> dict[str, int]:
        return self._items.counts()

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self | None:
        """Return a collection of some items, or None."""
        collection = cls()
        for item in items:
            collection.add(item)
        return collection if collection.count else None

    def without(self, vector: Mapping[str, int]) -> Self | None:
        """Remove the items of events that a version vector has; return the rest, or None.

        That may be another collection, and this one is then of no use but to be read to the end. The time that it takes follows the
        number of the items that go or of those that stay, whichever is less: no event can make it longer than the events
        that added the items.
        """
        count = self._items.count_in(vector)
        if self.count - count < count:
            return self.of(self._items.beyond(vector))
        for dot in [item.dot for item in self._items.within(vector)]:
            self.remove(dot)
        return self

    def latest(self) -> tuple[int, str, int]:
        return self._items.latest()

    def pop_blocks(self, count: int) -> bool:
        """Drop about so many blocks; return whether there are more."""
        return self._items.pop_blocks(count)


class Members(Collection):
    """The members of a set. A member that several replicas added concurrently has several items; one of them is in view."""

    __slots__ = ("_by_value", "_copies", "_shards")

    def __init__(self) -> None:
        super().__init__()
        self._by_value: dict[ItemValue, Item] = {}
        self._shards: list[dict[ItemValue, Item]] | None = None
        self._copies: dict[ItemValue, list[Item]] = {}
        """By member with several items, those that are not in view."""

    def __len__(self) -> int:
        """Return the number of members."""
        return self.count - sum(map(len, self._copies.values())) if self._copies else self.count

    def __contains__(self, value: object) -> bool:
        return value in self._index(value)

    def __iter__(self) -> Iterator[ItemValue]:
        return chain.from_iterable(self._shards) if self._shards is not None else iter(self._by_value)

    def found(self, values: Iterable[ItemValue]) -> list[Any]:
        """Return those of some texts that are members."""
        if (shards := self._shards) is None:
            by_value = self._by_value
            return [value for value in values if value in by_value]
        return [value for value in values if value in shards[hash(value) % _SHARDS]]

    def copies(self, value: ItemValue) -> list[Item]:
        """Return all items of a member."""
        item = self._index(value).get(value)
        return [] if item is None else [item, *self._copies.get(value, ())] if self._copies else [item]

    def by_value(self) -> AbstractCollection[ItemValue]:
        """Return a container of the members."""
        return self._by_value if self._shards is None else self

    def add(self, item: Item) -> None:
        self._items.add(item)
        index = self._index(item.value)
        if item.value in index:
            self._copies.setdefault(item.value, []).append(item)
            return
        index[item.value] = item
        if self._shards is None and len(index) > _SHARDS_FROM:
            self._divide()
        for listener in self.listeners:
            listener.came(item)

    def remove(self, dot: Dot) -> Item | None:
        item = self._items.remove(dot)
        if item is None:
            return None
        index, copies = self._index(item.value), self._copies.get(item.value) if self._copies else None
        if copies is None:
            del index[item.value]
            for listener in self.listeners:
                listener.went(item)
            return item
        for listener in self.listeners:
            listener.had_copies(item.value)
        if index[item.value] is item:
            index[item.value] = copies.pop()
        else:
            copies.remove(item)
        if not copies:
            del self._copies[item.value]
        return item

    def blocks(self) -> list[Block]:
        """Return the items as they are now, in blocks that never change; all of a member with several are among them."""
        return self._items.blocks()

    @property
    def has_copies(self) -> bool:
        """True if some member has several items."""
        return bool(self._copies)

    def pop_blocks(self, count: int) -> bool:
        self._copies.clear()
        if self._shards:
            del self._shards[-count:]
            return True
        self._by_value, self._shards = {}, None
        return super().pop_blocks(count)

    def _index(self, value: object) -> dict[ItemValue, Item]:
        return self._by_value if self._shards is None else self._shards[hash(value) % _SHARDS]

    def _divide(self) -> None:
        self._shards = [{} for _ in range(_SHARDS)]
        for value, item in self._by_value.items():
            self._shards[hash(value) % _SHARDS][value] = item
        self._by_value = {}


class Elements(Collection):
    """The elements of a list, the oldest first. It is a sequence of their texts."""

    __slots__ = ("_ordered",)

    def __init__(self) -> None:
        super().__init__()
        self._ordered = Blocks(order_of, _first_order_of)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[ItemValue]:
        return (item.value for item in self._ordered)

    def __getitem__(self, positions: slice) -> list[Any]:
        """Return the texts from a position, which is not negative, up to another one."""
        return [item.value for block in self.positions(positions.start, positions.stop) for item in block]

    def add(self, item: Item) -> None:
        self._items.add(item)
        self._ordered.add(item)
        for listener in self.listeners:
            listener.came(item)

    def remove(self, dot: Dot) -> Item | None:
        item = self._items.remove(dot)
        if item is not None:
            self._ordered.remove(item.order)
            for listener in self.listeners:
                listener.went(item)
        return item

    def first(self, text: str) -> Item | None:
        """Return the first element with a text, or None."""
        return next((item for item in self._ordered if item.value == text), None)

    def blocks(self) -> list[Block]:
        """Return the elements as they are now, in blocks that never change."""
        return self._ordered.blocks()

    def positions(self, start: int, stop: int) -> list[Block]:
        """Return the elements from a position up to, but not with, another one, in blocks that never change."""
        return self._ordered.positions(start, stop)

    def pop_blocks(self, count: int) -> bool:
        has_more = self._ordered.pop_blocks(count)
        return super().pop_blocks(count) or has_more
