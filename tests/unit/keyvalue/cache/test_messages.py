"""Messages between replicas: a sent message comes back, anything else is refused whole; pages, peers, the stable context."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.keyvalue.cache.messages import (
    AddCount,
    AddElement,
    AddMember,
    AddText,
    ContextState,
    CounterRemoval,
    Deltas,
    Event,
    Heartbeat,
    Message,
    Piece,
    PieceRequest,
    TransferRequest,
    context_of,
    context_state,
    decode_message,
    encode_message,
    new_replica_id,
)
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError

MAX_BYTES = 2 * 1024 * 1024
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
    st.lists(st.builds(CounterRemoval, ids, counts, counts, st.integers(-9, 9)), max_size=2),
)
vectors = st.dictionaries(ids, counts, max_size=3)
contexts = st.builds(ContextState, vectors, st.dictionaries(ids, st.lists(counts, max_size=3), max_size=2))
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Deltas, counts, st.lists(events, max_size=5)),
    st.builds(Heartbeat, vectors, st.integers(0, 2**56 - 1), st.booleans(), st.booleans(), st.booleans()),
    st.builds(Piece, st.integers(0, 2**40), st.integers(0, 9), st.integers(2, 9), counts, st.binary(), st.binary()),
    st.builds(PieceRequest, st.text(max_size=12), st.integers(0, 99), st.integers(1, 9)),
    st.builds(TransferRequest, st.text(max_size=12), st.integers(0, 99), st.none() | contexts),
)


def framed(form: int, body: bytes) -> bytes:
    """Return a message with the right head and checksum around any body."""
    checked = SENDER.encode() + body
    return b"kvrc\x01" + bytes([form]) + zlib.crc32(checked).to_bytes(4, "big") + checked


@given(messages)
def test_a_message_is_decoded_to_what_was_encoded_with_its_sender(message: Message) -> None:
    data = encode_message(SENDER, message)
    assert decode_message(data, MAX_BYTES) == (SENDER, message)


def test_a_large_message_is_compressed_and_decoded_to_what_was_encoded() -> None:
    message = Deltas(1, [Event(1, "k", AddText("long text " * 5000, 0), {}, [])])
    data = encode_message(SENDER, message)
    assert len(data) < 5000
    assert decode_message(data, MAX_BYTES) == (SENDER, message)


@given(messages, st.data())
def test_a_damaged_message_is_refused(message: Message, data: st.DataObject) -> None:
    sound = encode_message(SENDER, message)
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(sound)))]
    if bytes(damaged) != sound:
        with pytest.raises(ForeignMessageError):
            decode_message(bytes(damaged), MAX_BYTES)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(data: bytes) -> None:
    for garbage in (data, framed(0, data)):
        try:
            _, message = decode_message(garbage, MAX_BYTES)
        except ForeignMessageError:
            continue
        assert isinstance(message, Message)


def test_another_version_is_refused_by_its_number() -> None:
    data = bytearray(encode_message(SENDER, Heartbeat({}, 0, False, False)))
    data[4] = 7
    with pytest.raises(ForeignMessageError, match="another version") as refused:
        decode_message(bytes(data), MAX_BYTES)
    assert refused.value.version == 7


def test_a_message_that_unpacks_to_too_much_is_refused() -> None:
    bomb = framed(1, zlib.compress(b"\0" * (MAX_BYTES + 1)))
    with pytest.raises(ForeignMessageError, match="too large"):
        decode_message(bomb, MAX_BYTES)


@given(contexts)
def test_a_context_is_decoded_to_what_was_encoded(state: ContextState) -> None:
    context = context_of(state)
    assert context_of(context_state(context)) == context
