"""The cell of a key: its items and tallies, and the value that an actor sees in them. Pure.

An item (a text, a member of a set, an element of a list) is identified by the dot of the event that added it. It is
removed by naming that dot, so a removal takes away what its author had seen and nothing else. Concurrent texts are kept
as siblings until a later event removes them. A counter is the sum of tallies, each written by one replica only.
"""

from __future__ import annotations

import bisect
from operator import attrgetter, itemgetter

from msgspec import Struct

from provider.keyvalue.byte_values import counted
from provider.keyvalue.cache.causality import Dot, by_replica
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.values import DECIMAL

BOOKKEEPING_BYTES = 100
"""Size counted for an item, a tally or a key beyond its text: about what the objects that hold it take in memory."""


def size_of(value: str | bytes) -> int:
    """Return the size of a text in UTF-8, or of a binary value, in bytes."""
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())


class Item(Struct, gc=False):
    """A text, a member of a set or an element of a list.

    Attributes:
        replica: Replica that added it.
        count: That replica's counter; both together are the dot of the item.
        clock: Hybrid time of the event.
        value: Text of the item; a binary value in place of a text is bytes.
        expires_at_ms: Moment from which it is no longer seen, in milliseconds since 1970; 0: it does not expire.
    """

    replica: str
    count: int
    clock: int
    value: str | bytes
    expires_at_ms: int = 0

    @property
    def dot(self) -> Dot:
        return self.replica, self.count

    @property
    def order(self) -> tuple[int, str, int]:
        """Total order of items: by time, then by dot, so that it is the same on all replicas."""
        return self.clock, self.replica, self.count


_order_of = attrgetter("order")


class Tally(Struct, gc=False):
    """The increments of one replica to one counter, and the part of them that has been removed.

    Only its own replica adds to a tally. A removal names the sum that its author saw, so increments made concurrently
    remain. Both parts only grow: of two versions the one with the greater count is right, whichever arrives first.

    Attributes:
        replica: Replica that increments.
        start: Counter of the event that began the tally; with the replica it is the identity of the tally.
        base: Dot of the text that is incremented; `None`: counting starts from zero.
        count: Counter of the last event that added to it.
        clock: Hybrid time of that event; 0 when only a removal of it has arrived so far.
        total: Sum of all increments since `start`.
        expires_at_ms: Moment from which it is no longer seen; 0: it does not expire.
        removed_count: Counter of the last event that a removal has seen; equal to `count` when everything is removed.
        removed_total: Sum at that event.
        removed_by: Dot of that removal.
    """

    replica: str
    start: int
    base: Dot | None
    count: int
    clock: int
    total: int
    expires_at_ms: int = 0
    removed_count: int = 0
    removed_total: int = 0
    removed_by: Dot | None = None

    @property
    def is_removed(self) -> bool:
        return self.removed_count >= self.count

    def merge(self, other: Tally) -> None:
        """Merge another version of the same tally."""
        if other.count > self.count:
            self.count, self.clock, self.total = other.count, other.clock, other.total
            self.base, self.expires_at_ms = other.base, other.expires_at_ms
        elif other.count == self.count and not self.clock:
            # A removal arrived first and brought the count and the total, but not the rest.
            self.base, self.clock, self.expires_at_ms = other.base, other.clock, other.expires_at_ms
        self.remove(other.removed_count, other.removed_total, other.removed_by)

    def remove(self, count: int, total: int, by: Dot | None) -> None:
        """Remove the sum that the tally had at one of its events.

        That event may not have arrived yet. The removal then stands in for it, with clock 0, until it arrives.
        """
        if count > self.removed_count:
            self.removed_count, self.removed_total, self.removed_by = count, total, by
        if count > self.count:
            self.count, self.total, self.clock = count, total, 0


class Items:
    """The items of a set or a list."""

    __slots__ = ("by_dot",)

    def __init__(self) -> None:
        self.by_dot: dict[Dot, Item] = {}

    def add(self, item: Item) -> None:
        self.by_dot[item.dot] = item

    def remove(self, dot: Dot) -> Item | None:
        return self.by_dot.pop(dot, None)


class Members(Items):
    """The members of a set. A member that several replicas added concurrently has several dots."""

    __slots__ = ("by_value",)

    def __init__(self) -> None:
        super().__init__()
        self.by_value: dict[str | bytes, tuple[Item, ...]] = {}

    def add(self, item: Item) -> None:
        super().add(item)
        self.by_value[item.value] = (*self.by_value.get(item.value, ()), item)

    def remove(self, dot: Dot) -> Item | None:
        item = super().remove(dot)
        if item is not None:
            rest = tuple(other for other in self.by_value[item.value] if other is not item)
            if rest:
                self.by_value[item.value] = rest
            else:
                del self.by_value[item.value]
        return item


class Elements(Items):
    """The elements of a list, the oldest first."""

    __slots__ = ("ordered", "texts")

    def __init__(self) -> None:
        super().__init__()
        self.ordered: list[Item] = []
        self.texts: list[str | bytes] = []

    def add(self, item: Item) -> None:
        super().add(item)
        index = len(self.ordered)
        # Nearly every element is the latest one; only concurrent ones go further to the front.
        if index and item.order < self.ordered[-1].order:
            index = bisect.bisect_left(self.ordered, item.order, key=_order_of)
        self.ordered.insert(index, item)
        self.texts.insert(index, item.value)

    def remove(self, dot: Dot) -> Item | None:
        item = super().remove(dot)
        if item is not None:
            index = bisect.bisect_left(self.ordered, item.order, key=_order_of)
            del self.ordered[index], self.texts[index]
        return item


class Cell(Struct, gc=False):
    """Everything a replica holds under one key. Most cells hold a single text; kinds mix only after concurrent writes.

    Attributes:
        text: Text with the latest time, or None.
        siblings: Texts written concurrently to it, with earlier times, or None.
        tallies: Tallies by the dot of their start, or None. One that is wholly removed stays as a tombstone until every
            replica knows of the removal.
        members: Members of a set, or None.
        elements: Elements of a list, or None.
    """

    text: Item | None = None
    siblings: list[Item] | None = None
    tallies: dict[Dot, Tally] | None = None
    members: Members | None = None
    elements: Elements | None = None

    @property
    def has_only_text(self) -> bool:
        """True if the cell holds nothing but at most one text."""
        return self.siblings is None and self.members is None and self.elements is None and self.tallies is None

    @property
    def is_live(self) -> bool:
        """True if the cell holds a value, expired or not."""
        return (
            self.text is not None
            or self.members is not None
            or self.elements is not None
            or bool(self.tallies and self.live_tallies())
        )

    def texts(self) -> list[Item]:
        """Return the text and its siblings."""
        return [] if self.text is None else [self.text, *(self.siblings or ())]

    def items(self) -> list[Item]:
        """Return all items. Tallies are not items."""
        items = self.texts()
        if self.members is not None:
            items += self.members.by_dot.values()
        if self.elements is not None:
            items += self.elements.by_dot.values()
        return items

    def dots(self) -> dict[str, list[int]]:
        """Return the dots of all items, by replica."""
        text = self.text
        if text is not None and self.has_only_text:
            return {text.replica: [text.count]}
        return by_replica(item.dot for item in self.items())

    def has(self, dot: Dot) -> bool:
        """Tell whether an item is in the cell."""
        text = self.text
        return (
            (text is not None and text.count == dot[1] and text.replica == dot[0])
            or (self.siblings is not None and any(sibling.dot == dot for sibling in self.siblings))
            or (self.members is not None and dot in self.members.by_dot)
            or (self.elements is not None and dot in self.elements.by_dot)
        )

    # --- adding and removing

    def add_text(self, item: Item) -> None:
        if self.text is None:
            self.text = item
            return
        later, earlier = (item, self.text) if item.order > self.text.order else (self.text, item)
        self.text = later
        self.siblings = [*(self.siblings or ()), earlier]

    def add_member(self, item: Item) -> None:
        if self.members is None:
            self.members = Members()
        self.members.add(item)

    def add_element(self, item: Item) -> None:
        if self.elements is None:
            self.elements = Elements()
        self.elements.add(item)

    def remove(self, dot: Dot) -> Item | None:
        """Remove an item and return it, or None if it is not in the cell."""
        text = self.text
        if text is not None and text.count == dot[1] and text.replica == dot[0]:
            self._promote_sibling()
            return text
        for sibling in self.siblings or ():
            if sibling.dot == dot:
                self._drop_sibling(sibling)
                return sibling
        item = None
        if self.members is not None:
            item = self.members.remove(dot)
            self.members = self.members if self.members.by_dot else None
        if item is None and self.elements is not None:
            item = self.elements.remove(dot)
            self.elements = self.elements if self.elements.by_dot else None
        return item

    def _promote_sibling(self) -> None:
        """Put the latest sibling in the place of the text, which has been removed."""
        self.text = max(self.siblings, key=_order_of) if self.siblings else None
        if self.text is not None:
            self._drop_sibling(self.text)

    def _drop_sibling(self, item: Item) -> None:
        self.siblings = [sibling for sibling in self.siblings or () if sibling is not item] or None

    def tally(self, start: Dot) -> Tally | None:
        return self.tallies.get(start) if self.tallies else None

    def live_tallies(self) -> list[Tally]:
        return [tally for tally in self.tallies.values() if not tally.is_removed] if self.tallies else []

    def add_tally(self, tally: Tally) -> None:
        if self.tallies is None:
            self.tallies = {}
        self.tallies[tally.replica, tally.start] = tally

    def drop_tally(self, start: Dot) -> None:
        if self.tallies is not None:
            self.tallies.pop(start, None)
            self.tallies = self.tallies or None

    # --- the value that an actor sees

    def value(self, now_ms: int) -> Value | None:
        """Return the value that an actor sees, or None if there is no value or it has expired.

        Of kinds that were written concurrently, the kind of the latest write is seen, on every replica the same.
        """
        if self.members is None and self.elements is None:
            return self._text_or_counter(now_ms)
        kind = self._latest_kind()
        if kind is Kind.SET and self.members is not None:
            return Value(Kind.SET, self.members.by_value)
        if kind is Kind.LIST and self.elements is not None:
            return Value(Kind.LIST, self.elements.texts)
        return self._text_or_counter(now_ms)

    def visible_tallies(self, now_ms: int) -> list[Tally]:
        """Return the tallies that an actor sees the sum of: those on the text, or all unexpired ones without a text."""
        tallies = self.live_tallies()
        if self.text is not None:
            dot = self.text.dot
            return [tally for tally in tallies if tally.base == dot]
        return [tally for tally in tallies if not 0 < tally.expires_at_ms <= now_ms]

    def _text_or_counter(self, now_ms: int) -> Value | None:
        text = self.text
        if text is not None and 0 < text.expires_at_ms <= now_ms:
            return None
        tallies = self.visible_tallies(now_ms) if self.tallies else ()
        total = sum(tally.total - tally.removed_total for tally in tallies)
        if text is not None:
            if isinstance(text.value, bytes):
                return Value(Kind.BINARY, text.value, text.expires_at_ms)
            if not tallies or not DECIMAL.match(text.value):
                return Value(Kind.TEXT, text.value, text.expires_at_ms)
            return counted(int(text.value) + total, text.expires_at_ms)
        if not tallies:
            return None
        # The counter lasts as long as any of its tallies.
        expiries = [tally.expires_at_ms for tally in tallies]
        return counted(total, max(expiries) if all(expiries) else 0)

    def _latest_kind(self) -> Kind:
        if self.text is None and self.tallies is None and (self.members is None or self.elements is None):
            return Kind.SET if self.elements is None else Kind.LIST
        latest = [
            (max(item.order for item in items.by_dot.values()), kind)
            for kind, items in ((Kind.SET, self.members), (Kind.LIST, self.elements))
            if items is not None
        ]
        if self.text is not None:
            latest.append((self.text.order, Kind.TEXT))
        latest += [((tally.clock, tally.replica, tally.count), Kind.TEXT) for tally in self.live_tallies()]
        return max(latest, key=itemgetter(0))[1]
