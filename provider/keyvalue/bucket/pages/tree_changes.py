"""The changes of a tree of pages: how each divides among the children of a node, and its effect on a leaf. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from provider.keyvalue.bucket.pages.page_codec import Child
from provider.keyvalue.bucket.pages.paged_value import DamagedPageError


class TreeChange(Protocol):
    """A change below one node."""

    def route(self, children: Sequence[Child]) -> dict[int, TreeChange]:
        """Divide the change among the children of a node; return the share of each child that has one."""
        ...

    def apply(self, leaf: Child, elements: list[str]) -> tuple[list[str], bool]:
        """Return the elements of a leaf after the change, and whether all new ones stand behind the old ones."""
        ...


class Append:
    """Elements to put at the end of a list."""

    def __init__(self, elements: Sequence[str]) -> None:
        self.elements = elements

    def route(self, children: Sequence[Child]) -> dict[int, TreeChange]:
        return {len(children) - 1: self}

    def apply(self, leaf: Child, elements: list[str]) -> tuple[list[str], bool]:
        return [*elements, *self.elements], True


class DeleteAt:
    """The deletion of the element at a position of a list."""

    def __init__(self, position: int) -> None:
        self._position = position

    def route(self, children: Sequence[Child]) -> dict[int, TreeChange]:
        ends = list(itertools.accumulate(child.length for child in children))
        index = bisect_right(ends, self._position)
        return {index: DeleteAt(self._position - ends[index] + children[index].length)}

    def apply(self, leaf: Child, elements: list[str]) -> tuple[list[str], bool]:
        return elements[: self._position] + elements[self._position + 1 :], False


class UpdateSet:
    """Members to add and to remove.

    Args:
        added: Texts that are not members, in ascending order.
        removed: Members, in ascending order.
    """

    def __init__(self, added: Sequence[str], removed: Sequence[str]) -> None:
        self._added = added
        self._removed = removed

    def route(self, children: Sequence[Child]) -> dict[int, TreeChange]:
        lows = [child.low for child in children[1:]]
        shares: dict[int, tuple[list[str], list[str]]] = {}
        for member in self._added:
            shares.setdefault(bisect_right(lows, member), ([], []))[0].append(member)
        for member in self._removed:
            shares.setdefault(bisect_right(lows, member), ([], []))[1].append(member)
        return {index: UpdateSet(*share) for index, share in sorted(shares.items())}

    def apply(self, leaf: Child, elements: list[str]) -> tuple[list[str], bool]:
        is_append = not self._removed and self._added[0] > elements[-1]
        changed = list(elements)
        # The buffer of a head that a provider wrote agrees with the tree.
        for member in self._removed:
            index = bisect_left(changed, member)
            if index == len(changed) or changed[index] != member:
                raise DamagedPageError(leaf.page_id, "contradicts the head's recent changes")
            del changed[index]
        for member in self._added:
            index = bisect_left(changed, member)
            if index < len(changed) and changed[index] == member:
                raise DamagedPageError(leaf.page_id, "contradicts the head's recent changes")
            changed.insert(index, member)
        return changed, is_append
