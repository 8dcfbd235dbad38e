"""The changing operations of the contract as events of a cache's replica. Pure.

Each function checks what an actor sees, makes one event or none, and returns the operation's result. Results and errors
are those of `values`; there a value is computed anew, here only what changes is said, so that it merges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.crdt import Cell, Item, Tally
from provider.keyvalue.deltas import AddCount, AddElement, AddMember, AddText, Event, Floor
from provider.keyvalue.replica import BOOKKEEPING_BYTES, Replica, size_of
from provider.keyvalue.values import Kind, Value, check_kind, number_of

MAX_REMOVALS = 1000
"""How many items one event removes; clearing more takes several, so that each fits into a message."""

_NOTHING = Cell()


class Limits:
    """What a cache holds at most; 0: no limit.

    Attributes:
        keys: How many.
        size_bytes: Of all, see `Replica.size_bytes`.
        value_bytes: Of one text, member or element.
        event_bytes: Of a key and a value together, as they must fit into a message.
    """

    def __init__(self, keys: int = 0, size_bytes: int = 0, value_bytes: int = 0, event_bytes: int = 2**20) -> None:
        self.keys = keys
        self.size_bytes = size_bytes
        self.value_bytes = value_bytes
        self.event_bytes = event_bytes


class Change:
    """One change: of which key, where, when, within which limits."""

    __slots__ = ("cell", "key", "limits", "now_ms", "replica", "value")

    def __init__(self, replica: Replica, limits: Limits, key: str, now_ms: int) -> None:
        self.replica = replica
        self.limits = limits
        self.key = key
        self.now_ms = now_ms
        self.cell = replica.cell(key) or _NOTHING
        self.value: Value | None = self.cell.value(now_ms)

    def commit(
        self,
        add: AddText | AddMember | AddElement | AddCount | None,
        removes: Iterable[Item] = (),
        *,
        everything: bool = False,
    ) -> None:
        """Make the event.

        Args:
            add: What it adds.
            removes: Items to remove.
            everything: Whether to remove all that is there.
        """
        floors: list[Floor] = []
        if everything:
            removes = list(self.cell.items())
            floors = [Floor(tally.replica, tally.start, tally.count, tally.total) for tally in self.cell.live_tallies()]
        dots: dict[str, list[int]] = {}
        for place, item in enumerate(removes):
            if place and place % MAX_REMOVALS == 0:
                self._commit(None, dots, [])
                dots = {}
            dots.setdefault(item.replica, []).append(item.count)
        self._commit(add, dots, floors)

    def _commit(
        self, add: AddText | AddMember | AddElement | AddCount | None, dots: dict[str, list[int]], floors: list[Floor]
    ) -> None:
        clock = self.replica.clock.tick(self.now_ms)
        self.replica.commit(Event(clock, self.key, add, dots, floors))

    def admit(self, text: str, replaced_bytes: int = 0) -> None:
        """Check that a text may be added.

        Raises:
            errors.StoreError: It is over a limit; names it with both numbers.
        """
        limits, replica = self.limits, self.replica
        size = size_of(text)
        if limits.value_bytes and size > limits.value_bytes:
            raise errors.ValueTooLargeError(self.key, size, "the cache's MAX_VALUE_SIZE", limits.value_bytes)
        if size + size_of(self.key) > limits.event_bytes:
            whole = size + size_of(self.key)
            raise errors.ValueTooLargeError(self.key, whole, "what max_payload leaves", limits.event_bytes)
        is_new = not self.cell.is_live
        if is_new and limits.keys and replica.keys >= limits.keys:
            raise errors.CacheFullError("MAX_KEYS", replica.keys + 1, limits.keys, "keys")
        if limits.size_bytes:
            more = size + BOOKKEEPING_BYTES - replaced_bytes
            if is_new:
                more += size_of(self.key) + BOOKKEEPING_BYTES
            if more > 0 and replica.size_bytes + more > limits.size_bytes:
                raise errors.CacheFullError("MAX_BYTES", replica.size_bytes + more, limits.size_bytes, "bytes")


def _set(change: Change, request: kv.Set) -> None:
    change.admit(request.value, sum(BOOKKEEPING_BYTES + size_of(item.value) for item in change.cell.items()))
    expires_at_ms = change.now_ms + request.expires * 1000 if request.expires else 0
    change.commit(AddText(request.value, expires_at_ms), everything=True)


def _delete(change: Change, request: kv.SingleKeyRequest) -> bool:
    if change.value is None:
        return False
    change.commit(None, everything=True)
    return True


def _list_clear(change: Change, request: kv.ListClear) -> bool:
    check_kind(request.key, change.value, Kind.LIST)
    return _delete(change, request)


def _set_clear(change: Change, request: kv.SetClear) -> bool:
    check_kind(request.key, change.value, Kind.SET)
    return _delete(change, request)


def _increment(change: Change, request: kv.Increment) -> int:
    total = number_of(request.key, change.value) + request.value
    if not kv.I32_MIN <= total <= kv.I32_MAX:
        raise errors.CounterOverflowError(request.key, total, kv.I32_MIN, kv.I32_MAX)
    replica, value = change.replica, change.value
    text = change.cell.text if value is not None else None
    base = text.dot if text is not None else None
    expires_at_ms = value.expires_at_ms if value is not None else 0
    own = _own_tally(change, base) if value is not None else None
    if own is None:
        change.admit("")
        if value is None and change.cell.is_live:
            change.commit(None, everything=True)  # what has expired
        add = AddCount(replica.count + 1, base, request.value, expires_at_ms)
    else:
        add = AddCount(own.start, base, own.total + request.value, expires_at_ms)
    change.commit(add)
    return total


def _own_tally(change: Change, base: tuple[str, int] | None) -> Tally | None:
    for tally in change.cell.counted(change.now_ms) if change.cell.tallies else ():
        if tally.replica == change.replica.id and tally.base == base:
            return tally
    return None


def _list_add(change: Change, request: kv.ListAdd) -> int:
    check_kind(request.key, change.value, Kind.LIST)
    change.admit(request.value)
    length = len(change.value.data) if change.value is not None else 0
    change.commit(AddElement(request.value), everything=change.value is None)
    return length + 1


def _list_del(change: Change, request: kv.ListDel) -> bool:
    check_kind(request.key, change.value, Kind.LIST)
    elements = change.cell.elements
    if change.value is None or elements is None or request.value not in elements.texts:
        return False
    found = elements.ordered[elements.texts.index(request.value)]
    change.commit(None, [found], everything=len(elements.texts) == 1)
    return True


def _set_add(change: Change, request: kv.SetAdd) -> int:
    check_kind(request.key, change.value, Kind.SET)
    before = _dots_of(change, request.value)
    if not before:
        change.admit(request.value)
    change.commit(AddMember(request.value), before, everything=change.value is None)
    return 0 if before else 1


def _set_del(change: Change, request: kv.SetDel) -> int:
    check_kind(request.key, change.value, Kind.SET)
    found = _dots_of(change, request.value)
    if not found:
        return 0
    assert change.value is not None
    change.commit(None, found, everything=len(change.value.data) == 1)
    return 1


def _dots_of(change: Change, member: str) -> tuple[Item, ...]:
    if change.value is None:
        return ()
    found: tuple[Item, ...] = change.value.data.get(member, ()) if change.value.kind is Kind.SET else ()
    return found


EVENTS: dict[type[kv.Request], Callable[[Change, Any], Any]] = {
    kv.Set: _set,
    kv.Del: _delete,
    kv.Increment: _increment,
    kv.ListAdd: _list_add,
    kv.ListClear: _list_clear,
    kv.ListDel: _list_del,
    kv.SetAdd: _set_add,
    kv.SetClear: _set_clear,
    kv.SetDel: _set_del,
}
"""Operations that change one key; see `values.CHANGES`."""


def expire(replica: Replica, key: str, item: Item, now_ms: int) -> None:
    """Remove a text that has expired, and what counts on it, unless it has been removed or replaced since."""
    cell = replica.cell(key)
    if cell is not None and cell.text is item and 0 < item.expires_at_ms <= now_ms:
        Change(replica, Limits(), key, now_ms).commit(None, everything=True)
