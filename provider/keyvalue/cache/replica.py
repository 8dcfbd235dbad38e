"""One replica of a cache: it commits events of its own, applies those of others, and answers reads. Pure.

Replicas that have applied the same events hold the same values, in whatever order and however often the events arrived.
`merge` takes in what another replica has in pages instead of events.
"""

from __future__ import annotations

from collections.abc import Callable

from provider.keyvalue.cache.causality import by_replica
from provider.keyvalue.cache.items.cells import Cell, Tally
from provider.keyvalue.cache.items.item import Item
from provider.keyvalue.cache.messages import (
    ELEMENT,
    MEMBER,
    TEXT,
    AddBytes,
    AddCount,
    AddElement,
    AddMember,
    AddText,
    Clear,
    Event,
)
from provider.keyvalue.cache.state import ReplicaState
from provider.keyvalue.kinds import Value

_KINDS = {AddText: TEXT, AddBytes: TEXT, AddMember: MEMBER, AddElement: ELEMENT}


def _ignore(*_: object) -> None:
    pass


class Replica(ReplicaState):
    """A state that changes by events.

    Args:
        replica_id: Id that no other replica has, nor this one's process before it was restarted.
        on_event: Function called after each own event.
        on_expiry: Function that schedules an expiry; see `ReplicaState`.

    Attributes:
        unsent: Own events that have not been published yet.
    """

    def __init__(
        self,
        replica_id: str,
        on_event: Callable[[], None] = _ignore,
        on_expiry: Callable[[str, Item], None] = _ignore,
    ) -> None:
        super().__init__(on_expiry)
        self.id = replica_id
        self.unsent: list[Event] = []
        self._on_event = on_event

    # --- reading

    @property
    def count(self) -> int:
        """Counter of the last own event."""
        return self.context.vector.get(self.id, 0)

    def read(self, key: str, now_ms: int) -> Value | None:
        """Return the value that an actor sees under a key, or None. Its data must not be changed."""
        cell = self.cells.get(key)
        return cell.value(now_ms) if cell is not None else None

    def revision(self, key: str) -> int:
        """Return a number that grows with each event on a key. Another replica may give other numbers."""
        return self.journals.revision(key)

    # --- events

    def commit(self, event: Event) -> None:
        """Apply a new event of this replica, and keep it to be published."""
        self.apply(self.id, self.count + 1, event)
        self.unsent.append(event)
        self._on_event()

    def apply(self, replica: str, count: int, event: Event) -> None:
        """Apply an event, given with its dot."""
        # 1. Repeated, or replayed from a page: each event is applied once.
        if not self.context.add(replica, count):
            return
        # 2. Own events that follow must be later than this one, however slow the own clock is.
        self.clock.observe(event.clock)
        key = event.key
        cell = self.cells.get(key)
        if cell is None:
            cell = self.new_cell(key)
        # 3. Remove what the author had seen, and add what the author added.
        if not self._overwrite(cell, replica, count, event):
            self._remove_and_add(cell, replica, count, event)
        # 4. Note the key for those who lack this event, and whether it holds a value now.
        self.journals.note(key, replica, count)
        if self.key_tombstones or cell.text is None:
            self.update_liveness(key, cell)
        # 5. Some of what arrived cannot be kept on all replicas: remove it from all.
        if self.pending_removals or self.pending_counter_removals:
            self.compensate(key)

    def _overwrite(self, cell: Cell, replica: str, count: int, event: Event) -> bool:
        """Replace a text by one that removes exactly it, if nothing else is affected; return whether that was done.

        The outcome is that of removing and adding, at a third of the cost. Most events are of this form.
        """
        add, before, removes = event.add, cell.text, event.removes
        if (
            not isinstance(add, (AddText, AddBytes))
            or before is None
            or not cell.has_only_text
            or len(removes) != 1
            or removes.get(before.replica) != [before.count]
            or event.counter_removals
            or self.deferred
            or self.coverages
            or not self.context.has(before.replica, before.count)
        ):
            return False
        item = Item(replica, count, event.clock, add.value, add.expires_at_ms)
        self.replace_text(event.key, cell, before, item)
        return True

    def _remove_and_add(self, cell: Cell, replica: str, count: int, event: Event) -> None:
        key = event.key
        for removal in event.counter_removals:
            self.remove_counted(key, cell, removal, (replica, count))
        for author, counts in event.removes.items():
            for removed in counts:
                self.remove(key, cell, (author, removed))
        if isinstance(event.add, Clear):
            self.clear(key, cell, event.add.vector)
        elif event.add is not None:
            self._add(cell, replica, count, event)

    def _add(self, cell: Cell, replica: str, count: int, event: Event) -> None:
        add, key, dot = event.add, event.key, (replica, count)
        assert add is not None
        assert not isinstance(add, Clear)
        if isinstance(add, AddCount):
            tally = Tally(replica, add.start, add.base, count, event.clock, add.total, add.expires_at_ms)
            self.add_tally(key, cell, tally, is_first=count == add.start)
            return
        if replica != self.id:
            # Reordered: the removal of the item arrived first.
            if self.take_deferred(key, dot):
                return
            # A page of a transfer brought the item before its event arrived.
            if cell.has(dot):
                return
            # A page told that the item has been removed.
            if self.coverages and self.is_covered(key, dot):
                self.compensate_if_abandoned(key, dot)
                return
        expires_at_ms = add.expires_at_ms if isinstance(add, (AddText, AddBytes)) else 0
        self.add_item(key, cell, _KINDS[type(add)], Item(replica, count, event.clock, add.value, expires_at_ms))

    def compensate(self, key: str) -> None:
        """Commit the pending removals of a key as an own event, so that all replicas come to agree."""
        dots, self.pending_removals = self.pending_removals, []
        counter_removals, self.pending_counter_removals = self.pending_counter_removals, []
        self.commit(Event(self.clock.tick(0), key, None, by_replica(dots), counter_removals))
