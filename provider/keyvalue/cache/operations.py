"""The changing operations of the contract as events of a cache's replica. Pure.

Each function checks what an actor sees, makes one event or none, and returns the operation's result. Results and errors
are those of `values`; there a value is computed anew, here only what changes is said, so that it merges.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from contracts import extensions as wasi
from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.cache.cells import Cell, Item, Tally, dots_of
from provider.keyvalue.cache.messages import AddCount, AddElement, AddMember, AddText, Event, Floor
from provider.keyvalue.cache.replica import BOOKKEEPING_BYTES, Replica, floor_of, size_of
from provider.keyvalue.values import Kind, Value, check_kind, number_of

MAX_REMOVALS = 1000
"""How many items one event removes; clearing more takes several, so that each fits into a message."""

_NOTHING = Cell()
_NO_FLOORS: list[Floor] = []


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

    def are_far(self, size_bytes: int, most_bytes: int) -> bool:
        """Tell whether so many bytes more are surely within all limits, without a closer look."""
        return (
            not self.keys
            and not self.value_bytes
            and most_bytes <= self.event_bytes
            and (not self.size_bytes or size_bytes + most_bytes <= self.size_bytes)
        )


class Change:
    """One change: of which key, where, when, within which limits."""

    __slots__ = ("cell", "key", "limits", "now_ms", "replica")

    def __init__(self, replica: Replica, limits: Limits, key: str, now_ms: int) -> None:
        self.replica = replica
        self.limits = limits
        self.key = key
        self.now_ms = now_ms
        self.cell = replica.cell(key) or _NOTHING

    def look(self) -> Value | None:
        """Return what an actor sees."""
        return self.cell.value(self.now_ms)

    def commit(
        self,
        add: AddText | AddMember | AddElement | AddCount | None,
        removes: dict[str, list[int]] | None = None,
        *,
        everything: bool = False,
    ) -> None:
        """Make the event.

        Args:
            add: What it adds.
            removes: By replica, the counts of the dots of items, or of tallies' starts, to remove.
            everything: Whether to remove all that is there.
        """
        cell, floors = self.cell, _NO_FLOORS
        if everything:
            removes = cell.dots()
            if cell.tallies:
                floors = [floor_of(tally) for tally in cell.live_tallies()]
            if cell.members is not None or cell.elements is not None:
                removes = self._remove_many(removes)
        self._commit(add, removes or {}, floors)

    def remove(self, items: list[Item], tallies: list[Tally]) -> None:
        """Make the event that removes some items, and of some tallies what they have come to."""
        self._commit(None, dots_of(items), [floor_of(tally) for tally in tallies])

    def _remove_many(self, removes: dict[str, list[int]]) -> dict[str, list[int]]:
        """Remove items by as many events as that takes; returns what is left for the last one."""
        for replica, counts in removes.items():
            while len(counts) > MAX_REMOVALS:
                self._commit(None, {replica: counts[-MAX_REMOVALS:]}, _NO_FLOORS)
                del counts[-MAX_REMOVALS:]
        return removes

    def _commit(
        self, add: AddText | AddMember | AddElement | AddCount | None, dots: dict[str, list[int]], floors: list[Floor]
    ) -> None:
        self.replica.commit(Event(self.replica.clock.tick(self.now_ms), self.key, add, dots, floors))

    def admit(self, text: str, *, replaces: bool = False) -> None:
        """Check that a text may be added.

        Args:
            text: What is to be added.
            replaces: Whether it takes the place of all that is there.

        Raises:
            errors.StoreError: It is over a limit; names it with both numbers.
        """
        limits, replica = self.limits, self.replica
        if limits.are_far(replica.size_bytes, 4 * (len(text) + len(self.key)) + 2 * BOOKKEEPING_BYTES):
            return
        size, key_size = size_of(text), size_of(self.key)
        if limits.value_bytes and size > limits.value_bytes:
            raise errors.ValueTooLargeError(self.key, size, "the cache's MAX_VALUE_SIZE", limits.value_bytes)
        if size + key_size > limits.event_bytes:
            raise errors.ValueTooLargeError(self.key, size + key_size, "what max_payload leaves", limits.event_bytes)
        is_new = self.cell is _NOTHING or not self.cell.is_live
        if is_new and limits.keys and replica.keys >= limits.keys:
            raise errors.CacheFullError("MAX_KEYS", replica.keys + 1, limits.keys, "keys")
        more = size + BOOKKEEPING_BYTES + (key_size + BOOKKEEPING_BYTES if is_new else 0)
        if limits.size_bytes and replica.size_bytes + more > limits.size_bytes:
            if replaces:
                more -= sum(BOOKKEEPING_BYTES + size_of(item.value) for item in self.cell.items())
            if more > 0 and replica.size_bytes + more > limits.size_bytes:
                raise errors.CacheFullError("MAX_BYTES", replica.size_bytes + more, limits.size_bytes, "bytes")


def _set(change: Change, request: kv.Set) -> None:
    change.admit(request.value, replaces=True)
    expires_at_ms = change.now_ms + request.expires * 1000 if request.expires else 0
    change.commit(AddText(request.value, expires_at_ms), everything=True)


def _delete(change: Change, request: kv.SingleKeyRequest) -> bool:
    is_seen = change.look() is not None
    if is_seen or change.cell.is_live:  # what has expired and takes room goes too
        change.commit(None, everything=True)
    return is_seen


def _list_clear(change: Change, request: kv.ListClear) -> bool:
    check_kind(request.key, change.look(), Kind.LIST)
    return _delete(change, request)


def _set_clear(change: Change, request: kv.SetClear) -> bool:
    check_kind(request.key, change.look(), Kind.SET)
    return _delete(change, request)


def _increment(change: Change, request: kv.Increment) -> int:
    value = change.look()
    total = number_of(request.key, value) + request.value
    if not kv.I32_MIN <= total <= kv.I32_MAX:
        raise errors.CounterOverflowError(request.key, total, kv.I32_MIN, kv.I32_MAX)
    text = change.cell.text if value is not None else None
    base = text.dot if text is not None else None
    expires_at_ms = value.expires_at_ms if value is not None else 0
    own = _own_tally(change, base) if value is not None else None
    if own is None:
        change.admit("")
        if value is None and change.cell.is_live:
            change.commit(None, everything=True)  # what has expired
        add = AddCount(change.replica.count + 1, base, request.value, expires_at_ms)
        change.commit(add, {change.replica.id: _finished(change)})
    else:
        change.commit(AddCount(own.start, base, own.total + request.value, expires_at_ms))
    return total


def _finished(change: Change) -> list[int]:
    """Return the starts of own tallies of which all is removed: nobody else adds to them, so nobody needs to keep them."""
    tallies = change.cell.tallies.values() if change.cell.tallies else ()
    return [tally.start for tally in tallies if tally.replica == change.replica.id and tally.is_removed]


def _own_tally(change: Change, base: tuple[str, int] | None) -> Tally | None:
    for tally in change.cell.counted(change.now_ms) if change.cell.tallies else ():
        if tally.replica == change.replica.id and tally.base == base:
            return tally
    return None


def _list_add(change: Change, request: kv.ListAdd) -> int:
    value = change.look()
    check_kind(request.key, value, Kind.LIST)
    change.admit(request.value)
    length = len(value.data) if value is not None else 0
    change.commit(AddElement(request.value), everything=value is None)
    return length + 1


def _list_del(change: Change, request: kv.ListDel) -> bool:
    value, elements = change.look(), change.cell.elements
    check_kind(request.key, value, Kind.LIST)
    if value is None or elements is None or request.value not in elements.texts:
        return False
    found = elements.ordered[elements.texts.index(request.value)]
    change.commit(None, dots_of([found]), everything=len(elements.texts) == 1)
    return True


def _set_add(change: Change, request: kv.SetAdd) -> int:
    value = change.look()
    check_kind(request.key, value, Kind.SET)
    before: tuple[Item, ...] = value.data.get(request.value, ()) if value is not None else ()
    if not before:
        change.admit(request.value)
    change.commit(AddMember(request.value), dots_of(before), everything=value is None)
    return 0 if before else 1


def _set_del(change: Change, request: kv.SetDel) -> int:
    value = change.look()
    check_kind(request.key, value, Kind.SET)
    if value is None or request.value not in value.data:
        return 0
    change.commit(None, dots_of(value.data[request.value]), everything=len(value.data) == 1)
    return 1


def _create(change: Change, request: wasi.Create) -> wasi.SwapResponse:
    return _swap(change, request, 0)


def _compare_and_swap(change: Change, request: wasi.CompareAndSwap) -> wasi.SwapResponse:
    return _swap(change, request, request.revision)


def _swap(change: Change, request: wasi.Create | wasi.CompareAndSwap, wanted: int) -> wasi.SwapResponse:
    revision = _revision(change)
    if revision != wanted:
        return wasi.SwapResponse(False, revision)
    _set(change, kv.Set(request.key, request.value, request.expires))
    return wasi.SwapResponse(True, change.replica.revision(change.key))


def _compare_and_delete(change: Change, request: wasi.CompareAndDelete) -> wasi.SwapResponse:
    revision = _revision(change)
    if not revision or revision != request.revision:
        return wasi.SwapResponse(False, revision)
    change.commit(None, everything=True)
    return wasi.SwapResponse(True, 0)


def _revision(change: Change) -> int:
    return 0 if change.look() is None else change.replica.revision(change.key)


def list_keys(replica: Replica, request: wasi.ListKeys, key_prefix: str, now_ms: int) -> wasi.ListKeysResponse:
    """Return a page of an actor's keys in their order; the cursor is the last key."""
    wanted, after = key_prefix + request.prefix, key_prefix + request.cursor
    found = (
        key
        for key in replica.live_keys()
        if key.startswith(wanted)
        and len(key) > len(key_prefix)
        and key > after
        and replica.read(key, now_ms) is not None
    )
    keys = heapq.nsmallest(request.limit + 1, found)
    page = [key[len(key_prefix) :] for key in keys[: request.limit]]
    return wasi.ListKeysResponse(page, page[-1] if len(keys) > request.limit else "")


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
    wasi.Create: _create,
    wasi.CompareAndSwap: _compare_and_swap,
    wasi.CompareAndDelete: _compare_and_delete,
}
"""Operations that change one key; see `values.CHANGES` and `atomics.CONDITIONS`."""


def expire(replica: Replica, key: str, item: Item, now_ms: int) -> None:
    """Remove a text that has expired with what counts on it, or a tally whose text is gone, unless it is gone itself.

    Nobody has asked for that, so all else stays: other kinds, increments on other texts, later texts. Not so the texts
    that it superseded.

    Args:
        replica: Which removes it.
        key: Where.
        item: The text, or what stood for the tally when `Replica` told of it.
        now_ms: What time it is here.
    """
    cell = replica.cell(key)
    if cell is None or not 0 < item.expires_at_ms <= now_ms:
        return
    texts = [] if cell.text is None else [cell.text, *(cell.rivals or ())]
    gone = [text for text in texts if text.order <= item.order] if cell.has(item.dot) else []
    bases, kept = {text.dot for text in gone}, {text.dot for text in texts}
    ended = [
        tally
        for tally in cell.live_tallies()
        if tally.base in bases or (_is_of(tally, item) and tally.base not in kept and 0 < tally.expires_at_ms <= now_ms)
    ]
    if gone or ended:
        Change(replica, Limits(), key, now_ms).remove(gone, ended)


def _is_of(tally: Tally, item: Item) -> bool:
    return (tally.replica, tally.start) == item.dot
