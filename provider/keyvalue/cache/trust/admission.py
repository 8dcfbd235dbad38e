"""The check of the content of messages before any of it is merged: no member's mistake may harm the others. Pure.

Each of these limits is far above what a replica sends that works. Beyond it, one message would cost more memory or time
than it has bytes, or leave behind something that this replica could not send on, so that no later one could join.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from provider.keyvalue.cache.causality import MAX_DRIFT_MS, MAX_OBSERVED_DRIFT_MS, latest_time
from provider.keyvalue.cache.items.cells import Cell
from provider.keyvalue.cache.items.item import ItemValue, size_of
from provider.keyvalue.cache.messages import (
    MAX_CLOUD_DOTS,
    MAX_REPLICAS,
    TEXT,
    AddBytes,
    AddCount,
    AddElement,
    AddMember,
    AddText,
    CellState,
    Clear,
    Deltas,
    Event,
    ItemState,
    TallyState,
    TransferPage,
)
from provider.keyvalue.cache.pieces.cutting import MAX_TEXT_BYTES
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES

MAX_COUNT = 2**53
"""Counter that no replica reaches: a million events a second would take 285 years."""

_MAX_DEFERRED = 10_000
"""Removals that wait for their items. Only reordered messages defer any, for the time until the rest arrives."""

_MAX_TALLIES = 2000
"""Tallies of one counter. All of them are sent in one part, which must fit into a message."""

_MAX_RIVALS = 500
"""Concurrent texts of one key, or copies of one member: one for each writer that has not heard of the others. Taking them
apart takes time with the square of their number."""

_MAX_TOLD = MAX_REPLICAS - 4000
"""Replicas in the context up to which those are added that others tell of. The rest is kept for those that this replica hears
itself: otherwise one message could name so many that none that starts later could write."""

_MAX_TOLD_DOTS = 5 * MAX_CLOUD_DOTS
"""Events after a gap up to which those of others are added. They travel with each context."""

_ROOM = 2
"""Factor by which data of other replicas may exceed this replica's limits: both sides of a partition may fill theirs."""

_DEFAULT_EVENT_BYTES = 1024 * 1024


class Admission:
    """The limits of one replica on the messages of others.

    Args:
        replica: Replica that is to take the messages in.

    Attributes:
        is_heard: Function that tells whether this replica hears another one itself.
        event_bytes: Greatest size of a key and an element together that this replica could send on.
        text_bytes: The same of a key and a text, which may go in pieces.
    """

    def __init__(self, replica: Replica) -> None:
        self.is_heard: Callable[[str], bool] = lambda _: False
        self.event_bytes = _DEFAULT_EVENT_BYTES
        self.text_bytes = MAX_TEXT_BYTES
        self._replica = replica
        self._max_keys: float = math.inf
        self._max_bytes: float = math.inf

    def limit(self, max_keys: int, max_bytes: int) -> None:
        """Set the limits of the cache; 0: no limit."""
        self._max_keys = max_keys or math.inf
        self._max_bytes = max_bytes or math.inf

    # --- deltas

    def check_deltas(self, sender: str, deltas: Deltas, now_ms: int) -> None:
        """Check the events of another replica.

        Raises:
            ForeignMessageError: One of them is not admissible. None may be applied.
        """
        replica, events = self._replica, deltas.events
        if deltas.first + len(events) > MAX_COUNT:
            raise ForeignMessageError(f"replica {sender} counts further than any replica can")
        vector = replica.context.vector
        if sender not in vector and len(vector) >= MAX_REPLICAS:
            raise ForeignMessageError("the cache has had too many replicas", Refusal.LIMIT)
        latest = latest_time(now_ms)
        for event in events:
            if event.clock > latest:
                raise ForeignMessageError(f"replica {sender} has a clock too far ahead", Refusal.CLOCK)
            self._check_event_text(event)
            if event.counter_removals or isinstance(event.add, AddCount):
                self._check_tallies(event)
            elif (
                isinstance(event.add, (AddText, AddBytes, AddMember))
                and self._rivals(event.key, event.add) > _MAX_RIVALS
            ):
                raise ForeignMessageError("too many concurrent values of one kind", Refusal.LIMIT)
        if len(events) > _MAX_RIVALS:
            self._check_rivals(sender, deltas)
        added_bytes = self._long_bytes(events[0]) if len(events) == 1 else 0
        if self._may_be_full(len(events), added_bytes) and any(self._adds(event) for event in events):
            self._check_room({event.key for event in events if event.add is not None}, added_bytes)
        replica.clock.ceiling_ms = now_ms + MAX_OBSERVED_DRIFT_MS

    def _check_event_text(self, event: Event) -> None:
        match event.add:
            case AddText() | AddBytes():
                self._check_text(event.key, event.add.value, self.text_bytes)
            case AddMember() | AddElement():
                self._check_text(event.key, event.add.value, self.event_bytes)
            case _:
                self._check_text(event.key, "", self.event_bytes)

    def check_size(self, size_bytes: int) -> None:
        """Check the size of a text before its pieces are kept.

        Raises:
            ForeignMessageError: There is no room for it, whatever it replaces.
        """
        if size_bytes > _ROOM * self._max_bytes:
            raise ForeignMessageError(f"a text over twice MAX_BYTES of {self._max_bytes}", Refusal.LIMIT)

    def is_premature(self, deltas: Deltas, *, is_gap: bool) -> bool:
        """Tell whether too much of what these events follow has not arrived. A transfer then brings all of it in order."""
        context, deferred = self._replica.context, self._replica.deferred
        vector = context.vector
        # The removal of a large set or list counts on all events of its vector being here.
        if any(
            count > vector.get(author, 0)
            for event in deltas.events
            if isinstance(event.add, Clear)
            for author, count in event.add.vector.items()
        ):
            return True
        if is_gap and sum(map(len, context.cloud.values())) + len(deltas.events) > MAX_CLOUD_DOTS:
            return True
        removed = 0
        for event in deltas.events:
            for counts in event.removes.values():
                removed += len(counts)
        if removed <= _MAX_DEFERRED and not deferred:
            return False
        early = sum(
            not context.has(author, count)
            for event in deltas.events
            for author, counts in event.removes.items()
            for count in counts
        )
        return sum(map(len, deferred.values())) + early > _MAX_DEFERRED

    def _check_tallies(self, event: Event) -> None:
        cell = self._replica.cells.get(event.key)
        known = len(cell.tallies) if cell is not None and cell.tallies else 0
        if known + len(event.counter_removals) + 1 > _MAX_TALLIES:
            raise ForeignMessageError("a counter with too many tallies", Refusal.LIMIT)

    def _rivals(self, key: str, add: AddText | AddBytes | AddMember) -> int:
        """Return the number of texts that are siblings, or of copies of a member, beside which a new one would stand."""
        cell = self._replica.cells.get(key)
        if cell is None:
            return 0
        if isinstance(add, (AddText, AddBytes)):
            return len(cell.siblings) if cell.siblings is not None else 0
        return len(cell.members.copies(add.value)) if cell.members is not None else 0

    def _check_rivals(self, sender: str, deltas: Deltas) -> None:
        """Refuse events that add many texts to one key, or copies of a member, without removing the one before."""
        last: dict[tuple[str, str | None], int] = {}
        rivals: dict[tuple[str, str | None], int] = {}
        for count, event in enumerate(deltas.events, deltas.first):
            if isinstance(event.add, (AddText, AddBytes, AddMember)):
                target = event.key, event.add.value if isinstance(event.add, AddMember) else None
                if last.get(target, 0) not in event.removes.get(sender, ()):
                    rivals[target] = rivals.get(target, 0) + 1
                    if rivals[target] > _MAX_RIVALS:
                        raise ForeignMessageError("too many concurrent values of one kind", Refusal.LIMIT)
                last[target] = count

    def _adds(self, event: Event) -> bool:
        """Tell whether an event adds anything; the removal of a tally does if it arrives before the tally."""
        is_addition = event.add is not None and not isinstance(event.add, Clear)
        if is_addition or not event.counter_removals:
            return is_addition
        cell = self._replica.cells.get(event.key)
        starts = [(removal.replica, removal.start) for removal in event.counter_removals]
        return cell is None or any(cell.tally(start) is None for start in starts)

    # --- pages

    def check_page(self, page: TransferPage, now_ms: int) -> None:
        """Check a page of a transfer.

        Raises:
            ForeignMessageError: Something on it is not admissible. Nothing of it may be merged.
        """
        replica = self._replica
        if page.context is not None:
            self._check_vector(page.context.vector)
            self._check_cloud(page.context.cloud)
        for vector in (page.discarded, *(cell.vector for cell in page.cells)):
            self._check_vector(vector)
        deferred = sum(map(len, replica.deferred.values())) if replica.deferred else 0
        if deferred + sum(len(cell.deferred) for cell in page.cells) > 2 * _MAX_DEFERRED:
            raise ForeignMessageError("too many removals of items that have not arrived", Refusal.LIMIT)
        # Another replica may have taken in a time that was as far ahead of its own clock as it allows.
        latest = latest_time(now_ms + MAX_DRIFT_MS)
        for cell in page.cells:
            self._check_cell(cell, latest)
        added_bytes = sum(self._long_item_bytes(item) for cell in page.cells for item in cell.items)
        if self._may_be_full(len(page.cells), added_bytes) and any(self._adds_state(cell) for cell in page.cells):
            self._check_room({cell.key for cell in page.cells if cell.items or cell.tallies}, added_bytes)
        replica.clock.ceiling_ms = now_ms + MAX_OBSERVED_DRIFT_MS

    def _check_vector(self, vector: Mapping[str, int]) -> None:
        replica = self._replica
        if replica.id in vector and vector[replica.id] > replica.count:
            raise ForeignMessageError("events of this replica that it has not made", Refusal.NAME)
        self._check_names(vector)

    def _check_names(self, names: Collection[str]) -> None:
        """Refuse replicas that there is no room for in the context."""
        context = self._replica.context
        known = len(context.vector) + len(context.cloud)
        # An upper bound that is cheap to compute.
        if known + len(names) <= _MAX_TOLD:
            return
        new = [name for name in names if not context.has_any(name)]
        told = sum(not self.is_heard(name) for name in new)
        if (told and known + told > _MAX_TOLD) or (new and known + len(new) > MAX_REPLICAS):
            raise ForeignMessageError("the cache has had too many replicas", Refusal.LIMIT)

    def _check_cloud(self, cloud: Mapping[str, Sequence[int]]) -> None:
        replica, own = self._replica, self._replica.context.cloud
        if max(cloud.get(replica.id, ()), default=0) > replica.count:
            raise ForeignMessageError("events of this replica that it has not made", Refusal.NAME)
        self._check_names(cloud)
        if sum(map(len, own.values())) + sum(map(len, cloud.values())) > _MAX_TOLD_DOTS:
            raise ForeignMessageError("too many events after a gap", Refusal.LIMIT)

    def _check_cell(self, cell: CellState, latest: int) -> None:
        """Check a cell on a page; its times are up to a given hybrid time."""
        replica, key = self._replica, cell.key
        own, count = replica.id, replica.count
        if len(cell.tallies) > _MAX_TALLIES:
            raise ForeignMessageError("a counter with too many tallies", Refusal.LIMIT)
        # Another replica may have taken in twice as many by two messages, before it refused more.
        if sum(item.kind == TEXT for item in cell.items) > 2 * _MAX_RIVALS:
            raise ForeignMessageError("too many concurrent values of one kind", Refusal.LIMIT)
        for item in cell.items:
            self._check_text(key, item.value or "", self.text_bytes if item.kind == TEXT else self.event_bytes)
            if item.value is None and not replica.has_seen(key, (item.replica, item.count)):
                raise ForeignMessageError("an item without the value that this replica lacks")
        states: list[ItemState | TallyState] = [*cell.items, *cell.tallies]
        for state in states:
            if state.clock > latest:
                raise ForeignMessageError("a time too far in the future", Refusal.CLOCK)
            if state.replica == own and state.count > count:
                raise ForeignMessageError("events of this replica that it has not made", Refusal.NAME)

    def _adds_state(self, sent: CellState) -> bool:
        """Tell whether a cell on a page has an item or a tally that this replica does not have."""
        cell = self._replica.cells.get(sent.key) or Cell()
        is_new_item = any(
            state.value is not None and not cell.has((state.replica, state.count)) for state in sent.items
        )
        return is_new_item or any(cell.tally((state.replica, state.start)) is None for state in sent.tallies)

    # --- limits

    def _check_text(self, key: str, text: ItemValue, most: int) -> None:
        """Refuse a text that could not be sent on: no replica that starts later could ever have all keys."""
        # In UTF-8 a character takes at most four bytes.
        if 4 * (len(key) + len(text)) <= MAX_BUCKET_KEY_BYTES:
            return
        key_bytes = size_of(key)
        if key_bytes > MAX_BUCKET_KEY_BYTES or key_bytes + size_of(text) > most:
            raise ForeignMessageError(f"a text of {size_of(text)} bytes, which could not be sent on", Refusal.LIMIT)

    def _long_bytes(self, event: Event) -> int:
        """Return by how much a text that does not fit into a message makes the cache larger; 0 for any other event."""
        add = event.add
        if not isinstance(add, AddText | AddBytes) or 4 * len(add.value) <= self.event_bytes:
            return 0
        cell = self._replica.cells.get(event.key)
        before = cell.text if cell is not None else None
        is_replaced = before is not None and before.count in event.removes.get(before.replica, ())
        return size_of(add.value) - (size_of(before.value) if before is not None and is_replaced else 0)

    def _long_item_bytes(self, item: ItemState) -> int:
        """Return the size of a text that does not fit into a message; 0 for any other item."""
        return size_of(item.value) if item.value and 4 * len(item.value) > self.event_bytes else 0

    def _may_be_full(self, added_keys: int, added_bytes: int) -> bool:
        """Tell whether the limits would be exceeded if all keys were new. Texts that fit into a message do not count."""
        replica = self._replica
        size_bytes = replica.size_bytes + added_bytes
        return replica.keys + added_keys > _ROOM * self._max_keys or size_bytes > _ROOM * self._max_bytes

    def _check_room(self, added: set[str], added_bytes: int) -> None:
        replica = self._replica
        keys = replica.keys + sum(key not in replica.cells for key in added)
        if keys > _ROOM * self._max_keys:
            raise ForeignMessageError(f"more than twice MAX_KEYS of {self._max_keys}", Refusal.LIMIT)
        if replica.size_bytes + added_bytes > _ROOM * self._max_bytes:
            raise ForeignMessageError(f"more than twice MAX_BYTES of {self._max_bytes}", Refusal.LIMIT)
