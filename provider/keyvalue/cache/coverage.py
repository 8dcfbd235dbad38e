"""The part of an unfinished transfer that has been merged. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from provider.keyvalue.cache.causality import Context, Dot
from provider.keyvalue.cache.items.item import size_of
from provider.keyvalue.cache.messages import CellState, CounterRemoval

_NAME_BYTES = 300
"""Memory that the name of a key takes beyond its text: in a coverage, and with a version vector if it has been deleted. An
entry of a context takes no more."""


class Coverage:
    """The keys of an unfinished transfer that have arrived, each with everything its sender had when it began.

    The sender's context is merged into the own context only when the last page has arrived. Until then the coverage
    answers for the keys that came. Without it, a late copy of an event would restore an item that the sender had seen
    removed.

    Attributes:
        context: Context of the sender when the transfer began.
        is_abandoned: Whether the transfer ended early.
        removals: By key, the removals made here because of the transfer: the counters of items and tallies by replica, and
            parts of tallies.
        size_bytes: Memory that the context takes, and the names of the keys that have arrived.
    """

    __slots__ = ("_keys", "_until", "context", "is_abandoned", "removals", "size_bytes")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.is_abandoned = False
        self.removals: dict[str, tuple[dict[str, array[int]], list[CounterRemoval]]] = {}
        self.size_bytes = context.size * _NAME_BYTES
        self._keys: dict[str, None] = {}
        """Keys that arrived whole."""
        self._until: dict[str, Dot] = {}
        """By key that arrived in part, the last dot of its range."""

    def is_next(self, cell: CellState) -> bool:
        """Tell whether a cell, or a part of one, follows the parts that have arrived: each key once, its parts in order."""
        is_forward = cell.until is None or (bool(cell.items) and (cell.after is None or cell.until > cell.after))
        return is_forward and cell.key not in self._keys and cell.after == self._until.get(cell.key)

    def add(self, cell: CellState) -> None:
        """Note a cell, or a part of one, that has been merged. The parts of a cell arrive in order."""
        if cell.after is None:
            self.size_bytes += size_of(cell.key) + _NAME_BYTES
        if cell.until is None:
            self._until.pop(cell.key, None)
            self._keys[cell.key] = None
        else:
            self._until[cell.key] = cell.until

    def note_removals(self, key: str, dots: Iterable[Dot], counter_removals: Iterable[CounterRemoval] = ()) -> None:
        """Note the removals made here because of the transfer. If that ends early, an own event repeats them."""
        if dots or counter_removals:
            counts, noted = self.removals.setdefault(key, ({}, []))
            for replica, count in dots:
                counts.setdefault(replica, array("Q")).append(count)
            noted.extend(counter_removals)

    def forget(self, key: str) -> None:
        """Note that what arrived of a key has been undone."""
        if key in self._keys or key in self._until:
            self.size_bytes -= size_of(key) + _NAME_BYTES
        self._keys.pop(key, None)
        self._until.pop(key, None)

    @property
    def keys(self) -> list[str]:
        """Keys that arrived whole or in part."""
        return [*self._keys, *self._until]

    def has_key(self, key: str) -> bool:
        """Tell whether a key has arrived whole."""
        return key in self._keys

    def has(self, key: str, dot: Dot) -> bool:
        """Tell whether the fate of an item or a tally is known: it has arrived, or has been removed."""
        if not self.context.has(*dot):
            return False
        return key in self._keys or (key in self._until and dot <= self._until[key])
