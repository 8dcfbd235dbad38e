"""The operations of the contract that change a key, as mutators: each commits an event and returns its result. Pure.

Results and errors are those of `values`, where an operation computes a new value. Here it commits only what changes, so
that it merges with what other replicas change at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts import keyvalue as kv
from contracts.extensions import CompareAndDelete, CompareAndSwap, Create, SwapResponse
from contracts.integers import I32_MAX, I32_MIN
from provider import errors
from provider.keyvalue.byte_values import U64_MAX, IncrementU64, SetBytes, total_u64, value_of
from provider.keyvalue.cache.causality import Dot, by_replica
from provider.keyvalue.cache.items.cells import Cell, Tally
from provider.keyvalue.cache.items.item import BOOKKEEPING_BYTES, Item, ItemValue, is_text, size_of
from provider.keyvalue.cache.items.walks import ElementSearch
from provider.keyvalue.cache.messages import (
    AddBytes,
    AddCount,
    AddElement,
    Addition,
    AddMember,
    AddText,
    Clear,
    CounterRemoval,
    Event,
)
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.state import removal_of
from provider.keyvalue.keys import MAX_BUCKET_KEY_BYTES
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.values import check_kind, number_of

MAX_REMOVALS = 1000
"""Items that one event removes by their dots, so that it fits into a message. More of them are removed by a vector."""

_NO_CELL = Cell()
"""The cell of a key that has none; it is never changed."""

_NO_REMOVALS: list[CounterRemoval] = []


class CacheLimits:
    """The limits of a cache; 0: no limit.

    Attributes:
        keys: Number of keys.
        size_bytes: Size of everything; see `ReplicaState.size_bytes`.
        value_bytes: Size of one text, member or element.
        event_bytes: Size of a key and an element together, as they must fit into a message.
        text_limit: Function that returns the size of a key and a text together, and the words for that limit in an error.
    """

    def __init__(
        self,
        keys: int = 0,
        size_bytes: int = 0,
        value_bytes: int = 0,
        event_bytes: int = 2**20,
        text_limit: Callable[[], tuple[int, str]] = lambda: (2**26, "what the replicas of a cache exchange"),
    ) -> None:
        self.keys = keys
        self.size_bytes = size_bytes
        self.value_bytes = value_bytes
        self.event_bytes = event_bytes
        self.text_limit = text_limit

    def are_far(self, size_bytes: int, added_bytes: int) -> bool:
        """Tell whether an addition is within all limits by an upper bound of its size, which is cheap to compute."""
        return (
            not self.keys
            and not self.value_bytes
            and added_bytes <= self.event_bytes
            and (not self.size_bytes or size_bytes + added_bytes <= self.size_bytes)
        )


def whole_key(prefix: str, key: str) -> str:
    """Return a key with the link's prefix.

    The limit on its length is that of a bucket, so that an actor meets the same one with either backend.

    Raises:
        errors.EmptyKeyError: The key is empty.
        errors.KeyTooLongError: The key is longer than a bucket's may be.
    """
    if not key:
        raise errors.EmptyKeyError
    whole = prefix + key
    if len(whole) * 4 > MAX_BUCKET_KEY_BYTES and size_of(whole) > MAX_BUCKET_KEY_BYTES:
        raise errors.KeyTooLongError(size_of(whole), MAX_BUCKET_KEY_BYTES)
    return whole


class Mutation:
    """One mutation of one key.

    Attributes:
        replica: Replica that commits it.
        limits: CacheLimits that it must keep.
        key: Key, with the prefix of the link.
        now_ms: Time of this machine, in milliseconds since 1970.
        cell: Cell of the key before the mutation.
    """

    __slots__ = ("cell", "key", "limits", "now_ms", "replica")

    def __init__(self, replica: Replica, limits: CacheLimits, key: str, now_ms: int) -> None:
        self.replica = replica
        self.limits = limits
        self.key = key
        self.now_ms = now_ms
        self.cell = replica.cells.get(key) or _NO_CELL

    def read(self) -> Value | None:
        """Return the value that an actor sees before the mutation."""
        return self.cell.value(self.now_ms)

    def commit(self, add: Addition | None, removes: dict[str, list[int]] | None = None) -> None:
        """Commit an event that adds something and removes some items, or tallies by their starts."""
        self._commit(add, removes or {}, _NO_REMOVALS)

    def replace(self, add: Addition | None) -> None:
        """Commit an event that removes everything under the key and may add something."""
        cell = self.cell
        if (cell.members is not None or cell.elements is not None) and cell.count > MAX_REMOVALS:
            self._clear()
            if add is None and not cell.count and not cell.tallies:
                return
        removes, removals = cell.dots(), _NO_REMOVALS
        if cell.tallies:
            removals = [removal_of(tally) for tally in cell.live_tallies()]
        if cell.members is not None or cell.elements is not None:
            self._remove_many(removes)
        self._commit(add, removes, removals)

    def _clear(self) -> None:
        """Remove the members and elements by a vector, except those that came with a transfer that is not complete."""
        known = self.replica.context.vector
        vector: dict[str, int] = {}
        for items in self.cell.collections():
            for replica, count in items.counts().items():
                vector[replica] = max(min(count, known.get(replica, 0)), vector.get(replica, 0))
        vector = {replica: count for replica, count in vector.items() if count}
        if vector:
            self._commit(Clear(vector), {}, _NO_REMOVALS)

    def _remove_many(self, removes: dict[str, list[int]]) -> None:
        """Remove items with as many events as it takes, until the rest fits into the last one."""
        for replica, counts in removes.items():
            while len(counts) > MAX_REMOVALS:
                self._commit(None, {replica: counts[-MAX_REMOVALS:]}, _NO_REMOVALS)
                del counts[-MAX_REMOVALS:]

    def _commit(
        self,
        add: Addition | None,
        removes: dict[str, list[int]],
        counter_removals: list[CounterRemoval],
    ) -> None:
        clock = self.replica.clock.tick(self.now_ms)
        self.replica.commit(Event(clock, self.key, add, removes, counter_removals))

    def check_limits(self, text: ItemValue, *, replaces: bool = False) -> None:
        """Check that a text may be added.

        Args:
            text: Text or binary value to add.
            replaces: Whether it takes the place of everything under the key.

        Raises:
            errors.StoreError: It is over a limit. The error names the limit and both numbers.
        """
        limits, replica = self.limits, self.replica
        # In UTF-8 a character takes at most four bytes.
        if limits.are_far(replica.size_bytes, 4 * (len(text) + len(self.key)) + 2 * BOOKKEEPING_BYTES):
            return
        size, key_size = size_of(text), size_of(self.key)
        if limits.value_bytes and size > limits.value_bytes:
            raise errors.ValueTooLargeError(self.key, size, "the cache's MAX_VALUE_SIZE", limits.value_bytes)
        if size + key_size > limits.event_bytes:
            # A text, which replaces everything, may travel in pieces. An element may not.
            most, words = limits.text_limit() if replaces else (limits.event_bytes, "what max_payload leaves")
            if size + key_size > most:
                raise errors.ValueTooLargeError(self.key, size + key_size, words, most)
        is_new = self.cell is _NO_CELL or not self.cell.is_live
        if is_new and limits.keys and replica.keys >= limits.keys:
            raise errors.CacheFullError("MAX_KEYS", replica.keys + 1, limits.keys, "keys")
        added = size + BOOKKEEPING_BYTES + (key_size + BOOKKEEPING_BYTES if is_new else 0)
        if limits.size_bytes and replica.size_bytes + added > limits.size_bytes:
            if replaces:
                added -= self.cell.size_bytes
            if added > 0 and replica.size_bytes + added > limits.size_bytes:
                raise errors.CacheFullError("MAX_BYTES", replica.size_bytes + added, limits.size_bytes, "bytes")


# --- texts


def _set(mutation: Mutation, request: kv.Set) -> None:
    _put(mutation, request.value, mutation.now_ms + request.expires * 1000 if request.expires else 0)


def _set_bytes(mutation: Mutation, request: SetBytes) -> None:
    _put(mutation, value_of(request.value).data, 0)


def _put(mutation: Mutation, value: Any, expires_at_ms: int) -> None:
    mutation.check_limits(value, replaces=True)
    add = AddText(value, expires_at_ms) if is_text(value) else AddBytes(value, expires_at_ms)
    mutation.replace(add)


def _delete(mutation: Mutation, request: kv.SingleKeyRequest) -> bool:
    is_seen = mutation.read() is not None
    # A value that has expired is not seen, but takes room until it is removed.
    if is_seen or mutation.cell.is_live:
        mutation.replace(None)
    return is_seen


# --- counters


def _increment(mutation: Mutation, request: kv.Increment) -> int:
    value = mutation.read()
    total = number_of(request.key, value) + request.value
    if not I32_MIN <= total <= I32_MAX:
        raise errors.CounterOverflowError(request.key, total, I32_MIN, I32_MAX)
    return _count(mutation, request, value, total)


def _increment_u64(mutation: Mutation, request: IncrementU64) -> int:
    value = mutation.read()
    return _count(mutation, request, value, total_u64(request, value))


def _count(mutation: Mutation, request: kv.Increment | IncrementU64, value: Value | None, total: int) -> int:
    """Add to the own tally on a value, and return the total."""
    base = mutation.cell.text.dot if value is not None and mutation.cell.text is not None else None
    expires_at_ms = value.expires_at_ms if value is not None else 0
    own = _own_tally(mutation, base) if value is not None else None
    if own is not None:
        if own.total + request.value > U64_MAX:  # others have counted down meanwhile; msgpack takes no greater number
            raise errors.CounterOverflowError(request.key, own.total + request.value, 0, U64_MAX)
        mutation.commit(AddCount(own.start, base, own.total + request.value, expires_at_ms))
        return total
    mutation.check_limits("")
    if value is None and mutation.cell.is_live:
        # A value that has expired would be counted on by the new tally, so it is removed first.
        mutation.replace(None)
    add = AddCount(mutation.replica.count + 1, base, request.value, expires_at_ms)
    mutation.commit(add, {mutation.replica.id: _finished_tallies(mutation)})
    return total


def _own_tally(mutation: Mutation, base: Dot | None) -> Tally | None:
    for tally in mutation.cell.visible_tallies(mutation.now_ms) if mutation.cell.tallies else ():
        if tally.replica == mutation.replica.id and tally.base == base:
            return tally
    return None


def _finished_tallies(mutation: Mutation) -> list[int]:
    """Return the starts of own tallies that are wholly removed: no other replica adds to them, so none needs them."""
    tallies = mutation.cell.tallies.values() if mutation.cell.tallies else ()
    return [tally.start for tally in tallies if tally.replica == mutation.replica.id and tally.is_removed]


# --- lists


def _list_add(mutation: Mutation, request: kv.ListAdd) -> int:
    value = mutation.read()
    check_kind(request.key, value, Kind.LIST)
    mutation.check_limits(request.value)
    if value is None:
        mutation.replace(AddElement(request.value))
        return 1
    length = len(value.data) + 1
    mutation.commit(AddElement(request.value))
    return length


def _list_del(mutation: Mutation, request: kv.ListDel) -> bool:
    value, elements = mutation.read(), mutation.cell.elements
    check_kind(request.key, value, Kind.LIST)
    if value is None or elements is None:
        return False
    return remove_found(mutation, elements.first(request.value))


def search_of(mutation: Mutation, request: kv.ListDel) -> ElementSearch | None:
    """Return the search for the element that a ListDel removes, to be closed; None if there is no list."""
    value, elements = mutation.read(), mutation.cell.elements
    check_kind(request.key, value, Kind.LIST)
    return ElementSearch(request.key, elements, request.value) if value is not None and elements is not None else None


def remove_found(mutation: Mutation, found: Item | None) -> bool:
    """Remove the element that a search has found in the list as it is now; return whether it has found one."""
    elements = mutation.cell.elements
    if found is None or elements is None:
        return False
    if len(elements) == 1:
        mutation.replace(None)
    else:
        mutation.commit(None, by_replica([found.dot]))
    return True


def _list_clear(mutation: Mutation, request: kv.ListClear) -> bool:
    check_kind(request.key, mutation.read(), Kind.LIST)
    return _delete(mutation, request)


# --- sets


def _set_add(mutation: Mutation, request: kv.SetAdd) -> int:
    value = mutation.read()
    check_kind(request.key, value, Kind.SET)
    members = mutation.cell.members
    before: list[Item] = members.copies(request.value) if value is not None and members is not None else []
    if not before:
        mutation.check_limits(request.value)
    if value is None:
        mutation.replace(AddMember(request.value))
    else:
        # A member that is there is added again, so that it survives a deletion that another replica makes meanwhile.
        mutation.commit(AddMember(request.value), by_replica(item.dot for item in before))
    return 0 if before else 1


def _set_del(mutation: Mutation, request: kv.SetDel) -> int:
    value, members = mutation.read(), mutation.cell.members
    check_kind(request.key, value, Kind.SET)
    if value is None or members is None or request.value not in members:
        return 0
    if len(members) == 1:
        mutation.replace(None)
    else:
        mutation.commit(None, by_replica(item.dot for item in members.copies(request.value)))
    return 1


def _set_clear(mutation: Mutation, request: kv.SetClear) -> bool:
    check_kind(request.key, mutation.read(), Kind.SET)
    return _delete(mutation, request)


# --- conditional changes


def _create(mutation: Mutation, request: Create) -> SwapResponse:
    return _swap(mutation, request, 0)


def _compare_and_swap(mutation: Mutation, request: CompareAndSwap) -> SwapResponse:
    return _swap(mutation, request, request.revision)


def _swap(mutation: Mutation, request: Create | CompareAndSwap, expected: int) -> SwapResponse:
    revision = _revision(mutation)
    if revision != expected:
        return SwapResponse(False, revision)
    _set(mutation, kv.Set(request.key, request.value, request.expires))
    return SwapResponse(True, mutation.replica.revision(mutation.key))


def _compare_and_delete(mutation: Mutation, request: CompareAndDelete) -> SwapResponse:
    revision = _revision(mutation)
    if not revision or revision != request.revision:
        return SwapResponse(False, revision)
    mutation.replace(None)
    return SwapResponse(True, 0)


def _revision(mutation: Mutation) -> int:
    return 0 if mutation.read() is None else mutation.replica.revision(mutation.key)


MUTATORS: dict[type[kv.Request], Callable[[Mutation, Any], Any]] = {
    kv.Set: _set,
    kv.Del: _delete,
    kv.Increment: _increment,
    kv.ListAdd: _list_add,
    kv.ListClear: _list_clear,
    kv.ListDel: _list_del,
    kv.SetAdd: _set_add,
    kv.SetClear: _set_clear,
    kv.SetDel: _set_del,
    SetBytes: _set_bytes,
    IncrementU64: _increment_u64,
    Create: _create,
    CompareAndSwap: _compare_and_swap,
    CompareAndDelete: _compare_and_delete,
}
"""Operations that change one key; see `tables.CHANGES` and `conditional.CONDITIONS`."""
