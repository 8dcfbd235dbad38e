"""Replicas that exchange deltas and pages without a network, views of their states, and random operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.byte_values import IncrementU64, SetBytes
from provider.keyvalue.cache.items.collections import Elements, Members
from provider.keyvalue.cache.messages import Event, decode_message, encode_message
from provider.keyvalue.cache.operations import MUTATORS, CacheLimits, Mutation
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.tombstones import discard_tombstones
from provider.keyvalue.cache.transfer import Receiver, Sender
from provider.keyvalue.cache.trust.admission import Admission

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
NO_LIMITS = CacheLimits()
KEYS = ["a", "b"]
TEXTS = ["x", "y", "7"]

keys = st.sampled_from(KEYS)
texts = st.sampled_from(TEXTS)
changes: st.SearchStrategy[kv.SingleKeyRequest] = st.one_of(
    st.builds(kv.Set, keys, texts | st.just("12"), st.sampled_from([0, 0, 0, 2])),
    st.builds(kv.Del, keys),
    st.builds(kv.Increment, keys, st.integers(-3, 9)),
    st.builds(kv.ListAdd, keys, texts),
    st.builds(kv.ListDel, keys, texts),
    st.builds(kv.ListClear, keys),
    st.builds(kv.SetAdd, keys, texts),
    st.builds(kv.SetDel, keys, texts),
    st.builds(kv.SetClear, keys),
    st.builds(SetBytes, keys, st.sampled_from([b"\xff\x00", b"x", b"7"])),
    st.builds(IncrementU64, keys, st.sampled_from([0, 3, 2**31, 2**64 - 1])),
)
countings = st.sampled_from([kv.Increment("a", 1), kv.Increment("a", 5), kv.Del("a")])


def replica_of(number: int) -> Replica:
    return Replica(f"replica-{number:04}")


def change(replica: Replica, request: kv.SingleKeyRequest, now_ms: int = 1000, limits: CacheLimits = NO_LIMITS) -> Any:
    return MUTATORS[type(request)](Mutation(replica, limits, request.key, now_ms), request)


def attempt(action: Callable[[], Any]) -> tuple[str, Any]:
    """Return the answer of an operation, or its error."""
    try:
        return "answer", action()
    except errors.StoreError as error:
        return type(error).__name__, str(error)


# --- deltas


def take_unsent(replica: Replica) -> list[tuple[str, int, Event]]:
    """Return the events that have not been published, with their dots, as if they were published now."""
    first = replica.count - len(replica.unsent) + 1
    events, replica.unsent = replica.unsent, []
    return [(replica.id, first + index, event) for index, event in enumerate(events)]


def apply_all(replica: Replica, events: list[tuple[str, int, Event]]) -> None:
    for author, count, event in events:
        replica.apply(author, count, event)


# --- transfers


def admission_of(replica: Replica, max_keys: int = 0, max_bytes: int = 0) -> Admission:
    admission = Admission(replica)
    admission.limit(max_keys, max_bytes)
    return admission


def receiver_of(replica: Replica) -> Receiver:
    return Receiver(replica, admission_of(replica))


def pull(asker: Replica, server: Replica, now_ms: int = 1000) -> list[int]:
    """Transfer what one replica lacks of another's state, over the real messages; return the sizes of the pages."""
    sender, receiver = Sender(server), receiver_of(asker)
    sizes = []
    while not receiver.is_done:
        _, request = decode_message(encode_message(asker.id, receiver.request()), MAX_MESSAGE_BYTES)
        data = encode_message(server.id, sender.answer(asker.id, request, 0.0))  # type: ignore[arg-type]
        _, page = decode_message(data, MAX_MESSAGE_BYTES)
        receiver.receive(page, now_ms)  # type: ignore[arg-type]
        sizes.append(len(data))
    return sizes


def exchange(one: Replica, other: Replica) -> None:
    pull(one, other)
    pull(other, one)


def pull_some(asker: Replica, server: Replica, pages: int, page_bytes: int = 200) -> None:
    """Transfer a number of pages and no more, as if the server had ended."""
    sender, receiver = Sender(server), receiver_of(asker)
    sender.page_bytes = page_bytes
    for _ in range(pages):
        if not receiver.is_done:
            receiver.receive(sender.answer(asker.id, receiver.request(), 0.0), 1000)
    receiver.end()


# --- forgetting


def discard(replica: Replica, *others: Replica) -> None:
    """Discard the tombstones of what all given replicas have applied."""
    contexts = [other.context for other in (replica, *others)]
    discard_tombstones(replica, lambda name: min(context.vector.get(name, 0) for context in contexts), 10_000)


def discard_all(replica: Replica) -> None:
    """Discard tombstones as if every replica had applied everything."""
    discard_tombstones(replica, lambda _: 10**9, 100)


# --- states


def state(replica: Replica) -> dict[str, Any]:
    """Return everything that a replica holds, hidden siblings included, in comparable form."""
    found = {}
    for key in replica.all_keys():
        cell = replica.cells.get(key)
        if cell is None or not cell.is_live:
            continue
        elements = list(cell.elements[0 : len(cell.elements)]) if cell.elements is not None else []
        tallies = {(t.replica, t.start, t.count, t.total, t.removed_total) for t in cell.live_tallies()}
        items = {(item.order, item.value, item.expires_at_ms) for item in cell.items()}
        found[key] = (items, elements, tallies, seen(replica, key))
    return found


def all_states(*replicas: Replica) -> list[Any]:
    return [(replica.context, state(replica)) for replica in replicas]


def seen(replica: Replica, key: str, now_ms: int = 1000) -> Any:
    """Return the value that an actor sees, in comparable form."""
    value = replica.read(key, now_ms)
    if value is None:
        return None
    data = value.data
    if isinstance(data, dict | Members):
        data = sorted(data)
    elif isinstance(data, Elements):
        data = data[0 : len(data)]
    return value.kind.value, data, value.expires_at_ms
