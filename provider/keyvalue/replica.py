"""One replica of a cache: its state, and how events and other replicas' states are merged into it. Pure.

Whatever arrives in whatever order, however often: replicas that have taken in the same events hold the same. Times and
what others have seen are arguments; who sends what to whom is `replication`'s business.

Two things make anti-entropy cheap. A journal knows, by replica, the last event that touched each key, so that what
another replica lacks is found without comparing states; a deleted key leaves its journal entries behind until all have
seen the deletion. And a key's whole state, sent with the sender's context, tells what is there and what has been removed.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import structs

from provider.keyvalue.crdt import Cell, Context, Dot, HybridClock, Item, Tally
from provider.keyvalue.deltas import (
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
_MAX_COVERAGES = 16
"""Transfers that ended half-way and are remembered; more only when they fail one after the other."""


def _ignore(*_: object) -> None:
    pass


class Replica:
    """The state of one replica.

    Args:
        replica_id: Never used by any other replica, nor by this one's process before it was started again.
        on_event: Called after every own event.
        on_expiry: Called with the key and the item when a text that expires has been added.

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
        self._journals: dict[str, _Journal] = {}
        self._dead: dict[str, None] = {}
        self._hollow: set[str] = set()
        """Dead keys that still have cells, for tallies that not everybody knows to be removed."""
        self._doomed: dict[str, set[Dot]] = {}
        """By key, items, and tallies by their start, that were removed before they came."""
        self._coverages: list[Coverage] = []
        """Of transfers that have not been absorbed."""
        self._residues: deque[tuple[Dot, str, Dot]] = deque()

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
        for remover, counts in event.removes.items():
            for removed in counts:
                self._remove(key, cell, (remover, removed))
        for floor in event.floors:
            self._lower(key, cell, floor, (replica, count))
        if event.add is not None:
            self._add(cell, replica, count, event)
        self._journal(replica).note(key, count)
        if self._dead or cell.text is None:
            self._settle(key, cell)

    def _add(self, cell: Cell, replica: str, count: int, event: Event) -> None:
        add, key = event.add, event.key
        if isinstance(add, AddCount):
            tally = Tally(replica, add.start, add.base, count, event.clock, add.total, add.expires_at_ms)
            self._add_tally(key, cell, tally, is_start=count == add.start)
            return
        dot = (replica, count)
        if replica != self.id and (
            (self._doomed and self._is_spared(key, dot))
            or (self._coverages and self._is_covered(key, dot))
            or cell.has(dot)
        ):
            return  # it was removed before it came, or came with the key's state
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

    def _add_tally(self, key: str, cell: Cell, tally: Tally, *, is_start: bool = False) -> None:
        """Take in a tally or a later version of one. One whose start has been seen and that is not there was removed."""
        start = (tally.replica, tally.start)
        known = cell.tally(start)
        if known is not None:
            known.add(tally)
        elif is_start and self._is_spared(key, start):
            return
        elif (is_start and not self._is_covered(key, start)) or not self._has_seen(key, start):
            cell.add_tally(tally)
            self.size_bytes += BOOKKEEPING_BYTES

    def _remove(self, key: str, cell: Cell, dot: Dot) -> None:
        """Remove an item, or a tally by its start, and see to it that it is not added when it comes after its removal."""
        item = cell.remove(dot)
        if item is not None:
            self.size_bytes -= BOOKKEEPING_BYTES + size_of(item.value)
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

    def _new_cell(self, key: str) -> Cell:
        self.size_bytes += BOOKKEEPING_BYTES + size_of(key)
        cell = self._cells[key] = Cell()
        return cell

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

    def _journal(self, replica: str) -> _Journal:
        journal = self._journals.get(replica)
        if journal is None:
            journal = self._journals[replica] = _Journal()
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
        for state in part.items:
            dot = (state.replica, state.count)
            if state.value is None or self._has_seen(key, dot) or cell.has(dot):
                continue
            item = Item(state.replica, state.count, state.clock, state.value, state.expires_at_ms)
            self._add_item(key, cell, state.kind, item)
            self.clock.see(state.clock)
        if part.after is None:
            self._merge_tallies(key, cell, part.tallies, context)
        coverage.add(part)
        for replica, count in part.touched.items():
            self._journal(replica).note(key, count)
        self._settle(key, cell)

    def _merge_tallies(self, key: str, cell: Cell, states: list[TallyState], context: Context) -> None:
        there = {(state.replica, state.start) for state in states}
        for start in [start for start in cell.tallies or () if start not in there and context.has(*start)]:
            self._remove(key, cell, start)
        for state in states:
            self._add_tally(key, cell, _tally_of(state))
            self.clock.see(state.clock)
            if state.removed_by is not None:
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


class Coverage:
    """What has been taken in of a transfer so far: of some keys, all that the sender had when it began.

    Until the transfer is absorbed the own context does not say so. Without this, a late copy of an event would bring an
    item back that the sender had seen removed.
    """

    __slots__ = ("_keys", "_until", "context")

    def __init__(self, context: Context) -> None:
        self.context = context
        self._keys: set[str] = set()
        self._until: dict[str, Dot] = {}

    def add(self, part: Part) -> None:
        """Note a part that has been taken in; the parts of a key come in order."""
        if part.until is None:
            self._until.pop(part.key, None)
            self._keys.add(part.key)
        else:
            self._until[part.key] = part.until

    def has_key(self, key: str) -> bool:
        return key in self._keys

    def has(self, key: str, dot: Dot) -> bool:
        """Tell whether it is known what has become of an item or a tally."""
        if not self.context.has(*dot):
            return False
        return key in self._keys or (key in self._until and dot <= self._until[key])


class _Journal:
    """By key, the last event of one replica that touched it; in the order of the events unless they came otherwise."""

    __slots__ = ("_counts", "_is_ordered", "_last")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._last = 0
        self._is_ordered = True

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: str) -> int | None:
        return self._counts.get(key)

    def note(self, key: str, count: int) -> None:
        counts = self._counts
        if key in counts:
            if counts[key] >= count:
                return
            del counts[key]
        counts[key] = count
        if count > self._last:
            self._last = count
        else:
            self._is_ordered = False

    def forget(self, key: str) -> None:
        self._counts.pop(key, None)

    def after(self, count: int) -> Iterable[str]:
        """Return the keys touched by later events than one."""
        if count >= self._last:
            return ()
        if not self._is_ordered:
            return [key for key, touched in self._counts.items() if touched > count]
        return itertools.islice(self._counts, bisect.bisect_right(list(self._counts.values()), count), None)


def size_of(text: str) -> int:
    """Return the size of a text in UTF-8, in bytes."""
    return len(text) if text.isascii() else len(text.encode())


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
