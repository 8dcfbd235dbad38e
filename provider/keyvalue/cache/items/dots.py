"""Items by their dots: of each replica in the order of its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter

from provider.keyvalue.cache.causality import Dot
from provider.keyvalue.cache.items.blocks import Block, Blocks
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, size_of

_count_of = attrgetter("count")


def _first_count_of(block: Block) -> int:
    return block[0].count


class DottedItems:
    """A number of items.

    Attributes:
        count: Number of items.
        size_bytes: Size of their values in UTF-8, plus `BOOKKEEPING_BYTES` for each.
    """

    __slots__ = ("_runs", "count", "size_bytes")

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0
        self._runs: dict[str, Blocks] = {}
        """By replica, its items in the order of its events."""

    def __iter__(self) -> Iterator[Item]:
        for run in self._runs.values():
            yield from run

    def get(self, dot: Dot) -> Item | None:
        run = self._runs.get(dot[0])
        return run.get(dot[1]) if run is not None else None

    def add(self, item: Item) -> None:
        run = self._runs.get(item.replica)
        if run is None:
            run = self._runs[item.replica] = Blocks(_count_of, _first_count_of)
        run.add(item)
        self.count += 1
        self.size_bytes += BOOKKEEPING_BYTES + size_of(item.value)

    def remove(self, dot: Dot) -> Item | None:
        """Remove an item and return it, or None if it is not here."""
        run = self._runs.get(dot[0])
        item = run.remove(dot[1]) if run is not None else None
        if run is not None and item is not None:
            self.count -= 1
            self.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)
            if run.last is None:
                del self._runs[dot[0]]
        return item

    def blocks(self) -> list[Block]:
        """Return all items as they are now, in blocks that never change."""
        return [block for run in self._runs.values() for block in run.blocks()]

    def between(self, after: Dot | None, until: Dot | None) -> Iterator[Item]:
        """Iterate in the order of dots over the items behind one dot, up to another one; None: from the first, to the last."""
        for replica in sorted(self._runs):
            if (after is None or replica >= after[0]) and (until is None or replica <= until[0]):
                first = after[1] if after is not None and replica == after[0] else None
                last = until[1] if until is not None and replica == until[0] else None
                yield from self._runs[replica].between(first, last)

    def counts(self) -> dict[str, int]:
        """Return, by replica, the counter of its last event among the items."""
        return {replica: run.last.count for replica, run in self._runs.items() if run.last is not None}

    def count_in(self, vector: Mapping[str, int]) -> int:
        """Return the number of items of events that a version vector has."""
        return sum(run.count_until(vector[replica]) for replica, run in self._runs.items() if replica in vector)

    def within(self, vector: Mapping[str, int]) -> Iterator[Item]:
        """Iterate over these items. There must be no change meanwhile."""
        for replica, run in self._runs.items():
            if replica in vector:
                yield from run.between(None, vector[replica])

    def beyond(self, vector: Mapping[str, int]) -> Iterator[Item]:
        """Iterate over the items of events that a version vector does not have. There must be no change meanwhile."""
        for replica, run in self._runs.items():
            known = vector.get(replica, 0)
            if run.last is not None and run.last.count > known:
                yield from run.between(known, None)

    def latest(self) -> tuple[int, str, int]:
        """Return the order of the latest item; a replica's times grow with its events."""
        return max(run.last.order for run in self._runs.values() if run.last is not None)

    def pop_blocks(self, count: int) -> bool:
        """Drop a number of blocks; return whether there are more. The rest is of no use but to be dropped."""
        replica = next(iter(self._runs), None)
        if replica is not None and not self._runs[replica].pop_blocks(count):
            del self._runs[replica]
        return bool(self._runs)
