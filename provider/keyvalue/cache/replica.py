"""One replica of a cache: its state, and how events and other replicas' states are merged into it. Pure.

Whatever arrives in whatever order, however often: replicas that have taken in the same events hold the same. Times and
what others have seen are arguments; who sends what to whom is `replication`'s business.

Two things make anti-entropy cheap. A journal knows, by replica, the last event that touched each key, so that what
another replica lacks is found without comparing states; a deleted key leaves its journal entries behind until all have
seen the deletion. And a key's whole state, sent with the sender's context, tells what is there and what has been removed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import structs

from provider.keyvalue.cache.cells import Cell, Context, Dot, HybridClock, Item, Tally
from provider.keyvalue.cache.coverage import Coverage
from provider.keyvalue.cache.journal import Journal
from provider.keyvalue.cache.messages import (
    AddCount,
    AddElement,
    AddMember,
    AddText,
    Event,
    Floor,
    ItemState,
    Part,
    TallyState,
)
from provider.keyvalue.values import Value

BOOKKEEPING_BYTES = 100
"""What an item, a tally or a key is counted with beyond its own text."""

_TEXT, _MEMBER, _ELEMENT = 1, 2, 3
_MIN_DEAD_KEPT = 10_000
_MAX_ADOPTED = 10_000
"""How many strays there may be by transfers that ended half-way: contexts must fit into messages."""

_MAX_REMOVALS = 1000
_MAX_COVERAGES = 16
"""Transfers that ended half-way and are remembered; more only when they fail one after the other."""


def _ignore(*_: object) -> None:
    pass


class Replica:
    """The state of one replica.

    Args:
        replica_id: Never used by any other replica, nor by this one's process before it was started again.
        on_event: Called after every own event.
        on_expiry: Called with the key and the item when a text that expires has been added, and when nothing is left of a
            tally that expires but itself, with an item of the tally's dot; see `events.expire`.

    Attributes:
        context: The events taken in.
        pruned: By replica, up to which event deletions have been forgotten here; who has not seen those needs all keys.
        unsent: The own events that nobody has been told of.
        size_bytes: Of keys and values in UTF-8, with `BOOKKEEPING_BYTES` for each key, item and tally.
    """

    def __init__(
        self,
        replica_id: str,
        on_event: Callable[[], None] = _ignore,
        on_expiry: Callable[[str, Item], None] = _ignore,
    ) -> None:
        self.id = replica_id
        self.clock = HybridClock()
        self.context = Context()
        self.pruned: dict[str, int] = {}
        self.unsent: list[Event] = []
        self.size_bytes = 0
        self._on_event = on_event
        self._on_expiry = on_expiry
        self._cells: dict[str, Cell] = {}
        self._journals: dict[str, Journal] = {}
        self._forgotten_revision = 0
        """The highest of a key that has been forgotten."""
        self._first_revisions: dict[str, int] = {}
        """By key, what its revisions begin from, if not from 0."""
        self._unnumbered = ""
        """A key that is new and has no revision yet."""
        self._dead: dict[str, None] = {}
        self._hollow: set[str] = set()
        """Dead keys that still have cells, for tallies that not everybody knows to be removed."""
        self._doomed: dict[str, set[Dot]] = {}
        """By key, items, and tallies by their start, that were removed before they came."""
        self._coverages: list[Coverage] = []
        """Of transfers that have not been absorbed."""
        self._residues: deque[tuple[Dot, str, Dot]] = deque()
        self._lost: list[Floor] = []
        """Of the key at hand: what some replica has added to tallies that others have removed and forgotten."""
        self._outdated: list[Dot] = []
        """Of the key at hand: items that came after all, of whose removal only a transfer that was abandoned told."""

    # --- reading

    @property
    def count(self) -> int:
        """The count of the last own event."""
        return self.context.vector.get(self.id, 0)

    @property
    def keys(self) -> int:
        """How many keys have something, be it expired."""
        return len(self._cells) - len(self._hollow)

    @property
    def remembered_deletions(self) -> int:
        """How many deleted keys are kept in mind because some replica may not have seen the deletion."""
        return len(self._dead)

    def cell(self, key: str) -> Cell | None:
        """Return what stands under a key, for reading; `None`: nothing does, nor is anything remembered of it."""
        return self._cells.get(key)

    def read(self, key: str, now_ms: int) -> Value | None:
        """Return what an actor sees under a key; its data must not be changed."""
        cell = self._cells.get(key)
        return cell.value(now_ms) if cell is not None else None

    def revision(self, key: str) -> int:
        """Return a number that grows with every event on a key that is taken in here; other replicas have others.

        It is never given twice, not even when the key was deleted and forgotten in between.
        """
        return self._first_revisions.get(key, 0) + sum(self._touched(key).values())

    def live_keys(self) -> Iterator[str]:
        """Iterate over the keys that have something, be it expired."""
        return (key for key in self._cells if key not in self._hollow)

    def all_keys(self) -> Iterator[str]:
        """Iterate over the keys, deleted ones that are kept in mind included."""
        return itertools.chain(self._cells, (key for key in self._dead if key not in self._cells))

    # --- events

    def commit(self, event: Event) -> None:
        """Take in a new event of this replica."""
        self.apply(self.id, self.count + 1, event)
        self.unsent.append(event)
        self._on_event()

    def apply(self, replica: str, count: int, event: Event) -> None:
        """Take in an event, unless that has been done before."""
        if not self.context.add(replica, count):
            return
        self.clock.see(event.clock)
        key = event.key
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new_cell(key)
        if not self._overwrite(cell, replica, count, event):
            for floor in event.floors:
                self._lower(key, cell, floor, (replica, count))
            for remover, counts in event.removes.items():
                for removed in counts:
                    self._remove(key, cell, (remover, removed))
            if event.add is not None:
                self._add(cell, replica, count, event)
        self._note(key, replica, count)
        if self._dead or cell.text is None:
            self._settle(key, cell)
        if self._lost or self._outdated:
            self._give_up(key)

    def _overwrite(self, cell: Cell, replica: str, count: int, event: Event) -> bool:
        """Put a text in the place of the one that is all there is and that the event removes; false: it is no such event.

        It comes to the same as removing and adding, at a third of the cost, and most events are of this form.
        """
        add, before, removes = event.add, cell.text, event.removes
        if (
            type(add) is not AddText
            or before is None
            or not cell.is_single
            or len(removes) != 1
            or removes.get(before.replica) != [before.count]
            or event.floors
            or self._doomed
            or self._coverages
            or not self.context.has(before.replica, before.count)
        ):
            return False
        cell.text = item = Item(replica, count, event.clock, add.value, add.expires_at_ms)
        self.size_bytes += size_of(item.value) - size_of(before.value)
        if item.expires_at_ms:
            self._on_expiry(event.key, item)
        return True

    def _add(self, cell: Cell, replica: str, count: int, event: Event) -> None:
        add, key = event.add, event.key
        if isinstance(add, AddCount):
            tally = Tally(replica, add.start, add.base, count, event.clock, add.total, add.expires_at_ms)
            self._add_tally(key, cell, tally, is_start=count == add.start)
            return
        dot = (replica, count)
        if replica != self.id:
            if (self._doomed and self._is_spared(key, dot)) or cell.has(dot):
                return  # it was removed before it came, or came with the key's state
            if self._coverages and self._is_covered(key, dot):
                self._note_outdated(key, dot)
                return
        if isinstance(add, AddText):
            self._add_item(key, cell, _TEXT, Item(replica, count, event.clock, add.value, add.expires_at_ms))
        elif isinstance(add, AddMember):
            self._add_item(key, cell, _MEMBER, Item(replica, count, event.clock, add.value))
        elif isinstance(add, AddElement):
            self._add_item(key, cell, _ELEMENT, Item(replica, count, event.clock, add.value))

    def _add_item(self, key: str, cell: Cell, kind: int, item: Item) -> None:
        self.size_bytes += BOOKKEEPING_BYTES + size_of(item.value)
        if kind == _TEXT:
            cell.add_text(item)
            if item.expires_at_ms:
                self._on_expiry(key, item)
        elif kind == _MEMBER:
            cell.add_member(item)
        else:
            cell.add_element(item)

    def _add_tally(self, key: str, cell: Cell, tally: Tally, *, is_start: bool = False, is_seen: bool = False) -> None:
        """Take in a tally or a later version of one.

        One whose start has been seen and that is not there was removed, and how much of it is not known any more. What
        its replica has added since, not knowing, is lost then: by an event, as others may still know.
        """
        start = (tally.replica, tally.start)
        known = cell.tally(start)
        before = None
        if known is not None:
            before = known.base, known.expires_at_ms
            known.add(tally)
            tally = known
        elif is_start and self._is_spared(key, start):
            return
        elif (is_start and not self._is_covered(key, start)) or not self._has_seen(key, start):
            cell.add_tally(tally)
            self.size_bytes += BOOKKEEPING_BYTES
        elif not tally.is_removed and not is_seen:
            cell.add_tally(tally)
            self.size_bytes += BOOKKEEPING_BYTES
            self._lost.append(floor_of(tally))
        else:
            return
        if tally.expires_at_ms and before != (tally.base, tally.expires_at_ms):
            self._watch_tally(key, cell, tally)

    def _watch_tally(self, key: str, cell: Cell, tally: Tally) -> None:
        """See to it that a tally ends when it expires; one whose text is there ends with that."""
        if tally.expires_at_ms and not tally.is_removed and (tally.base is None or not cell.has(tally.base)):
            self._on_expiry(key, Item(tally.replica, tally.start, tally.clock, "", tally.expires_at_ms))

    def _remove(self, key: str, cell: Cell, dot: Dot) -> None:
        """Remove an item, or a tally by its start, and see to it that it is not added when it comes after its removal."""
        item = cell.remove(dot)
        if item is not None:
            self.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)
            for tally in cell.live_tallies() if cell.tallies else ():
                if tally.base == dot:
                    self._watch_tally(key, cell, tally)
        elif cell.tally(dot) is not None:
            self._drop_tally(cell, dot)
        self._doom(key, dot)

    def _doom(self, key: str, dot: Dot) -> None:
        """Note that an item or a tally is removed, for its coming and for others, unless the context says so."""
        if not self.context.has(*dot):
            self._doomed.setdefault(key, set()).add(dot)

    def _has_seen(self, key: str, dot: Dot) -> bool:
        """Tell whether what an event did to a key is known here: then an item that is not there has been removed."""
        return (
            self.context.has(*dot)
            or (bool(self._coverages) and self._is_covered(key, dot))
            or (bool(self._doomed) and dot in self._doomed.get(key, ()))
        )

    def _is_covered(self, key: str, dot: Dot) -> bool:
        return any(coverage.has(key, dot) for coverage in self._coverages)

    def _is_spared(self, key: str, dot: Dot) -> bool:
        """Tell whether an item that comes now was removed before, and forget that: it comes only once."""
        if not self._doomed or dot not in self._doomed.get(key, ()):
            return False
        self._forget_doomed(key, dot)
        return True

    def _forget_doomed(self, key: str, dot: Dot) -> None:
        doomed = self._doomed[key]
        doomed.discard(dot)
        if not doomed:
            del self._doomed[key]

    def _lower(self, key: str, cell: Cell, floor: Floor, by: Dot) -> None:
        """Remove what a tally had come to."""
        start = (floor.replica, floor.start)
        tally = cell.tally(start)
        if tally is None:
            if self._has_seen(key, start):
                self._doom(key, start)
                return
            tally = Tally(floor.replica, floor.start, None, floor.count, 0, floor.total)
            cell.add_tally(tally)
            self.size_bytes += BOOKKEEPING_BYTES
        tally.remove(floor.count, floor.total, by)
        self._residues.append((by, key, start))

    def _give_up(self, key: str) -> None:
        """Remove what is lost, on all replicas."""
        floors, self._lost = self._lost, []
        dots, self._outdated = self._outdated, []
        self.commit(Event(self.clock.tick(0), key, None, by_replica(dots), floors))

    def _note_outdated(self, key: str, dot: Dot) -> None:
        if any(coverage.is_abandoned and coverage.has(key, dot) for coverage in self._coverages):
            self._outdated.append(dot)

    def _new_cell(self, key: str) -> Cell:
        self.size_bytes += BOOKKEEPING_BYTES + size_of(key)
        cell = self._cells[key] = Cell()
        if self._forgotten_revision:
            self._unnumbered = key
        return cell

    def _begin_revisions(self, key: str) -> None:
        """See to it that the revisions of a key that is new are beyond those of keys that have been forgotten."""
        self._unnumbered = ""
        missing = self._forgotten_revision + 1 - self.revision(key)
        if missing > 0:
            self._first_revisions[key] = self._first_revisions.get(key, 0) + missing

    def _drop_cell(self, key: str) -> None:
        del self._cells[key]
        self._hollow.discard(key)
        self.size_bytes -= BOOKKEEPING_BYTES + size_of(key)

    def _settle(self, key: str, cell: Cell) -> None:
        """Note whether a key has something now; what is left of deleted tallies stays until all know of it."""
        if cell.text is not None or cell.is_live:
            if self._dead:
                self._dead.pop(key, None)
                self._hollow.discard(key)
            return
        if cell.tallies is None:
            self._drop_cell(key)
        else:
            self._hollow.add(key)
        self._dead[key] = None

    def _note(self, key: str, replica: str, count: int) -> None:
        """Note that an event has touched a key."""
        self._journal(replica).note(key, count)
        if self._unnumbered:
            self._begin_revisions(key)

    def _journal(self, replica: str) -> Journal:
        journal = self._journals.get(replica)
        if journal is None:
            journal = self._journals[replica] = Journal()
        return journal

    def _touched(self, key: str) -> dict[str, int]:
        """Return by replica its last event that touched a key."""
        counts = ((replica, journal.count(key)) for replica, journal in self._journals.items())
        return {replica: count for replica, count in counts if count is not None}

    # --- what another replica lacks

    def lacking(self, context: Context) -> tuple[list[str], bool]:
        """Return the keys that have changed beyond a context, and whether that had to be all: deletions were forgotten."""
        is_full = any(count > context.vector.get(replica, 0) for replica, count in self.pruned.items())
        if is_full or not context.vector:
            return list(self.all_keys()), is_full
        keys: dict[str, None] = {}
        for replica, journal in self._journals.items():
            keys.update(dict.fromkeys(journal.after(context.vector.get(replica, 0))))
        return list(keys), False

    def doomed(self) -> dict[str, frozenset[Dot]]:
        """Return by key what was removed before it came."""
        return {key: frozenset(dots) for key, dots in self._doomed.items()}

    def part(self, key: str, known: Context, limit: Context, doomed: Iterable[Dot] = ()) -> Part:
        """Return the state of a key; an empty one for a key that is not there.

        Args:
            key: Which.
            known: What the asker has: of those items no values are sent.
            limit: The own context when the transfer began. Later items are left out, they will be asked for later; not
                so tallies, of which any version can be taken in at any time.
            doomed: What was doomed then.
        """
        touched = self._touched(key)
        all_doomed = sorted({*doomed, *self._doomed.get(key, ())})
        cell = self._cells.get(key)
        if cell is None:
            return Part(key, touched, all_doomed, [], [], None, None)
        items = [
            _state_of(kind, item, is_known=known.has(item.replica, item.count))
            for kind, group in _groups(cell)
            for item in group
            if limit.has(item.replica, item.count)
        ]
        tallies = [_tally_state(tally) for tally in (cell.tallies or {}).values()]
        return Part(key, touched, all_doomed, items, tallies, None, None)

    def cover(self, context: Context) -> Coverage:
        """Begin to take in another replica's state: what it had when the transfer began."""
        coverage = Coverage(context)
        self._coverages = [*self._coverages[1 - _MAX_COVERAGES :], coverage]
        return coverage

    def merge(self, part: Part, coverage: Coverage) -> None:
        """Take in the state of a key. The sender's events on other keys are not taken in by this."""
        key, context = part.key, coverage.context
        cell = self._cells.get(key)
        if cell is None:
            cell = self._new_cell(key)
        there = {(state.replica, state.count) for state in part.items}
        gone = [
            item.dot
            for item in cell.items()
            if item.dot not in there and context.has(item.replica, item.count) and part.spans(item.dot)
        ]
        for dot in (*gone, *part.doomed):
            self._remove(key, cell, dot)
        coverage.note_removals(key, [*gone, *part.doomed])
        self._merge_items(key, cell, part.items)
        if part.after is None:
            self._merge_tallies(key, cell, part.tallies, coverage)
        coverage.add(part)
        for replica, count in part.touched.items():
            self._note(key, replica, count)
        self._settle(key, cell)
        if self._lost or self._outdated:
            self._give_up(key)

    def _merge_items(self, key: str, cell: Cell, states: list[ItemState]) -> None:
        for state in states:
            dot = (state.replica, state.count)
            if state.value is None or cell.has(dot):
                continue
            if self._has_seen(key, dot):
                if not self.context.has(*dot):
                    self._note_outdated(key, dot)
                continue
            item = Item(state.replica, state.count, state.clock, state.value, state.expires_at_ms)
            self._add_item(key, cell, state.kind, item)
            self.clock.see(state.clock)

    def _merge_tallies(self, key: str, cell: Cell, states: list[TallyState], coverage: Coverage) -> None:
        context = coverage.context
        there = {(state.replica, state.start) for state in states}
        for start in [start for start in cell.tallies or () if start not in there and context.has(*start)]:
            tally = cell.tally(start)
            if tally is None or tally.is_removed or context.has(tally.replica, tally.count):
                self._remove(key, cell, start)
                coverage.note_removals(key, [start])
            else:
                self._lost.append(floor_of(tally))
        for state in states:
            is_seen = self.context.has(state.replica, state.count)
            self._add_tally(key, cell, _tally_of(state), is_seen=is_seen)
            self.clock.see(state.clock)
            if state.removed_by is not None:
                if not self.context.has(*state.removed_by):
                    floor = Floor(state.replica, state.start, state.removed_count, state.removed_total)
                    coverage.note_removals(key, (), [floor])
                self._residues.append((state.removed_by, key, (state.replica, state.start)))

    def absorb(self, coverage: Coverage, pruned: dict[str, int], *, is_full: bool) -> None:
        """End a transfer: all that the sender had taken in when it began is now taken in here.

        Args:
            coverage: Of the transfer.
            pruned: The sender's.
            is_full: Whether all keys were sent, so that what is in no other key has been removed.
        """
        if is_full:
            for key in [key for key in self._cells if not coverage.has_key(key)]:
                self.merge(Part(key, {}, [], [], [], None, None), coverage)
        self.context.merge(coverage.context)
        for replica, count in pruned.items():
            self._note_pruned(replica, count)
        self._coverages = [one for one in self._coverages if not self.context.covers(one.context)]
        for key, doomed in list(self._doomed.items()):
            for dot in [dot for dot in doomed if self.context.has(*dot)]:
                self._forget_doomed(key, dot)

    def abandon(self, coverage: Coverage) -> None:
        """End a transfer half-way, as its sender may be gone for good; more of it must not be merged.

        What has been merged is here and in no context, so nobody would ask for it. An event touches one key, so of keys
        that came whole what was added is taken in event by event. What was removed is removed once more, by own events.
        """
        if self.context.covers(coverage.context):
            return
        coverage.is_abandoned = True
        for key in coverage.begun:
            cell = self._cells.get(key)
            if cell is not None:
                self._adopt(key, cell, coverage)
        for key, (dots, floors) in coverage.removals.items():
            while dots or floors:
                self.commit(
                    Event(self.clock.tick(0), key, None, by_replica(dots[:_MAX_REMOVALS]), floors[:_MAX_REMOVALS])
                )
                del dots[:_MAX_REMOVALS], floors[:_MAX_REMOVALS]
        coverage.removals = {}

    def _adopt(self, key: str, cell: Cell, coverage: Coverage) -> None:
        """Take in the events that added what came of a key; undo it when that was not all, or when it is too much."""
        room = _MAX_ADOPTED - sum(map(len, self.context.strays.values()))
        others = [other for other in self._coverages if other is not coverage]
        new = [
            dot for dot in (item.dot for item in cell.items()) if coverage.has(key, dot) and not self.context.has(*dot)
        ]
        if not coverage.has_key(key) or len(new) > room:
            for dot in new:
                item = cell.remove(dot) if not any(other.has(key, dot) for other in others) else None
                if item is not None:
                    self.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)
            coverage.forget(key)
            self._settle(key, cell)
            new = []
        for tally in (cell.tallies or {}).values():
            new += [(tally.replica, tally.start), (tally.replica, tally.count)]
        for dot in new:
            self.context.add(*dot)

    # --- forgetting

    def prune(self, stable: Callable[[str], int], limit: int) -> int:
        """Forget deletions that everybody has seen, and the oldest when there are too many to remember.

        Args:
            stable: By replica, up to which of its events every known replica has taken in.
            limit: How many deletions to look at, as this may take a while.

        Returns:
            How many have been forgotten; as many as the limit: there may be more.
        """
        excess = len(self._dead) - max(_MIN_DEAD_KEPT, len(self._cells))
        forgotten = 0
        for key in list(itertools.islice(self._dead, limit)):
            touched = self._touched(key)
            if self._is_expecting(key):
                self._dead[key] = self._dead.pop(key)
            elif excess > 0 or all(count <= stable(replica) for replica, count in touched.items()):
                excess -= 1
                forgotten += 1
                self._forget(key, touched)
            else:
                self._dead[key] = self._dead.pop(key)
        return max(forgotten, self._prune_residues(stable, limit))

    def _is_expecting(self, key: str) -> bool:
        """Tell whether something that is to be removed under a key has not come yet."""
        cell = self._cells.get(key)
        starts = cell.tallies if cell is not None and cell.tallies is not None else ()
        return key in self._doomed or any(not self.context.has(*start) for start in starts)

    def _forget(self, key: str, touched: Mapping[str, int]) -> None:
        self._forgotten_revision = max(self._forgotten_revision, self.revision(key))
        self._first_revisions.pop(key, None)
        for replica, count in touched.items():
            self._note_pruned(replica, count)
            self._journals[replica].forget(key)
            if not self._journals[replica]:
                del self._journals[replica]
        cell = self._cells.get(key)
        if cell is not None:
            for start in list(cell.tallies or ()):
                self._drop_tally(cell, start)
            self._drop_cell(key)
        self._dead.pop(key, None)

    def _prune_residues(self, stable: Callable[[str], int], limit: int) -> int:
        """Drop tallies that are wholly removed once everybody knows it, under keys that have something else."""
        excess = len(self._residues) - max(_MIN_DEAD_KEPT, len(self._cells))
        dropped = 0
        for _ in range(min(limit, len(self._residues))):
            by, key, start = self._residues.popleft()
            cell = self._cells.get(key)
            tally = cell.tally(start) if cell is not None else None
            if cell is None or tally is None or not tally.is_removed:
                dropped += 1
            elif key in self._dead or not self.context.has(*start) or (excess <= 0 and by[1] > stable(by[0])):
                self._residues.append((by, key, start))
            else:
                excess -= 1
                dropped += 1
                self._drop_tally(cell, start)
                self._note_pruned(*by)
        return dropped

    def _note_pruned(self, replica: str, count: int) -> None:
        self.pruned[replica] = max(count, self.pruned.get(replica, 0))

    def _drop_tally(self, cell: Cell, start: Dot) -> None:
        """Drop what is left of a tally; from now on it is known by its absence to have been removed."""
        cell.drop_tally(start)
        self.size_bytes -= BOOKKEEPING_BYTES


def size_of(text: str) -> int:
    """Return the size of a text in UTF-8, in bytes."""
    return len(text) if text.isascii() else len(text.encode())


def by_replica(dots: Iterable[Dot]) -> dict[str, list[int]]:
    """Return the counts of dots by replica."""
    counts: dict[str, list[int]] = {}
    for replica, count in dots:
        counts.setdefault(replica, []).append(count)
    return counts


def floor_of(tally: Tally) -> Floor:
    """Return what removes all that a tally has come to."""
    return Floor(tally.replica, tally.start, tally.count, tally.total)


def _groups(cell: Cell) -> Iterator[tuple[int, Iterable[Item]]]:
    if cell.text is not None:
        yield _TEXT, [cell.text, *(cell.rivals or ())]
    if cell.members is not None:
        yield _MEMBER, cell.members.by_dot.values()
    if cell.elements is not None:
        yield _ELEMENT, cell.elements.by_dot.values()


def _state_of(kind: int, item: Item, *, is_known: bool) -> ItemState:
    value = None if is_known else item.value
    return ItemState(kind, item.replica, item.count, item.clock, value, item.expires_at_ms)


def _tally_state(tally: Tally) -> TallyState:
    return TallyState(*structs.astuple(tally))


def _tally_of(state: TallyState) -> Tally:
    return Tally(*structs.astuple(state))
