"""The merging of a transfer: cells of another replica, with its context, into the state of this one. Pure.

A cell lists the items of a key; together with its sender's context it also tells which items have been removed. The sender's context
is merged only when the last page has arrived, because only then everything in it is here. Until then, and if the
transfer ends early, a `Coverage` answers for the items that have arrived.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

from msgspec import structs

from provider.keyvalue.cache.causality import Context, Dot
from provider.keyvalue.cache.coverage import Coverage
from provider.keyvalue.cache.items.cells import Cell, Tally
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, size_of
from provider.keyvalue.cache.messages import (
    MAX_CLOUD_DOTS,
    CellState,
    CounterRemoval,
    Event,
    ItemState,
    TallyState,
)
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.state import removal_of
from provider.keyvalue.cache.tombstones import note_discarded

_MAX_REMOVALS = 1000
"""Removals in one event, so that it fits into a message."""

_SLICE_ITEMS = 1000
"""Items of a cell looked at before other work gets a turn: it takes a millisecond or two."""

_MAX_COVERAGES = 16
"""Coverages of transfers that have ended early that are kept, as far as they take no more memory than the cache."""

_MIN_COVERAGE_BYTES = 4 * 1024 * 1024
"""Memory that they may take also while the cache is small."""


class Merge:
    """The merging of one transfer.

    Args:
        replica: Replica that receives the transfer.
        context: Context of the sender when the transfer began.

    Attributes:
        context: Context of the sender when the transfer began.
    """

    def __init__(self, replica: Replica, context: Context) -> None:
        self._replica = replica
        self.context = context
        self._coverage = Coverage(context)
        self._unknown: dict[str, tuple[Dot, ...]] = {}
        """Deleted keys that this replica has never had, with their version vectors."""
        self._authors: set[str] = set()
        """Replicas whose events changed the keys that have come."""
        # Those of transfers under way are kept in any case.
        ended = [coverage for coverage in replica.coverages if coverage.is_abandoned][1 - _MAX_COVERAGES :]
        while sum(coverage.size_bytes for coverage in ended) > max(_MIN_COVERAGE_BYTES, replica.size_bytes):
            del ended[0]
        under_way = [coverage for coverage in replica.coverages if not coverage.is_abandoned]
        replica.coverages = [*ended, *under_way, self._coverage]

    def is_next(self, sent: CellState) -> bool:
        """Tell whether a cell, or a part of one, follows the parts that have been merged."""
        return self._coverage.is_next(sent)

    @property
    def size_bytes(self) -> int:
        """Memory that the context takes, and the names of the keys that have come."""
        return self._coverage.size_bytes

    def adding(self, sent: CellState) -> Iterator[None]:
        """Merge a cell, or a part of one, in slices. Other work may be done in between, as between two parts.

        The slices are parts with as many items of the cell as it is here.
        """
        items = deque(sorted(sent.items, key=_dot_of_state))
        rest = sent
        while (cell := self._replica.cells.get(sent.key)) is not None and cell.count > _SLICE_ITEMS:
            last = next(itertools.islice(cell.items(rest.after, rest.until), _SLICE_ITEMS, None), None)
            if last is None:
                break
            first: list[ItemState] = []
            while items and _dot_of_state(items[0]) <= last.dot:
                first.append(items.popleft())
            self.add(structs.replace(rest, items=first, until=last.dot))
            rest = structs.replace(rest, deferred=[], tallies=[], items=list(items), after=last.dot)
            yield
        self.add(rest)
        yield

    def add(self, sent: CellState) -> None:
        """Merge a cell, or a part of one."""
        replica, key = self._replica, sent.key
        is_empty = not (sent.items or sent.tallies or sent.deferred)
        if is_empty and key not in replica.cells and key not in replica.key_tombstones:
            # Nothing changes here. The tombstone counts when the transfer is complete: one that never ends leaves none.
            self._unknown[key] = tuple(sent.vector.items())
            self._coverage.add(sent)
            return
        cell = replica.cells.get(key)
        if cell is None:
            cell = replica.new_cell(key)
        # 1. Remove what the sender has removed: before it arrived there, or since.
        removed = [*self._removed_items(cell, sent), *sent.deferred]
        for dot in removed:
            replica.remove(key, cell, dot)
        self._coverage.note_removals(key, removed)
        # 2. Add what the sender has and this replica lacks. Tallies come with the first part of a cell.
        self._add_items(key, cell, sent.items)
        if sent.after is None:
            self._remove_tallies(key, cell, sent.tallies)
            self._add_tallies(key, cell, sent.tallies)
        # 3. From now on the coverage answers for the cell.
        self._coverage.add(sent)
        self._note_authors(key, sent.vector.items())
        replica.update_liveness(key, cell)
        # 4. Some of what arrived cannot be kept on all replicas: remove it from all.
        if replica.pending_removals or replica.pending_counter_removals:
            replica.compensate(key)

    def _note_authors(self, key: str, vector: Iterable[Dot]) -> None:
        """Note the events that changed a key, but for those of replicas that neither context has: they are yet to arrive."""
        for author, count in vector:
            if self._replica.context.has_any(author) or self.context.has_any(author):
                self._replica.journals.note(key, author, count)
                self._authors.add(author)

    def _removed_items(self, cell: Cell, sent: CellState) -> list[Dot]:
        """Return the items that the sender has seen and does not have any more."""
        present = {(state.replica, state.count) for state in sent.items}
        return [
            item.dot
            for item in cell.items(sent.after, sent.until)
            if item.dot not in present and self.context.has(item.replica, item.count)
        ]

    def _add_items(self, key: str, cell: Cell, states: list[ItemState]) -> None:
        replica = self._replica
        for state in states:
            dot = (state.replica, state.count)
            if state.value is None or cell.has(dot):
                continue
            # The item is absent though it has been seen: it has been removed here, and the sender does not know yet.
            if replica.has_seen(key, dot):
                if not replica.context.has(*dot):
                    replica.compensate_if_abandoned(key, dot)
                continue
            item = Item(state.replica, state.count, state.clock, state.value, state.expires_at_ms)
            replica.add_item(key, cell, state.kind, item)
            replica.clock.observe(state.clock)

    def _remove_tallies(self, key: str, cell: Cell, states: list[TallyState]) -> None:
        """Remove the tallies that the sender has seen begin and does not have any more."""
        replica = self._replica
        present = {(state.replica, state.start) for state in states}
        for start in [start for start in cell.tallies or () if start not in present and self.context.has(*start)]:
            tally = cell.tally(start)
            if tally is None or tally.is_removed or self.context.has(tally.replica, tally.count):
                replica.remove(key, cell, start)
                self._coverage.note_removals(key, [start])
            else:
                # Its replica has counted on since. The sender has discarded the tombstone that would tell how much of
                # the tally was removed, so what was added since is lost: on all replicas, by an event.
                replica.pending_counter_removals.append(removal_of(tally))

    def _add_tallies(self, key: str, cell: Cell, states: list[TallyState]) -> None:
        replica = self._replica
        for state in states:
            is_applied = replica.context.has(state.replica, state.count)
            replica.add_tally(key, cell, Tally(*structs.astuple(state)), is_applied=is_applied)
            replica.clock.observe(state.clock)
            if state.removed_by is not None:
                start = (state.replica, state.start)
                if not replica.context.has(*state.removed_by):
                    removal = CounterRemoval(*start, state.removed_count, state.removed_total)
                    self._coverage.note_removals(key, (), [removal])
                replica.tally_tombstones.append((state.removed_by, key, start))

    def finishing(self, discarded: dict[str, int], *, is_full: bool) -> Iterator[None]:
        """End a transfer whose pages have all been merged: what the sender had applied is now applied here too.

        Other work may be done between two steps.

        Args:
            discarded: By replica, the last event whose tombstones the sender has discarded.
            is_full: Whether all keys were sent, so that a key that was not sent has been deleted.
        """
        replica, coverage = self._replica, self._coverage
        # 1. The sender had discarded tombstones that this replica missed, and so sent all keys: remove the others.
        if is_full:
            for key in [key for key in replica.cells if not coverage.has_key(key)]:
                yield from self.adding(CellState(key, {}, [], [], [], None, None))
        for key, vector in self._unknown.items():
            self._add_tombstone(key, vector)
        # 2. Everything in the sender's context is here, so it belongs to the own context.
        replica.context.merge(self.context)
        # 3. Tombstones that the sender had discarded never came here, so this replica cannot hand them on either.
        for author, count in discarded.items():
            if replica.context.has(author, count):
                note_discarded(replica, author, count)
        # 4. Drop the records that the context now speaks for.
        replica.coverages = [other for other in replica.coverages if not replica.context.covers(other.context)]
        for key, dots in list(replica.deferred.items()):
            for dot in [dot for dot in dots if replica.context.has(*dot)]:
                replica.drop_deferred(key, dot)

    def _add_tombstone(self, key: str, vector: tuple[Dot, ...]) -> None:
        """Keep the tombstone of a key that this replica has never had, so that it can hand the deletion on."""
        replica = self._replica
        cell = replica.cells.get(key) or replica.new_cell(key)
        self._note_authors(key, vector)
        replica.update_liveness(key, cell)

    def abandoning(self) -> Iterator[None]:
        """End a transfer early, when its sender may be gone for good. Nothing more of it may be added.

        What has been merged is here and in no context, so no other replica would ask for it. It must reach all replicas
        or none. Other work may be done between two steps.
        """
        replica, coverage = self._replica, self._coverage
        if replica.context.covers(self.context):
            return
        coverage.is_abandoned = True
        # 1. Additions: keep them where the key arrived whole, undo the rest.
        for key in coverage.keys:
            yield from self._keeping(key)
        # 2. Removals: repeat them by own events, so that the others make them too.
        yield from self._repeating()
        # 3. Of the keys that this replica has never had, nothing is here that the coverage would have to answer for.
        for key in self._unknown:
            if key not in replica.cells:
                coverage.forget(key)
        self._unknown = {}
        # 4. Nor is there anything of replicas that are in no context here, nor in that of another transfer under way.
        contexts = [replica.context, *(other.context for other in replica.coverages if not other.is_abandoned)]
        for author in self._authors:
            if not any(context.has_any(author) for context in contexts):
                replica.journals.drop(author)

    def _repeating(self) -> Iterator[None]:
        """Repeat the removals that the transfer has brought by own events."""
        for key, (removed, counter_removals) in self._coverage.removals.items():
            for author, counts in removed.items():
                for start in range(0, len(counts), _MAX_REMOVALS):
                    self._repeat(key, {author: counts[start : start + _MAX_REMOVALS].tolist()}, [])
                    yield
            for start in range(0, len(counter_removals), _MAX_REMOVALS):
                self._repeat(key, {}, counter_removals[start : start + _MAX_REMOVALS])
        self._coverage.removals = {}

    def _repeat(self, key: str, removes: dict[str, list[int]], counter_removals: list[CounterRemoval]) -> None:
        replica = self._replica
        replica.commit(Event(replica.clock.tick(0), key, None, removes, counter_removals))

    def _keeping(self, key: str) -> Iterator[None]:
        """Put the events that added what arrived of a key into the context.

        An event changes one key only. So of a key that arrived whole, each event was applied whole and may enter the
        dot cloud. Of a key that arrived in part it was not, and its items are removed again, as are those of whole keys
        that would make the cloud too large.
        """
        replica = self._replica
        room = MAX_CLOUD_DOTS - sum(map(len, replica.context.cloud.values()))
        dots: list[Dot] = []
        is_kept = self._coverage.has_key(key)
        for only_here in self._only_here(key):
            dots += only_here
            if not is_kept or len(dots) > room:
                self._undo(key, dots)
                dots, is_kept = [], False
            yield
        cell = replica.cells.get(key)
        if not is_kept:
            self._coverage.forget(key)
            if cell is not None:
                replica.update_liveness(key, cell)
        # Tallies are always kept: any version of one may be merged at any time.
        for tally in (cell.tallies or {}).values() if cell is not None else ():
            dots += [(tally.replica, tally.start), (tally.replica, tally.count)]
        for dot in dots:
            replica.context.add(*dot)

    def _only_here(self, key: str) -> Iterator[list[Dot]]:
        """Iterate over the items that came with this transfer and whose events have not been applied, in slices."""
        after: Dot | None = None
        while (cell := self._replica.cells.get(key)) is not None:
            dots = [item.dot for item in itertools.islice(cell.items(after), _SLICE_ITEMS)]
            yield [dot for dot in dots if self._coverage.has(key, dot) and not self._replica.context.has(*dot)]
            if len(dots) < _SLICE_ITEMS:
                return
            after = dots[-1]

    def _undo(self, key: str, dots: list[Dot]) -> None:
        """Take out of a cell what came with this transfer, unless another unfinished one brought it too."""
        replica, cell = self._replica, self._replica.cells[key]
        others = [other for other in replica.coverages if other is not self._coverage]
        for dot in dots:
            item = cell.remove(dot) if not any(other.has(key, dot) for other in others) else None
            if item is not None:
                replica.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)


def _dot_of_state(state: ItemState) -> Dot:
    return state.replica, state.count
