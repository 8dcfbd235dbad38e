"""The check of the messages of other replicas: each case is one that a member gone mad could send, or just below it."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache.causality import MAX_DRIFT_MS, MAX_OBSERVED_DRIFT_MS, Context
from provider.keyvalue.cache.messages import (
    MAX_ALIVE,
    MAX_CLOUD_DOTS,
    MAX_EVENTS,
    AddCount,
    AddElement,
    AddMember,
    AddText,
    CellState,
    ContextState,
    CounterRemoval,
    Deltas,
    Event,
    Heartbeat,
    ItemState,
    MemberState,
    Message,
    TallyState,
    TextState,
    TransferPage,
    decode_message,
    encode_message,
)
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Sender
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal
from tests.unit.keyvalue.cache.exchange import (
    MAX_MESSAGE_BYTES,
    admission_of,
    change,
    pull,
    receiver_of,
    replica_of,
    seen,
)

MAD = "mad-00000001"
OWN = "own-00000001"
NOW_MS = 1_700_000_000_000
NOW = NOW_MS << 16


def ids(count: int) -> list[str]:
    return [f"id-{number:09}" for number in range(count)]


def text(key: str, value: str = "v", clock: int = NOW) -> Event:
    return Event(clock, key, AddText(value, 0), {}, [])


def page(
    *cells: CellState,
    number: int = 0,
    is_last: bool = True,
    vector: dict[str, int] | None = None,
    cloud: dict[str, list[int]] | None = None,
) -> TransferPage:
    context = ContextState(vector or {MAD: 1000}, cloud or {}) if number == 0 else None
    return TransferPage("transfer", number, is_last, False, context, {}, list(cells))


def cell(key: str, *items: ItemState, tallies: int = 0, deferred: int = 0) -> CellState:
    states = [TallyState(MAD, start, None, start, NOW, 1, 0, 0, 0, None) for start in range(1, tallies + 1)]
    return CellState(
        key, {MAD: 1}, [(MAD, 2000 + number) for number in range(deferred)], list(items), states, None, None
    )


def item(count: int = 1, value: str | None = "v", clock: int = NOW, author: str = MAD) -> ItemState:
    return TextState(author, count, clock, value, 0)


# --- before unpacking


@pytest.mark.parametrize(
    "message",
    [
        Deltas(1, [text("k")] * (MAX_EVENTS + 1)),
        Heartbeat(dict.fromkeys(ids(MAX_ALIVE + 1), 1), 0, False, False),
        page(vector=dict.fromkeys(ids(20_001), 1)),
        page(*[cell("k")] * 201),
        TransferPage("t" * 65, 0, True, False, None, {}, []),
    ],
    ids=["events", "heartbeat", "context", "cells", "id"],
)
def test_lists_and_vectors_longer_than_a_replica_sends_are_refused(message: Message) -> None:
    with pytest.raises(ForeignMessageError, match="length"):
        decode_message(encode_message(MAD, message), 64 * 1024 * 1024)


@given(st.integers(0, 3_000_000))
def test_a_message_is_unpacked_up_to_the_limit_and_no_further(size: int) -> None:
    message = Deltas(1, [text("k", "\0" * size)])
    packed = len(msgspec.msgpack.encode(message))
    data = encode_message(MAD, message)
    if len(data) == packed + 22 or packed <= MAX_MESSAGE_BYTES:
        assert decode_message(data, MAX_MESSAGE_BYTES) == (MAD, message)
    else:
        with pytest.raises(ForeignMessageError) as refused:
            decode_message(data, MAX_MESSAGE_BYTES)
        assert refused.value.refusal is Refusal.LIMIT


def test_a_compressed_body_that_is_cut_off_or_damaged_is_refused() -> None:
    body = zlib.compress(b"x" * 100)
    for broken in (body[:-3], b"\0" + body):
        checked = MAD.encode() + broken
        data = b"kvrc\x01\x01" + zlib.crc32(checked).to_bytes(4, "big") + checked
        with pytest.raises(ForeignMessageError):
            decode_message(data, MAX_MESSAGE_BYTES)


# --- deltas

REFUSED_EVENTS: dict[str, list[Event]] = {
    "an element too large to send on": [Event(NOW, "k", AddElement("x" * 1_048_576), {}, [])],
    "a member too large to send on": [Event(NOW, "k", AddMember("x" * 1_048_576), {}, [])],
    "a key that no actor can name": [text("k" * 3501)],
    "a clock too far ahead": [text("k", clock=(NOW_MS + MAX_DRIFT_MS + 1) << 16)],
    "tallies without end": [
        Event(NOW, "n", None, {}, [CounterRemoval(MAD, number, number, 1) for number in range(1, 2001)])
    ],
}


@pytest.mark.parametrize("events", REFUSED_EVENTS.values(), ids=REFUSED_EVENTS.keys())
def test_deltas_that_could_not_be_sent_on_are_refused(events: list[Event]) -> None:
    with pytest.raises(ForeignMessageError):
        admission_of(Replica(OWN)).check_deltas(MAD, Deltas(1, events), NOW_MS)


def test_deltas_that_count_further_than_any_replica_can_are_refused() -> None:
    with pytest.raises(ForeignMessageError, match="counts further"):
        admission_of(Replica(OWN)).check_deltas(MAD, Deltas(2**53, [text("k")]), NOW_MS)


def test_tallies_that_a_counter_has_already_count_towards_their_limit() -> None:
    replica = Replica(OWN)
    admission = admission_of(replica)
    refused_at = 0
    for number in range(1, 3000):
        event = Event(NOW + number, "n", AddCount(number, None, 1, 0), {}, [])
        try:
            admission.check_deltas(MAD, Deltas(number, [event]), NOW_MS)
        except ForeignMessageError:
            refused_at = number
            break
        replica.apply(MAD, number, event)
    assert refused_at == 2001


@pytest.mark.parametrize("add", [AddText("v", 0), AddMember("v")], ids=["texts", "a member"])
def test_concurrent_values_are_taken_in_up_to_a_number_in_one_message_and_in_many(add: AddText | AddMember) -> None:
    rival = Event(NOW, "k", add, {}, [])
    with pytest.raises(ForeignMessageError, match="concurrent"):
        admission_of(Replica(OWN)).check_deltas(MAD, Deltas(1, [rival] * 501), NOW_MS)
    replica, refused = Replica(OWN), 0
    for count in range(1, 1000):
        try:
            admission_of(replica).check_deltas(MAD, Deltas(count, [rival]), NOW_MS)
        except ForeignMessageError:
            refused += 1
        else:
            replica.apply(MAD, count, rival)
    assert 490 < refused < 500
    overwriting = [Event(NOW, "k", add, {MAD: [count]} if count else {}, []) for count in range(2000)]
    admission_of(Replica(OWN)).check_deltas(MAD, Deltas(1, overwriting), NOW_MS)


def test_the_largest_text_that_an_actor_may_write_is_taken_in() -> None:
    admission = admission_of(Replica(OWN))
    admission.text_bytes = 10_000
    admission.check_deltas(MAD, Deltas(1, [text("k", "x" * 9_999)]), NOW_MS)
    with pytest.raises(ForeignMessageError, match="could not be sent on"):
        admission.check_deltas(MAD, Deltas(1, [text("k", "x" * 10_000)]), NOW_MS)
    with pytest.raises(ForeignMessageError, match="could not be sent on"):
        admission.check_deltas(MAD, Deltas(1, [text("k", "ä" * 5_000)]), NOW_MS)


def test_events_with_a_gap_fill_the_cloud_only_up_to_its_limit() -> None:
    replica = Replica(OWN)
    admission = admission_of(replica)
    events = [Event(NOW, "one", None, {}, [])] * (MAX_CLOUD_DOTS // 2)
    for first in (2, 2 * MAX_CLOUD_DOTS):
        assert not admission.is_premature(Deltas(first, events), is_gap=True)
        for count in range(first, first + len(events)):
            replica.apply(MAD, count, events[0])
    assert admission.is_premature(Deltas(5 * MAX_CLOUD_DOTS, events[:1]), is_gap=True)
    assert not admission.is_premature(Deltas(1, events[:1]), is_gap=False)


def test_removals_of_items_that_never_arrive_are_kept_only_up_to_a_limit() -> None:
    replica = Replica(OWN)
    admission = admission_of(replica)
    applied = 0
    for number in range(100):
        event = Event(NOW, f"k{number}", None, {"else-0000001": list(range(1, 1001))}, [])
        if not admission.is_premature(Deltas(number + 1, [event]), is_gap=False):
            replica.apply(MAD, number + 1, event)
            applied += 1
    assert applied == 10
    many = Event(NOW, "many", None, {f"else-{number:07}": list(range(1, 1001)) for number in range(50)}, [])
    assert admission_of(Replica(OWN)).is_premature(Deltas(1, [many]), is_gap=False)


# --- room


def fill(replica: Replica, keys: int) -> None:
    for number in range(keys):
        change(replica, kv.Set(f"key {number}", "v" * 100, 0), NOW_MS)


def test_keys_of_others_are_taken_in_up_to_twice_the_limit() -> None:
    replica = Replica(OWN)
    fill(replica, 100)
    admission = admission_of(replica, max_keys=100)
    admission.check_deltas(MAD, Deltas(1, [text(f"other {number}") for number in range(100)]), NOW_MS)
    with pytest.raises(ForeignMessageError, match="MAX_KEYS"):
        admission.check_deltas(MAD, Deltas(1, [text(f"other {number}") for number in range(101)]), NOW_MS)
    admission.check_deltas(MAD, Deltas(1, [text(f"key {number % 100}") for number in range(500)]), NOW_MS)
    with pytest.raises(ForeignMessageError, match="MAX_KEYS"):
        admission.check_page(page(*[cell(f"page {number}", item()) for number in range(101)]), NOW_MS)


def test_bytes_of_others_are_taken_in_up_to_twice_the_limit_and_removals_always() -> None:
    replica = Replica(OWN)
    fill(replica, 100)
    admission = admission_of(replica, max_bytes=replica.size_bytes // 2 - 1)
    with pytest.raises(ForeignMessageError, match="MAX_BYTES"):
        admission.check_deltas(MAD, Deltas(1, [text("other")]), NOW_MS)
    with pytest.raises(ForeignMessageError, match="MAX_BYTES"):
        admission.check_page(page(cell("other", item())), NOW_MS)
    admission.check_deltas(MAD, Deltas(1, [Event(NOW, "key 1", None, {OWN: [2]}, [])]), NOW_MS)
    admission.check_page(page(cell("key 1"), vector={OWN: 100}), NOW_MS)


# --- pages

REFUSED_PAGES: dict[str, TransferPage] = {
    "a member too large": page(cell("k", MemberState(MAD, 1, NOW, "x" * 1_048_576, 0))),
    "a time too far ahead": page(cell("k", item(clock=(NOW_MS + 2 * MAX_DRIFT_MS + 1) << 16))),
    "too many tallies": page(cell("n", tallies=2001)),
    "too many deferred removals": page(cell("k", deferred=20_001)),
    "an event of its receiver that never was": page(cell("k", item(author=OWN))),
    "a context with events of its receiver that never were": page(vector={OWN: 1}),
    "a cloud with events of its receiver that never were": page(cloud={OWN: [3]}),
    "a context of too many replicas": page(vector={f"gone-{number:07}": 1 for number in range(16_001)}),
    "a cloud of too many replicas": page(cloud={f"gone-{number:07}": [3] for number in range(16_001)}),
    "too many events after a gap": page(cloud={MAD: list(range(2, 50_003))}),
    "an item without its value": page(cell("k", item(value=None))),
}


@pytest.mark.parametrize("sent", REFUSED_PAGES.values(), ids=REFUSED_PAGES.keys())
def test_a_page_that_no_replica_sends_is_refused_and_nothing_of_it_is_merged(sent: TransferPage) -> None:
    replica = Replica(OWN)
    receiver = receiver_of(replica)
    with pytest.raises(ForeignMessageError):
        receiver.receive(sent, NOW_MS)
    receiver.end()
    assert (replica.cells, replica.context.vector, replica.clock.last) == ({}, {}, 0)


def test_replicas_that_are_heard_find_room_in_a_context_that_others_have_filled() -> None:
    replica = Replica(OWN)
    admission = admission_of(replica)
    admission.is_heard = "living-00001".__eq__
    replica.context.merge(Context({f"gone-{number:07}": 1 for number in range(16_000)}))
    admission.check_page(page(vector=replica.context.vector | {"living-00001": 1}), NOW_MS)
    with pytest.raises(ForeignMessageError, match="too many replicas"):
        admission.check_page(page(vector={"other-000001": 1}), NOW_MS)
    admission.check_deltas("living-00001", Deltas(1, [text("k")]), NOW_MS)


def test_a_transfer_makes_progress_with_every_cell_or_ends() -> None:
    first, second = item(1), item(2)
    part: dict[str, Any] = {"vector": {}, "deferred": [], "tallies": []}
    whole = CellState("k", items=[first], after=None, until=None, **part)
    beginning = CellState("k", items=[first], after=None, until=(MAD, 1), **part)
    for repeated in (
        [whole, whole],
        [beginning, beginning],
        [beginning, CellState("k", items=[first], after=(MAD, 1), until=(MAD, 1), **part)],
        [CellState("k", items=[], after=None, until=(MAD, 1), **part)],
        [CellState("k", items=[second], after=(MAD, 1), until=None, **part)],
    ):
        receiver = receiver_of(Replica(OWN))
        with pytest.raises(ForeignMessageError, match="follow"):
            receiver.receive(page(*repeated, is_last=False), NOW_MS)
    receiver = receiver_of(Replica(OWN))
    receiver.receive(page(beginning, CellState("k", items=[second], after=(MAD, 1), until=None, **part)), NOW_MS)
    assert receiver.is_done


def test_a_large_context_travels_on_a_page_without_cells() -> None:
    server, asker = replica_of(1), replica_of(2)
    for number in range(1500):
        server.apply(f"gone-{number:07}", 1, text(f"small {number}", "v", 1000 << 16))
    change(server, kv.Set("large", "x" * 1_000_000, 0))
    first = Sender(server).answer(asker.id, receiver_of(asker).request(), 0.0)
    assert first.cells == []
    assert not first.is_last
    assert max(pull(asker, server)) < 1024 * 1024
    assert seen(asker, "large") == seen(server, "large")


# --- clocks


def test_a_time_from_far_ahead_is_taken_in_but_does_not_move_the_clock() -> None:
    replica = Replica(OWN)
    admission = admission_of(replica)
    for number, ahead_ms in enumerate((MAX_DRIFT_MS, MAX_OBSERVED_DRIFT_MS + 1), 1):
        deltas = Deltas(number, [text("far", clock=(NOW_MS + ahead_ms) << 16)])
        admission.check_deltas(MAD, deltas, NOW_MS)
        replica.apply(MAD, number, deltas.events[0])
        assert replica.clock.last == 0
    change(replica, kv.Set("far", "mine", 0), NOW_MS)
    assert seen(replica, "far", NOW_MS) == ("text", "mine", 0)
    near = Deltas(3, [text("near", clock=(NOW_MS + MAX_OBSERVED_DRIFT_MS) << 16)])
    admission.check_deltas(MAD, near, NOW_MS)
    replica.apply(MAD, 3, near.events[0])
    assert replica.clock.ahead_ms(NOW_MS) == MAX_OBSERVED_DRIFT_MS


@given(st.lists(st.integers(0, MAX_DRIFT_MS), max_size=20), st.integers(0, MAX_DRIFT_MS - MAX_OBSERVED_DRIFT_MS))
def test_however_far_others_are_ahead_a_replica_that_is_behind_accepts_what_this_one_writes(
    ahead: list[int], behind_ms: int
) -> None:
    pushed, slow = Replica(OWN), replica_of(1)
    for number, ahead_ms in enumerate(ahead, 1):
        deltas = Deltas(number, [text("k", clock=(NOW_MS + ahead_ms) << 16)])
        admission_of(pushed).check_deltas(MAD, deltas, NOW_MS)
        pushed.apply(MAD, number, deltas.events[0])
    change(pushed, kv.Set("after", "v", 0), NOW_MS)
    admission_of(slow).check_deltas(OWN, Deltas(1, pushed.unsent), NOW_MS - behind_ms)
    assert pull(slow, pushed, NOW_MS - behind_ms)
    assert seen(slow, "after", NOW_MS) == ("text", "v", 0)
