"""The state of a replica: its cells, and the records that make merging exact. Pure.

Deltas are lost, repeated and reordered, and transfers end early. For each of these faults there is a record:

- context: events that were applied. An event that arrives again is not applied again.
- deferred removals: items and tallies whose removal arrived before they did. They are not added when they arrive.
- coverages: parts of unfinished transfers. Their items are here, but not in the context yet.
- tombstones: deleted keys and removed tallies, kept until every replica knows of the removal; see `tombstones`.
- journals: keys that each event changed, to find what another replica lacks.

This module adds and removes single items and keeps the records right. `replica` applies events with it, and `merge`
transfers.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from provider.keyvalue.cache.causality import Context, Dot, HybridClock
from provider.keyvalue.cache.coverage import Coverage
from provider.keyvalue.cache.items.cells import Cell, Tally
from provider.keyvalue.cache.items.collections import Collection
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, size_of
from provider.keyvalue.cache.journal import Journals
from provider.keyvalue.cache.messages import MEMBER, TEXT, CounterRemoval

_DROPPED_BLOCKS = 8
"""Blocks of items that are freed at a time: less than a millisecond."""


class ReplicaState:
    """The cells of a replica and their records.

    Args:
        on_expiry: Function that schedules an expiry. It is called with the key and the item when a text that expires is
            added. A tally that expires on its own is passed as an item with the dot of its start; see `expiry`.

    Attributes:
        context: Events that have been applied.
        clock: Clock of the replica.
        cells: Cells by key.
        size_bytes: Size of keys and values in UTF-8, plus `BOOKKEEPING_BYTES` for each key, item and tally.
        journals: Keys that each event changed.
        deferred: By key, dots of items, and starts of tallies, that were removed before they arrived.
        coverages: Merged parts of transfers that are unfinished or ended early.
        key_tombstones: Deleted keys, in the order in which they are to be looked at next.
        tombstone_cells: Those of them that still have a cell, with nothing in it but tombstones of tallies.
        tally_tombstones: Removals of tallies: dot of the removal, key, start of the tally.
        discarded: By replica, the last event whose tombstones have been discarded here. A replica that has not applied
            that event must be sent all keys.
        pending_removals: Items and tallies that this replica must remove by an own event; see `Replica.compensate`.
        pending_counter_removals: Parts of tallies that it must remove likewise.
        dropped: Large sets and lists that were removed, and take memory until `drop_blocks` has taken them apart.
    """

    def __init__(self, on_expiry: Callable[[str, Item], None]) -> None:
        self.context = Context()
        self.clock = HybridClock()
        self.cells: dict[str, Cell] = {}
        self.size_bytes = 0
        self.journals = Journals()
        self.deferred: dict[str, set[Dot]] = {}
        self.coverages: list[Coverage] = []
        self.key_tombstones: dict[str, None] = {}
        self.tombstone_cells: set[str] = set()
        self.tally_tombstones: deque[tuple[Dot, str, Dot]] = deque()
        self.discarded: dict[str, int] = {}
        self.pending_removals: list[Dot] = []
        self.pending_counter_removals: list[CounterRemoval] = []
        self.dropped: list[Collection] = []
        self._on_expiry = on_expiry

    # --- keys

    @property
    def keys(self) -> int:
        """Number of keys that hold a value, expired or not."""
        return len(self.cells) - len(self.tombstone_cells)

    def live_keys(self) -> Iterator[str]:
        """Iterate over the keys that hold a value, expired or not."""
        return (key for key in self.cells if key not in self.tombstone_cells)

    def all_keys(self) -> Iterator[str]:
        """Iterate over all keys, deleted ones with a tombstone included."""
        return itertools.chain(self.cells, (key for key in self.key_tombstones if key not in self.cells))

    def new_cell(self, key: str) -> Cell:
        self.size_bytes += BOOKKEEPING_BYTES + size_of(key)
        self.journals.begin(key)
        cell = self.cells[key] = Cell()
        return cell

    def drop_cell(self, key: str) -> None:
        del self.cells[key]
        self.tombstone_cells.discard(key)
        self.size_bytes -= BOOKKEEPING_BYTES + size_of(key)

    def update_liveness(self, key: str, cell: Cell) -> None:
        """Make a key that has lost its last value a tombstone, and one that has a value again a live key."""
        if cell.text is not None or cell.is_live:
            if self.key_tombstones:
                self.key_tombstones.pop(key, None)
                self.tombstone_cells.discard(key)
            return
        if cell.tallies is None:
            self.drop_cell(key)
        else:
            self.tombstone_cells.add(key)
        self.key_tombstones[key] = None

    # --- items

    def add_item(self, key: str, cell: Cell, kind: int, item: Item) -> None:
        self.size_bytes += BOOKKEEPING_BYTES + size_of(item.value)
        if kind == TEXT:
            cell.add_text(item)
            if item.expires_at_ms:
                self._on_expiry(key, item)
        elif kind == MEMBER:
            cell.add_member(item)
        else:
            cell.add_element(item)

    def replace_text(self, key: str, cell: Cell, before: Item, item: Item) -> None:
        """Put a text in the place of the only one in its cell."""
        cell.text = item
        self.size_bytes += size_of(item.value) - size_of(before.value)
        if item.expires_at_ms:
            self._on_expiry(key, item)

    def remove(self, key: str, cell: Cell, dot: Dot) -> None:
        """Remove an item, or a tally by its start; if it has not arrived yet, as soon as it does."""
        item = cell.remove(dot)
        if item is not None:
            self.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)
            # Increments on this text that its remover had not seen stay. From now on they expire on their own.
            for tally in cell.live_tallies() if cell.tallies else ():
                if tally.base == dot:
                    self._schedule_tally_expiry(key, cell, tally)
        elif cell.tally(dot) is not None:
            self.drop_tally(cell, dot)
        # An item that came by page was not in the context. Its event is still to arrive and must not add it again.
        self.defer_removal(key, dot)

    def clear(self, key: str, cell: Cell, vector: Mapping[str, int]) -> None:
        """Remove the members and elements under a key whose events a version vector has, however many they are."""
        before = cell.size_bytes
        self.dropped += cell.clear(vector)
        self.size_bytes += cell.size_bytes - before

    def drop_blocks(self) -> bool:
        """Take a part of the removed sets and lists apart; return whether there is more to do.

        To free a million items at once would take a tenth of a second.
        """
        for items in self.dropped:
            if not items.listeners:
                if not items.pop_blocks(_DROPPED_BLOCKS):
                    self.dropped.remove(items)
                break
        return any(not items.listeners for items in self.dropped)

    # --- tallies

    def add_tally(
        self, key: str, cell: Cell, tally: Tally, *, is_first: bool = False, is_applied: bool = False
    ) -> None:
        """Add a tally, or merge a version of one that is here.

        Args:
            key: Key of the cell.
            cell: Cell to add it to.
            tally: A version of the tally; it may be any, as versions merge.
            is_first: Whether it comes with the event that began the tally.
            is_applied: Whether the event of this version had been applied before, which a page may repeat.
        """
        start = (tally.replica, tally.start)
        known = cell.tally(start)
        if known is not None:
            before = known.base, known.expires_at_ms
            known.merge(tally)
            if before != (known.base, known.expires_at_ms):
                self._schedule_tally_expiry(key, cell, known)
            return
        # Reordered: the removal of the tally arrived first.
        if is_first and self.take_deferred(key, start):
            return
        # `apply` puts an event into the context before it adds anything, so for a first event only the coverages can
        # tell whether the tally has been here.
        has_been_here = self.is_covered(key, start) if is_first else self.has_seen(key, start)
        if has_been_here:
            # The tally was removed and its tombstone discarded, so how much of it was removed is not known any more.
            if tally.is_removed or is_applied:
                return
            # Its replica counts on without knowing that. What it added since is lost: an event of this replica removes
            # it everywhere, as others may still have the tombstone and would keep it.
            self.pending_counter_removals.append(removal_of(tally))
        cell.add_tally(tally)
        self.size_bytes += BOOKKEEPING_BYTES
        self._schedule_tally_expiry(key, cell, tally)

    def remove_counted(self, key: str, cell: Cell, removal: CounterRemoval, by: Dot) -> None:
        """Remove the part of a tally that the author of a removal had seen."""
        start = (removal.replica, removal.start)
        tally = cell.tally(start)
        if tally is None:
            # The tally was removed and its tombstone discarded: there is nothing left to remove.
            if self.has_seen(key, start):
                self.defer_removal(key, start)
                return
            # Reordered: the removal arrived first. A tally with clock 0 stands in for the one that is to come.
            tally = Tally(removal.replica, removal.start, None, removal.count, 0, removal.total)
            cell.add_tally(tally)
            self.size_bytes += BOOKKEEPING_BYTES
        tally.remove(removal.count, removal.total, by)
        self.tally_tombstones.append((by, key, start))

    def drop_tally(self, cell: Cell, start: Dot) -> None:
        """Drop a tally with its tombstone. That it has been removed is known from its absence from now on."""
        cell.drop_tally(start)
        self.size_bytes -= BOOKKEEPING_BYTES

    def _schedule_tally_expiry(self, key: str, cell: Cell, tally: Tally) -> None:
        """Schedule the expiry of a tally, unless the text that it counts on is here: that takes it along."""
        if tally.expires_at_ms and not tally.is_removed and (tally.base is None or not cell.has(tally.base)):
            self._on_expiry(key, Item(tally.replica, tally.start, tally.clock, "", tally.expires_at_ms))

    # --- faults

    def has_seen(self, key: str, dot: Dot) -> bool:
        """Tell whether an item or a tally has been here or is known to be removed; if it is absent, it stays absent."""
        return (
            self.context.has(*dot)
            or (bool(self.coverages) and self.is_covered(key, dot))
            or (bool(self.deferred) and dot in self.deferred.get(key, ()))
        )

    def is_covered(self, key: str, dot: Dot) -> bool:
        """Tell whether an unfinished transfer has told the fate of an item or a tally."""
        return any(coverage.has(key, dot) for coverage in self.coverages)

    def defer_removal(self, key: str, dot: Dot) -> None:
        """Remember a removal until the event that it removes arrives, unless that has been applied."""
        if not self.context.has(*dot):
            self.deferred.setdefault(key, set()).add(dot)

    def take_deferred(self, key: str, dot: Dot) -> bool:
        """Tell whether an item that arrives has been removed already, and forget that, as it arrives only once."""
        if not self.deferred or dot not in self.deferred.get(key, ()):
            return False
        self.drop_deferred(key, dot)
        return True

    def drop_deferred(self, key: str, dot: Dot) -> None:
        deferred = self.deferred[key]
        deferred.discard(dot)
        if not deferred:
            del self.deferred[key]

    def compensate_if_abandoned(self, key: str, dot: Dot) -> None:
        """Remove an absent item by an own event if only a transfer that ended early told that it has been removed.

        That transfer's context is in no replica's context, so the others would keep the item.
        """
        if any(coverage.is_abandoned and coverage.has(key, dot) for coverage in self.coverages):
            self.pending_removals.append(dot)


def removal_of(tally: Tally) -> CounterRemoval:
    """Return the removal of everything that a tally has counted so far."""
    return CounterRemoval(tally.replica, tally.start, tally.count, tally.total)
