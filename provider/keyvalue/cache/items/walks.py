"""Reads and searches of large sets and lists in slices, between which others change them. Pure.

Each of them sees the collection as it was when it began: its blocks never change, and as a listener it learns of what came and
went. `close` ends the listening. A search finds the first element at its end, not at its beginning, as it precedes a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from provider.keyvalue.cache.items.blocks import BLOCK_ITEMS, Block
from provider.keyvalue.cache.items.collections import Elements, Members
from provider.keyvalue.cache.items.item import Item, ItemValue


class _Walk:
    """A reader that listens from its beginning until `close`."""

    def __init__(self, collection: Members | Elements) -> None:
        self._collection = collection
        collection.listeners = (*collection.listeners, self)

    def close(self) -> None:
        self._collection.listeners = tuple(other for other in self._collection.listeners if other is not self)

    def came(self, item: Item) -> None:
        pass

    def went(self, item: Item) -> None:
        pass

    def had_copies(self, value: ItemValue) -> None:
        pass


class MemberWalk(_Walk):
    """The members of a set as they were at the beginning."""

    def __init__(self, members: Members) -> None:
        super().__init__(members)
        self.count = len(members)
        self._members = members
        self._blocks = members.blocks()
        self._was_there: dict[ItemValue, bool] = {}
        """By member that came or went, whether it was there at the beginning."""
        self._several: set[ItemValue] = set()
        """Members that have had several items, which are all among the blocks."""
        self._told: set[ItemValue] = set()

    def found(self, values: list[Any]) -> list[Any]:
        """Return those of some texts that were members at the beginning."""
        if not self._was_there:
            return self._members.found(values)
        return [value for value in values if self._was_there.get(value, value in self._members)]

    def parts(self, size: int = BLOCK_ITEMS) -> Iterator[list[Any]]:
        """Iterate over the members, each once, about so many at a time. The set may change in between."""
        for block in _divided(self._blocks, size):
            if self._several or self._members.has_copies:
                yield [item.value for item in block if self._is_first(item.value)]
            else:
                yield [item.value for item in block]

    def _is_first(self, value: ItemValue) -> bool:
        if value not in self._several and len(self._members.copies(value)) < 2:
            return True
        if value in self._told:
            return False
        self._told.add(value)
        return True

    def came(self, item: Item) -> None:
        self._was_there.setdefault(item.value, False)

    def went(self, item: Item) -> None:
        self._was_there.setdefault(item.value, True)

    def had_copies(self, value: ItemValue) -> None:
        self._several.add(value)


def union_parts(walks: Sequence[MemberWalk]) -> Iterator[list[Any]]:
    """Iterate over the members of any of several sets, each once, some hundreds at a time."""
    for index, walk in enumerate(walks):
        for part in walk.parts(_size_for(walks)):
            for other in walks[:index]:
                known = set(other.found(part))
                part = [value for value in part if value not in known]  # noqa: PLW2901
            yield part


def intersection_parts(walks: Sequence[MemberWalk]) -> Iterator[list[Any]]:
    """Iterate over the members that several sets have in common, some hundreds at a time."""
    smallest = min(walks, key=lambda walk: walk.count)
    others = [walk for walk in walks if walk is not smallest]
    for part in smallest.parts(_size_for(walks)):
        for other in others:
            part = other.found(part)  # noqa: PLW2901
        yield part


def element_parts(blocks: Sequence[Block]) -> Iterator[list[Any]]:
    """Iterate over the texts of elements, some hundreds at a time."""
    for block in blocks:
        yield [item.value for item in block]


def _size_for(walks: Sequence[MemberWalk]) -> int:
    """Return the number of members to look up in all other sets before others have a turn."""
    return max(1, BLOCK_ITEMS // len(walks))


def _divided(blocks: Sequence[Block], size: int) -> Iterator[Block]:
    for block in blocks:
        if len(block) <= size:
            yield block
        else:
            yield from (block[start : start + size] for start in range(0, len(block), size))


class ElementSearch(_Walk):
    """The search for the first element with a text.

    Args:
        key: Key of the list.
        elements: The list.
        text: The text.

    Attributes:
        key: Key of the list.
        elements: The list.
    """

    def __init__(self, key: str, elements: Elements, text: str) -> None:
        super().__init__(elements)
        self.key = key
        self.elements = elements
        self._text = text
        self._blocks = iter(elements.blocks())
        self._found: list[Item] = []
        """Elements with the text in the block that was searched last."""
        self._came: list[Item] = []
        """Elements with the text that have come since the beginning."""

    def step(self) -> bool:
        """Search some hundreds of elements; return whether there are more to search."""
        if self._first(self._found) is not None:
            return False
        block = next(self._blocks, None)
        self._found = [item for item in block or () if item.value == self._text and self._is_there(item)]
        return block is not None and not self._found

    def first(self) -> Item | None:
        """Return the first element with the text, or None. The search must have ended."""
        there = [item for item in (self._first(self._found), *self._came) if item is not None and self._is_there(item)]
        return min(there, key=lambda item: item.order, default=None)

    def came(self, item: Item) -> None:
        if item.value == self._text:
            self._came.append(item)

    def _first(self, items: Sequence[Item]) -> Item | None:
        return next((item for item in items if self._is_there(item)), None)

    def _is_there(self, item: Item) -> bool:
        return self.elements.get(item.dot) is item
