"""Messages between replicas: what is sent comes back, anything else is refused whole; pages, members, what is stable."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider.keyvalue.cache import messages as deltas
from provider.keyvalue.cache.cells import MAX_DRIFT_MS, Context
from provider.keyvalue.cache.messages import (
    AddCount,
    AddElement,
    AddMember,
    AddText,
    ContextState,
    Deltas,
    Event,
    Floor,
    ForeignMessageError,
    Heartbeat,
    Message,
    ReplayPage,
    ReplayRequest,
    context_of,
    context_state,
    decode_message,
    encode_message,
    is_from,
    new_replica_id,
)
from provider.keyvalue.cache.operations import EVENTS, Change, Limits
from provider.keyvalue.cache.peers import Membership
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import MAX_PAGE_BYTES, Fetch, Replays

SENDER = "sender-00001"
ASKER = "asker-000001"

ids = st.sampled_from([SENDER, "other-000002", new_replica_id()])
counts = st.integers(1, 2**40)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
dots = st.tuples(ids, counts)
adds = st.one_of(
    st.none(),
    st.builds(AddText, texts, st.integers(0, 2**45)),
    st.builds(AddMember, texts),
    st.builds(AddElement, texts),
    st.builds(AddCount, counts, st.none() | dots, st.integers(-(2**40), 2**40), st.just(0)),
)
events = st.builds(
    Event,
    st.integers(0, 2**60),
    keys,
    adds,
    st.dictionaries(ids, st.lists(counts, min_size=1, max_size=3), max_size=2),
    st.lists(st.builds(Floor, ids, counts, counts, st.integers(-9, 9)), max_size=2),
)
vectors = st.dictionaries(ids, counts, max_size=3)
contexts = st.builds(ContextState, vectors, st.dictionaries(ids, st.lists(counts, max_size=3), max_size=2))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Deltas, counts, st.lists(events, max_size=5)),
    st.builds(Heartbeat, vectors, st.integers(0, 2**56 - 1), st.booleans(), st.booleans()),
    st.builds(ReplayRequest, st.text(max_size=12), st.integers(0, 99), st.none() | contexts),
)


def change(replica: Replica, request: kv.SingleKeyRequest) -> Any:
    return EVENTS[type(request)](Change(replica, Limits(), request.key, 1000), request)


def framed(form: int, body: bytes) -> bytes:
    """Put a body, sound or not, into a message of the right form and checksum."""
    checked = SENDER.encode() + body
    return b"kvrc\x01" + bytes([form]) + zlib.crc32(checked).to_bytes(4, "big") + checked


def page_of(data: bytes) -> ReplayPage:
    _, message = decode_message(data)
    assert isinstance(message, ReplayPage)
    return message


# --- messages ----------------------------------------------------------------------------------------------------------


@given(messages)
def test_a_message_comes_back_as_it_went_with_its_sender(message: Message) -> None:
    data = encode_message(SENDER, message)
    assert decode_message(data) == (SENDER, message)
    assert is_from(data, SENDER)
    assert not is_from(data, "other-000002")


def test_a_large_message_is_compressed_and_comes_back() -> None:
    message = Deltas(1, [Event(1, "k", AddText("long text " * 5000, 0), {}, [])])
    data = encode_message(SENDER, message)
    assert len(data) < 5000
    assert decode_message(data) == (SENDER, message)


@given(messages, st.data())
def test_a_damaged_message_is_refused(message: Message, data: st.DataObject) -> None:
    sound = encode_message(SENDER, message)
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(sound)))]
    if bytes(damaged) != sound:
        with pytest.raises(ForeignMessageError):
            decode_message(bytes(damaged))


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(data: bytes) -> None:
    for garbage in (data, framed(0, data)):
        try:
            _, message = decode_message(garbage)
        except ForeignMessageError:
            continue
        assert isinstance(message, (Deltas, Heartbeat, ReplayRequest, ReplayPage))


def test_another_version_is_refused_by_its_number() -> None:
    data = bytearray(encode_message(SENDER, Heartbeat({}, 0, False, False)))
    data[4] = 7
    with pytest.raises(ForeignMessageError, match="another version") as refused:
        decode_message(bytes(data))
    assert refused.value.version == 7


def test_a_message_that_unpacks_to_too_much_is_refused() -> None:
    bomb = framed(1, zlib.compress(b"\0" * (deltas._MAX_MESSAGE_BYTES + 1)))
    with pytest.raises(ForeignMessageError, match="too large"):
        decode_message(bomb)


@given(contexts)
def test_a_context_comes_back(state: ContextState) -> None:
    context = context_of(state)
    assert context_of(context_state(context)) == context


# --- pages -------------------------------------------------------------------------------------------------------------


def test_a_page_asked_for_again_is_the_same_and_a_skipped_one_is_none() -> None:
    server = Replica("server-00001")
    for number in range(1000):
        change(server, kv.Set(f"key {number}", "v" * 100, 0))
    replays, fetch = Replays(server), Fetch(Replica("asker-000001"))
    first = replays.answer(ASKER, fetch.request(), 0.0)
    assert not first.is_last
    fetch.take(first, 1000)
    second = replays.answer(ASKER, fetch.request(), 0.0)
    assert replays.answer(ASKER, fetch.request(), 0.0) is second
    assert replays.answer(ASKER, ReplayRequest(first.transfer, 5, None), 0.0).transfer == ""
    assert replays.answer(ASKER, ReplayRequest("unknown", 1, None), 0.0).transfer == ""
    with pytest.raises(ForeignMessageError, match="not the page"):
        fetch.take(first, 1000)
    other = Fetch(Replica("asker-000001"))
    assert replays.answer(ASKER, other.request(), 0.0).page == 0, "an asker has one transfer at a time"
    with pytest.raises(ForeignMessageError, match="has ended"):
        fetch.take(replays.answer(ASKER, fetch.request(), 0.0), 1000)


def test_too_many_transfers_at_once_are_put_off() -> None:
    server = Replica("server-00001")
    for number in range(1000):
        change(server, kv.Set(f"key {number}", "v", 0))
    replays = Replays(server)
    request = Fetch(Replica(ASKER)).request()
    answers = [replays.answer(new_replica_id(), request, 0.0) for _ in range(20)]
    assert [answer.transfer != "" for answer in answers] == [True] * 16 + [False] * 4
    assert replays.answer(new_replica_id(), request, 2.0).transfer, "one that has not been gone on with gives way"
    assert replays.answer(new_replica_id(), request, 60.0).transfer


def test_a_key_of_very_many_items_travels_in_several_pages_and_what_was_removed_goes() -> None:
    server, asker = Replica("server-00001"), Replica("asker-000001")
    for number in range(3000):
        change(server, kv.SetAdd("s", f"member {number}"))
        change(server, kv.ListAdd("l", f"element {number}"))
    _bring(asker, server)
    for number in range(0, 3000, 7):
        change(server, kv.SetDel("s", f"member {number}"))
        change(asker, kv.SetDel("s", f"member {number + 1}"))
    change(asker, kv.SetAdd("s", "of the asker"))
    assert _bring(asker, server) > 1
    _bring(server, asker)
    for replica in (asker, server):
        value = replica.read("s", 1000)
        assert value is not None
        gone = {f"member {number}" for start in (0, 1) for number in range(start, 3000, 7)}
        assert set(value.data) == {f"member {number}" for number in range(3000)} - gone | {"of the asker"}
        elements = replica.read("l", 1000)
        assert elements is not None
        assert elements.data == [f"element {number}" for number in range(3000)]


def _bring(asker: Replica, server: Replica) -> int:
    """Bring a replica what it lacks; returns in how many pages."""
    replays, fetch, pages = Replays(server), Fetch(asker), 0
    while not fetch.is_done:
        data = encode_message(server.id, replays.answer(ASKER, fetch.request(), 0.0))
        assert len(data) < MAX_PAGE_BYTES + 10_000
        fetch.take(page_of(data), 1000)
        pages += 1
    return pages


def test_times_of_the_future_and_events_that_never_were_end_a_transfer() -> None:
    server, asker = Replica("server-00001"), Replica("asker-000001")
    server.clock.see((1000 + 2 * MAX_DRIFT_MS) << 16)
    change(server, kv.Set("k", "v", 0))
    fetch = Fetch(asker)
    with pytest.raises(ForeignMessageError, match="future"):
        fetch.take(Replays(server).answer(ASKER, fetch.request(), 0.0), 1000)
    assert asker.read("k", 1000) is None
    impostor = Replica("asker-000001")
    change(impostor, kv.Set("k", "v", 0))
    fetch = Fetch(asker)
    with pytest.raises(ForeignMessageError, match="this one's id"):
        fetch.take(Replays(impostor).answer(ASKER, fetch.request(), 0.0), 1000)


# --- members -----------------------------------------------------------------------------------------------------------


def test_what_everybody_has_confirmed_is_stable() -> None:
    members = Membership("own-00000001", 100.0)
    context = Context({"own-00000001": 5, "peer-0000001": 3, "gone-0000001": 9})
    assert members.stable(context) == context.vector
    peer = Membership("peer-0000001", 100.0)
    peer.hear("own-00000001", members.heartbeat(context), 0.0)
    behind = Context({"own-00000001": 4, "peer-0000001": 3, "gone-0000001": 9})
    assert members.hear("peer-0000001", peer.heartbeat(behind), 0.0) is True
    assert members.stable(context)["own-00000001"] == 0, "nothing is confirmed yet"
    members.confirm(context)
    assert members.stable(context) == behind.vector
    assert not members.is_ahead("peer-0000001", context)
    assert members.is_behind("peer-0000001", context)


def test_a_replica_that_knows_more_confirms_nothing_until_that_is_here() -> None:
    members, peer = Membership("own-00000001", 100.0), Membership("peer-0000001", 100.0)
    members.hear("peer-0000001", peer.heartbeat(Context({"peer-0000001": 3})), 0.0)
    assert members.is_ahead("peer-0000001", Context())
    members.confirm(Context())
    assert members.stable(Context({"peer-0000001": 3})) == {"peer-0000001": 0}


def test_events_of_a_replica_that_has_ended_are_compared_by_digest() -> None:
    members, peer = Membership("own-00000001", 100.0), Membership("peer-0000001", 100.0)
    members.hear("peer-0000001", peer.heartbeat(Context({"gone-0000001": 9})), 0.0)
    assert members.is_ahead("peer-0000001", Context({"gone-0000001": 8}))
    assert not members.is_ahead("peer-0000001", Context({"gone-0000001": 9}))


def test_an_absent_replica_is_forgotten_and_one_that_leaves_at_once() -> None:
    members = Membership("own-00000001", 100.0)
    silence = Heartbeat({}, 0, False, False)
    members.hear("peer-0000001", silence, 0.0)
    members.hear("peer-0000002", silence, 90.0)
    assert members.forget_absent(101.0) == ["peer-0000001"]
    members.hear("peer-0000002", Heartbeat({}, 0, False, True), 95.0)
    assert members.is_leaving("peer-0000002")
    members.leave("peer-0000002")
    assert members.peers == []


def test_strangers_without_number_are_not_all_remembered() -> None:
    members = Membership("own-00000001", 100.0)
    for number in range(2000):
        members.hear(f"peer-{number:07}", Heartbeat({}, 0, False, False), 0.0)
    assert len(members.peers) == 1000
