"""What the replicas of a cache agree on: dots, contexts, and what stands under a key, mergeable in any order. Pure.

Every change is an event with a dot: which replica made it and the how-manieth of that replica it is. What a key holds are
items, each known by the dot that added it; an item is removed by naming its dot, so a removal takes away what its author
had seen and nothing else. A context says which events a replica has taken in; what is in the context and not in the
state has been removed.

Source: Almeida, Shoker, Baquero, "Delta state replicated data types" (2018); Kulkarni et al., "Logical physical clocks"
(2014).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from operator import attrgetter

from msgspec import Struct

from provider.keyvalue.values import DECIMAL, Kind, Value

Dot = tuple[str, int]
"""A replica's id and the count of one of its events, from 1."""

MAX_DRIFT_MS = 60_000
"""How far ahead of the own clock another replica's may be."""

_LOGICAL_BITS = 16


class HybridClock:
    """Times that never go back and exceed every time seen: milliseconds since 1970, shifted by 16 bits of a counter."""

    def __init__(self) -> None:
        self.last = 0

    def tick(self, now_ms: int) -> int:
        """Return the time of a new event."""
        self.last = max(self.last + 1, now_ms << _LOGICAL_BITS)
        return self.last

    def ahead_ms(self, now_ms: int) -> int:
        """Return how far the last time is ahead of a clock: after that one was set back, until it gets there again."""
        return max((self.last >> _LOGICAL_BITS) - now_ms, 0)

    def see(self, clock: int) -> None:
        """Take in the time of somebody else's event."""
        self.last = max(self.last, clock)


def is_drifted(clock: int, now_ms: int) -> bool:
    """Tell whether a time is further ahead than clocks may differ."""
    return clock >> _LOGICAL_BITS > now_ms + MAX_DRIFT_MS


class Context:
    """Which events have been taken in: all of each replica up to a count, and strays that came before their turn."""

    __slots__ = ("strays", "vector")

    def __init__(self, vector: Mapping[str, int] | None = None, strays: Mapping[str, set[int]] | None = None) -> None:
        self.vector = dict(vector or {})
        self.strays = {replica: set(counts) for replica, counts in (strays or {}).items() if counts}

    def has(self, replica: str, count: int) -> bool:
        return count <= self.vector.get(replica, 0) or (replica in self.strays and count in self.strays[replica])

    def add(self, replica: str, count: int) -> bool:
        """Take in an event; returns whether it was not there before."""
        known = self.vector.get(replica, 0)
        if count == known + 1:
            self.vector[replica] = count
            if self.strays and replica in self.strays:
                self._absorb(replica)
            return True
        if count <= known:
            return False
        strays = self.strays.setdefault(replica, set())
        before = len(strays)
        strays.add(count)
        return len(strays) > before

    def merge(self, other: Context) -> None:
        for replica, count in other.vector.items():
            if count > self.vector.get(replica, 0):
                self.vector[replica] = count
        for replica, counts in other.strays.items():
            self.strays.setdefault(replica, set()).update(counts)
        for replica in list(self.strays):
            self._absorb(replica)

    def covers(self, other: Context) -> bool:
        return all(self.vector.get(replica, 0) >= count for replica, count in other.vector.items()) and all(
            self.has(replica, count) for replica, counts in other.strays.items() for count in counts
        )

    def copy(self) -> Context:
        return Context(self.vector, self.strays)

    def _absorb(self, replica: str) -> None:
        counts = self.strays[replica]
        known = self.vector.get(replica, 0)
        while known + 1 in counts:
            known += 1
        if known:
            self.vector[replica] = known
        counts.difference_update([count for count in counts if count <= known])
        if not counts:
            del self.strays[replica]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Context) and self.vector == other.vector and self.strays == other.strays

    __hash__ = None  # type: ignore[assignment]


class Item(Struct, gc=False):
    """A text, a member of a set or an element of a list, known by the dot that added it."""

    replica: str
    count: int
    clock: int
    value: str
    expires_at_ms: int = 0

    @property
    def dot(self) -> Dot:
        return self.replica, self.count

    @property
    def order(self) -> tuple[int, str, int]:
        """By time; replica and count decide between equal ones."""
        return self.clock, self.replica, self.count


def dots_of(items: Iterable[Item]) -> dict[str, list[int]]:
    """Return the dots of items, by replica."""
    dots: dict[str, list[int]] = {}
    for item in items:
        dots.setdefault(item.replica, []).append(item.count)
    return dots


class Tally(Struct, gc=False):
    """What one replica has added to a counter, and how much of that has been removed since.

    Both only ever grow, so that of two versions the one of the greater count is right. A removal names the sum that its
    author saw; what the replica adds concurrently stays.

    Attributes:
        replica: Whose increments.
        start: Count of the event that began it; with the replica its identity.
        base: Dot of the text that is counted from; `None`: from zero.
        count: Of the last event that added to it.
        clock: Of that event.
        total: All increments since `start`.
        expires_at_ms: When it ends; 0: never.
        removed_count: Of the last event that some removal has seen; when it is `count`, all is removed.
        removed_total: The sum at that event.
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

    def add(self, other: Tally) -> None:
        """Take in another version of it."""
        if other.count > self.count:
            self.count, self.clock, self.total = other.count, other.clock, other.total
            self.base, self.expires_at_ms = other.base, other.expires_at_ms
        elif other.count == self.count and not self.clock:
            self.base, self.clock, self.expires_at_ms = other.base, other.clock, other.expires_at_ms
        self.remove(other.removed_count, other.removed_total, other.removed_by)

    def remove(self, count: int, total: int, by: Dot | None) -> None:
        """Remove what was there at one of its events, which may not have been taken in yet."""
        if count > self.removed_count:
            self.removed_count, self.removed_total, self.removed_by = count, total, by
        if count > self.count:
            self.count, self.total, self.clock = count, total, 0


class Items:
    """The members of a set, or the elements of a list in their order."""

    __slots__ = ("by_dot",)

    def __init__(self) -> None:
        self.by_dot: dict[Dot, Item] = {}

    def add(self, item: Item) -> None:
        self.by_dot[item.dot] = item

    def remove(self, dot: Dot) -> Item | None:
        return self.by_dot.pop(dot, None)


class Members(Items):
    """The members of a set. One that was added on several replicas at once has several dots."""

    __slots__ = ("by_value",)

    def __init__(self) -> None:
        super().__init__()
        self.by_value: dict[str, tuple[Item, ...]] = {}

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
        self.texts: list[str] = []

    def add(self, item: Item) -> None:
        super().add(item)
        place = len(self.ordered)
        if place and item.order < self.ordered[-1].order:
            place = bisect.bisect_left(self.ordered, item.order, key=_order_of)
        self.ordered.insert(place, item)
        self.texts.insert(place, item.value)

    def remove(self, dot: Dot) -> Item | None:
        item = super().remove(dot)
        if item is not None:
            place = bisect.bisect_left(self.ordered, item.order, key=_order_of)
            del self.ordered[place], self.texts[place]
        return item


class Cell(Struct, gc=False):
    """All that stands under one key. Most hold a single text; kinds meet only after concurrent writes.

    Attributes:
        text: The last written; `None`: none.
        rivals: Texts written concurrently to it, with earlier times.
        tallies: By dot of their start, those that are wholly removed included until every replica knows it.
        members: Of a set; `None`: none.
        elements: Of a list; `None`: none.
    """

    text: Item | None = None
    rivals: list[Item] | None = None
    tallies: dict[Dot, Tally] | None = None
    members: Members | None = None
    elements: Elements | None = None

    def items(self) -> list[Item]:
        """Return what is there, tallies excepted."""
        items = [] if self.text is None else [self.text]
        if self.rivals is not None:
            items += self.rivals
        if self.members is not None:
            items += self.members.by_dot.values()
        if self.elements is not None:
            items += self.elements.by_dot.values()
        return items

    def dots(self) -> dict[str, list[int]]:
        """Return the dots of all items, by replica."""
        text = self.text
        if text is not None and self.is_single:
            return {text.replica: [text.count]}
        return dots_of(self.items())

    @property
    def is_single(self) -> bool:
        """Whether nothing is there but the text, if that is."""
        return self.rivals is None and self.members is None and self.elements is None and self.tallies is None

    def live_tallies(self) -> list[Tally]:
        return [tally for tally in self.tallies.values() if not tally.is_removed] if self.tallies else []

    @property
    def is_live(self) -> bool:
        """Whether anything is there, be it expired."""
        return (
            self.text is not None
            or self.members is not None
            or self.elements is not None
            or bool(self.tallies and self.live_tallies())
        )

    def has(self, dot: Dot) -> bool:
        """Tell whether an item is there."""
        text = self.text
        return (
            (text is not None and text.count == dot[1] and text.replica == dot[0])
            or (self.rivals is not None and any(rival.dot == dot for rival in self.rivals))
            or (self.members is not None and dot in self.members.by_dot)
            or (self.elements is not None and dot in self.elements.by_dot)
        )

    def add_text(self, item: Item) -> None:
        if self.text is None:
            self.text = item
            return
        later, earlier = (item, self.text) if item.order > self.text.order else (self.text, item)
        self.text = later
        self.rivals = [*(self.rivals or ()), earlier]

    def add_member(self, item: Item) -> None:
        if self.members is None:
            self.members = Members()
        self.members.add(item)

    def add_element(self, item: Item) -> None:
        if self.elements is None:
            self.elements = Elements()
        self.elements.add(item)

    def tally(self, start: Dot) -> Tally | None:
        return self.tallies.get(start) if self.tallies else None

    def add_tally(self, tally: Tally) -> None:
        if self.tallies is None:
            self.tallies = {}
        self.tallies[tally.replica, tally.start] = tally

    def drop_tally(self, start: Dot) -> None:
        if self.tallies is not None:
            self.tallies.pop(start, None)
            self.tallies = self.tallies or None

    def remove(self, dot: Dot) -> Item | None:
        """Remove an item and return it; `None`: it is not there."""
        text = self.text
        if text is not None and text.count == dot[1] and text.replica == dot[0]:
            self.text = max(self.rivals, key=_order_of) if self.rivals else None
            if self.rivals:
                self._drop_rival(self.text)
            return text
        for rival in self.rivals or ():
            if rival.dot == dot:
                self._drop_rival(rival)
                return rival
        item = None
        if self.members is not None:
            item = self.members.remove(dot)
            self.members = self.members if self.members.by_dot else None
        if item is None and self.elements is not None:
            item = self.elements.remove(dot)
            self.elements = self.elements if self.elements.by_dot else None
        return item

    def _drop_rival(self, item: Item | None) -> None:
        self.rivals = [rival for rival in self.rivals or () if rival is not item] or None

    # --- what an actor sees

    def value(self, now_ms: int) -> Value | None:
        """Return what an actor sees; `None`: nothing, or something that has expired.

        Of kinds that were written concurrently the one of the latest write is seen, on every replica the same.
        """
        if self.members is None and self.elements is None:
            return self._text_or_counter(now_ms)
        kind = self._latest_kind()
        if kind is Kind.SET and self.members is not None:
            return Value(Kind.SET, self.members.by_value)
        if kind is Kind.LIST and self.elements is not None:
            return Value(Kind.LIST, self.elements.texts)
        return self._text_or_counter(now_ms)

    def _text_or_counter(self, now_ms: int) -> Value | None:
        text = self.text
        if text is not None and 0 < text.expires_at_ms <= now_ms:
            return None
        tallies = self.counted(now_ms) if self.tallies else ()
        if text is not None and (not tallies or not DECIMAL.match(text.value)):
            return Value(Kind.TEXT, text.value, text.expires_at_ms)
        if not tallies:
            return None
        base = int(text.value) if text is not None else 0
        total = base + sum(tally.total - tally.removed_total for tally in tallies)
        if text is not None:
            return Value(Kind.COUNTER, total, text.expires_at_ms)
        expiries = [tally.expires_at_ms for tally in tallies]
        return Value(Kind.COUNTER, total, max(expiries) if all(expiries) else 0)

    def counted(self, now_ms: int) -> list[Tally]:
        """Return the increments that count: those on the text that is there; all when there is none."""
        tallies = self.live_tallies()
        if self.text is not None:
            dot = self.text.dot
            return [tally for tally in tallies if tally.base == dot]
        return [tally for tally in tallies if not 0 < tally.expires_at_ms <= now_ms]

    def _latest_kind(self) -> Kind:
        if self.text is None and self.tallies is None and (self.members is None or self.elements is None):
            return Kind.SET if self.elements is None else Kind.LIST
        found = [
            (max(item.order for item in items.by_dot.values()), kind)
            for kind, items in ((Kind.SET, self.members), (Kind.LIST, self.elements))
            if items is not None
        ]
        if self.text is not None:
            found.append((self.text.order, Kind.TEXT))
        found += [((tally.clock, tally.replica, tally.count), Kind.TEXT) for tally in self.live_tallies()]
        return max(found, key=_first_of)[1]


_order_of = attrgetter("order")


def _first_of(found: tuple[tuple[int, str, int], Kind]) -> tuple[int, str, int]:
    return found[0]
