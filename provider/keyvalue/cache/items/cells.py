"""The cell of a key: its items and tallies, and the value that an actor sees in them. Pure.

An item (a text, a member of a set, an element of a list) is identified by the dot of the event that added it. It is
removed by naming that dot, so a removal takes away what its author had seen and nothing else. Concurrent texts are kept
as siblings until a later event removes them. A counter is the sum of tallies, each written by one replica only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from operator import attrgetter, itemgetter

from msgspec import Struct

from provider.keyvalue.byte_values import counted
from provider.keyvalue.cache.causality import Dot, by_replica
from provider.keyvalue.cache.items.collections import Collection, Elements, Members, order_of
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, is_text, size_of
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.values import DECIMAL


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


_dot_of = attrgetter("dot")


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

    def collections(self) -> list[Collection]:
        """Return the set and the list, if they are there."""
        return [items for items in (self.members, self.elements) if items is not None]

    @property
    def count(self) -> int:
        """Number of items. Tallies are not items."""
        return len(self.texts()) + sum(items.count for items in self.collections())

    @property
    def size_bytes(self) -> int:
        """Size of all items: of their values in UTF-8, plus `BOOKKEEPING_BYTES` for each."""
        texts = sum(BOOKKEEPING_BYTES + size_of(text.value) for text in self.texts())
        return texts + sum(items.size_bytes for items in self.collections())

    def items(self, after: Dot | None = None, until: Dot | None = None) -> Iterator[Item]:
        """Iterate in the order of dots over the items behind one dot, up to another one. There must be no change meanwhile.

        Args:
            after: Dot before the first item; None: from the first one.
            until: Dot of the last item, or one behind it; None: to the last one.
        """
        texts = (
            text
            for text in sorted(self.texts(), key=_dot_of)
            if (after is None or text.dot > after) and (until is None or text.dot <= until)
        )
        others = [items.between(after, until) for items in self.collections()]
        return merge(texts, *others, key=_dot_of) if others else texts

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
            or (self.members is not None and self.members.get(dot) is not None)
            or (self.elements is not None and self.elements.get(dot) is not None)
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
            self.members = self.members if self.members.count else None
        if item is None and self.elements is not None:
            item = self.elements.remove(dot)
            self.elements = self.elements if self.elements.count else None
        return item

    def clear(self, vector: Mapping[str, int]) -> list[Collection]:
        """Remove the members and elements of events that a version vector has; return the sets and lists that go."""
        before = self.collections()
        self.members = self.members.without(vector) if self.members is not None else None
        self.elements = self.elements.without(vector) if self.elements is not None else None
        return [items for items in before if items is not self.members and items is not self.elements]

    def _promote_sibling(self) -> None:
        """Put the latest sibling in the place of the text, which has been removed."""
        self.text = max(self.siblings, key=order_of) if self.siblings else None
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
            return Value(Kind.SET, self.members.by_value())
        if kind is Kind.LIST and self.elements is not None:
            return Value(Kind.LIST, self.elements)
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
            if not is_text(text.value):
                return Value(Kind.BINARY, text.value, text.expires_at_ms)
            # A long text is longer than any number.
            if not tallies or not isinstance(text.value, str) or not DECIMAL.match(text.value):
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
        latest = []
        if self.members is not None:
            latest.append((self.members.latest(), Kind.SET))
        if self.elements is not None:
            latest.append((self.elements.latest(), Kind.LIST))
        if self.text is not None:
            latest.append((self.text.order, Kind.TEXT))
        latest += [((tally.clock, tally.replica, tally.count), Kind.TEXT) for tally in self.live_tallies()]
        return max(latest, key=itemgetter(0))[1]
