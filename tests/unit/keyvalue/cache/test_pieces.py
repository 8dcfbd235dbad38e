"""Texts that travel in pieces arrive as they are or not at all, in bounded memory, whatever happens to the pieces."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from contracts import keyvalue as kv
from contracts.long_values import LongText, plain
from provider.keyvalue.byte_values import SetBytes
from provider.keyvalue.cache.messages import (
    AddBytes,
    AddMember,
    AddText,
    Deltas,
    Event,
    Piece,
    PieceRequest,
    TransferPage,
    pack,
)
from provider.keyvalue.cache.pieces import arrivals as module
from provider.keyvalue.cache.pieces import cutting
from provider.keyvalue.cache.pieces.arrivals import Arrivals
from provider.keyvalue.cache.pieces.cutting import MAX_PIECES, MAX_TEXT_BYTES, Cut, Whole
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.cache.transfer import Sender
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError
from tests.unit.keyvalue.cache.exchange import (
    all_states,
    attempt,
    change,
    pull,
    receiver_of,
    replica_of,
    state,
    take_unsent,
)

A, B = "replica-0001", "replica-0002"
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
values = texts | st.binary(min_size=1, max_size=60)
sizes = st.integers(1, 40)


def deltas(value: str | bytes, count: int = 1) -> Deltas:
    add = AddBytes(value, 5) if isinstance(value, bytes) else AddText(value, 5)
    return Deltas(count, [Event(count << 16, "k", add, {A: [3]}, [])])


def pieces_of(value: str | bytes, size: int, count: int = 1) -> list[Piece]:
    cut = Cut(count, deltas(value, count), size)
    return [cut.piece(number) for number in range(cut.count)]


# --- cutting and joining


@given(values, sizes, st.randoms(use_true_random=False), st.data())
def test_pieces_in_any_order_and_repeated_become_the_message_that_was_cut(
    value: str | bytes, size: int, random: Any, data: st.DataObject
) -> None:
    pieces = pieces_of(value, size)
    assert all(len(piece.data) <= size for piece in pieces)
    sent = [*pieces, *data.draw(st.lists(st.sampled_from(pieces), max_size=5))]
    random.shuffle(sent)
    whole, seen = Whole(sent[0]), set()
    for piece in sent:
        is_whole = whole.add(piece)
        seen.add(piece.number)
        assert is_whole is (len(seen) == len(pieces))
    assert whole.message() == deltas(value)


@given(values, sizes, sizes)
def test_a_long_value_is_cut_as_it_is_and_joined_to_parts_which_are_cut_again(
    value: str | bytes, size: int, other_size: int
) -> None:
    raw = value.encode() if isinstance(value, str) else value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "LONG_BYTES", 1)
        pieces = pieces_of(value, size)
        for next_size in (size, other_size, size):
            whole = Whole(pieces[0])
            assert [whole.add(piece) for piece in pieces].index(True) == len(pieces) - 1
            found: Any = whole.message()
            long = found.events[0].add.value
            assert isinstance(long, LongText) is isinstance(value, str)
            assert (bytes(long), plain(long)) == (raw, value)
            cut = Cut(1, found, next_size)
            pieces = [cut.piece(number) for number in range(cut.count)]
            assert pieces == pieces_of(value, next_size)


@given(st.binary(min_size=1, max_size=60), sizes)
def test_pieces_that_are_not_utf8_are_refused_as_a_text(raw: bytes, size: int) -> None:
    pieces = pieces_of(raw, size)
    frame = pieces_of("a" * len(raw), size)[0].frame
    pieces[0] = structs.replace(pieces[0], frame=frame)
    whole = Whole(pieces[0])
    for piece in pieces:
        whole.add(piece)
    try:
        raw.decode()
    except UnicodeDecodeError:
        with pytest.raises(ForeignMessageError, match="UTF-8"):
            whole.message()
    else:
        whole.message()


@given(values, sizes, st.data())
def test_a_message_without_one_of_its_pieces_is_never_whole(value: str | bytes, size: int, data: st.DataObject) -> None:
    pieces = pieces_of(value, size)
    pieces.remove(data.draw(st.sampled_from(pieces)))
    whole = Whole(pieces[0])
    for piece in pieces:
        assert not whole.add(piece)


@given(texts, sizes, st.data())
def test_a_piece_that_was_changed_is_refused_or_the_text_is_of_the_length_that_was_said(
    value: str, size: int, data: st.DataObject
) -> None:
    pieces = pieces_of(value, size)
    at = data.draw(st.integers(0, len(pieces) - 1))
    field = data.draw(st.sampled_from(["number", "count", "total_bytes", "frame", "data"]))
    other: Any = data.draw(st.binary(max_size=60) if field in ("frame", "data") else st.integers(0, 70))
    pieces[at] = structs.replace(pieces[at], **{field: other})
    try:
        whole = Whole(pieces[0])
        for piece in pieces:
            if whole.add(piece):
                found = whole.message()
                assert isinstance(found, Deltas)
                add = found.events[0].add
                assert isinstance(add, AddText)
                assert len(add.value.encode()) == len(value.encode())
    except ForeignMessageError:
        pass


REFUSED = {
    "a text too large": Piece(1, 0, 2, MAX_TEXT_BYTES + 1, b"x", b""),
    "too many pieces": Piece(1, 0, MAX_PIECES + 1, 10_000, b"x", b""),
    "a number beyond the last": Piece(1, 2, 2, 3, b"", b"abc"),
    "a frame with data": Piece(1, 0, 2, 3, b"x", b"abc"),
    "a piece without data": Piece(1, 1, 2, 3, b"", b""),
    "data with a frame": Piece(1, 1, 2, 3, b"x", b"abc"),
    "more data than was said": Piece(1, 1, 2, 3, b"", b"abcd"),
}


@pytest.mark.parametrize("piece", REFUSED.values(), ids=REFUSED.keys())
def test_a_piece_that_no_replica_cuts_is_refused(piece: Piece) -> None:
    with pytest.raises(ForeignMessageError):
        Whole(piece).add(piece)


FRAMES = {
    "nonsense": b"\xc1",
    "no event": pack(Deltas(1, [])),
    "two events": pack(Deltas(1, deltas("").events * 2)),
    "a member": pack(Deltas(1, [Event(1, "k", AddMember(""), {}, [])])),
    "a text": pack(deltas("x")),
    "a piece": pack(Piece(1, 0, 2, 1, b"x", b"")),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_a_frame_that_no_replica_cuts_is_refused(frame: bytes) -> None:
    whole = Whole(Piece(1, 0, 2, 3, frame, b""))
    whole.add(Piece(1, 0, 2, 3, frame, b""))
    assert whole.add(Piece(1, 1, 2, 3, b"", b"abc"))
    with pytest.raises(ForeignMessageError):
        whole.message()


def test_a_text_in_pieces_that_is_not_utf8_is_refused() -> None:
    whole = Whole(Piece(1, 0, 2, 1, pack(deltas("")), b""))
    whole.add(Piece(1, 0, 2, 1, pack(deltas("")), b""))
    whole.add(Piece(1, 1, 2, 1, b"", b"\xff"))
    with pytest.raises(ForeignMessageError, match="not UTF-8"):
        whole.message()


# --- what arrives unasked


@given(st.data())
def test_whatever_arrives_only_whole_messages_come_out_and_the_newest_of_each_sender(data: st.DataObject) -> None:
    sent = {(who, count): pieces_of(f"{who}-{count}", 4, count) for who in (A, B) for count in (1, 2, 3)}
    steps = [(who, piece) for (who, _), pieces in sent.items() for piece in pieces]
    kept = Arrivals()
    got: dict[tuple[str, int], set[int]] = {}
    newest = {A: 0, B: 0}
    for who, piece in data.draw(st.lists(st.sampled_from(steps), max_size=80)):
        message = kept.add(who, piece, 0.0)
        if piece.whole > newest[who]:
            newest[who] = piece.whole
            got.pop((who, piece.whole), None)
        if piece.whole == newest[who]:
            numbers = got.setdefault((who, piece.whole), set())
            numbers.add(piece.number)
            if len(numbers) == len(sent[who, piece.whole]):
                assert message == deltas(f"{who}-{piece.whole}", piece.whole)
                del got[who, piece.whole]
                newest[who] = 0
                continue
        assert message is None


def test_what_is_not_finished_is_dropped_after_a_while() -> None:
    kept = Arrivals()
    first, *rest = pieces_of("abc", 1)
    kept.add(A, first, 100.0)
    assert kept.is_arriving(102.0)
    assert not kept.is_arriving(102.5)
    assert kept.kept_bytes == 0
    for at, piece in enumerate(rest):
        assert kept.add(A, piece, 103.0 + at) is None


def test_a_sender_that_never_finishes_is_dropped_however_steadily_it_sends() -> None:
    kept = Arrivals()
    for number in range(1, 500):
        kept.add(A, Piece(1, number, 8000, 8000, b"", b"x"), float(number))
        assert kept.kept_bytes < 62 * 201


def test_memory_is_bounded_and_one_that_sends_is_kept_before_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 5000)
    kept = Arrivals()
    good = pieces_of("x" * 900, 100)
    for number, piece in enumerate(good[:-1]):
        for liar in range(100):
            name, at = f"liar-{liar:07}", float(number)
            kept.add(name, Piece(1, 1 + number, 50, 50_000, b"", b"y" * 100), at)
            assert kept.kept_bytes <= 5000
        for other in range(3):
            kept.add(f"liar-{other:07}", Piece(1, 20 + number, 50, 50_000, b"", b"y" * 100), number)
        assert kept.add(A, piece, number + 0.5) is None
    assert kept.kept_bytes <= 5000


def test_a_message_larger_than_all_room_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 1000)
    kept = Arrivals()
    for piece in pieces_of("x" * 5000, 500)[:6]:
        assert kept.add(A, piece, 0.0) is None
        assert kept.kept_bytes <= 1000


# --- transfers


def pull_in_pieces(asker: Replica, server: Replica, piece_bytes: int = 16, most: int = 10**6) -> int:
    """Transfer what one replica lacks of another's state, long texts in pieces; return the number of answers."""
    sender, receiver = Sender(server), receiver_of(asker)
    sender.page_bytes, sender.event_bytes, sender.piece_bytes = 60, 30, piece_bytes
    answers = 0
    while not receiver.is_done and answers < most:
        answers += 1
        page = receiver.collect(sender.respond(asker.id, receiver.next_request(), 0.0))
        if page is not None:
            receiver.receive(page, 1000)
    receiver.end()
    return answers


long_texts = st.sampled_from(["x", "long " * 10, "ä" * 40, "very long " * 30])
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.builds(kv.Set, st.sampled_from("ab"), long_texts, st.sampled_from([0, 2])),
            st.builds(SetBytes, st.sampled_from("ab"), st.sampled_from([b"\xff" * 100, b"\xff"])),
            st.builds(kv.SetAdd, st.sampled_from("ab"), st.sampled_from(["p", "q"])),
            st.builds(kv.Increment, st.just("c"), st.integers(0, 5)),
            st.builds(kv.Del, st.sampled_from("ab")),
        ),
    ),
    max_size=15,
)


@given(steps, sizes, st.data())
def test_replicas_agree_whatever_is_lost_repeated_and_reordered_and_however_small_the_pieces_are(
    changes: list[tuple[int, kv.SingleKeyRequest]], size: int, data: st.DataObject
) -> None:
    replicas = [replica_of(number) for number in range(3)]
    kept = [Arrivals() for _ in replicas]
    wire: list[tuple[str, Deltas | Piece]] = []
    for number, request in changes:
        attempt(lambda: change(replicas[number], request))  # noqa: B023
        for author, count, event in take_unsent(replicas[number]):
            message = Deltas(count, [event])
            is_text = isinstance(event.add, AddText | AddBytes) and bool(event.add.value)
            cut = Cut(count, message, size) if is_text else None
            wire += [(author, cut.piece(at)) for at in range(cut.count)] if cut else [(author, message)]
    for to, replica in enumerate(replicas):
        for author, sent in data.draw(st.lists(st.sampled_from(wire), max_size=60)) if wire else []:
            if author != replica.id:
                whole = kept[to].add(author, sent, 0.0) if isinstance(sent, Piece) else sent
                if isinstance(whole, Deltas):
                    replica.apply(author, whole.first, whole.events[0])
    pull_in_pieces(replicas[0], replicas[1], size, most=data.draw(st.integers(0, 9)))
    for _ in range(2):
        for one, other in itertools.permutations(replicas, 2):
            pull_in_pieces(one, other, size)
    first, *others = all_states(*replicas)
    assert all(other == first for other in others)


def test_a_page_that_fits_is_sent_as_it_always_was() -> None:
    server = replica_of(1)
    change(server, kv.Set("a", "x" * 10, 0))
    page = Sender(server).respond(B, receiver_of(replica_of(2)).request(), 0.0)
    assert isinstance(page, TransferPage)
    assert len(page.cells) == 1


def test_a_piece_that_is_lost_is_requested_again_and_one_out_of_turn_ends_the_transfer() -> None:
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("a", "long text " * 20, 0))
    sender, receiver = Sender(server), receiver_of(asker)
    sender.event_bytes, sender.piece_bytes = 30, 16
    assert receiver.collect(sender.respond(asker.id, receiver.next_request(), 0.0)) is None
    request = receiver.next_request()
    assert isinstance(request, PieceRequest)
    answer = sender.respond(asker.id, request, 0.0)
    assert sender.respond(asker.id, receiver.next_request(), 0.0) == answer
    assert receiver.collect(answer) is None
    with pytest.raises(ForeignMessageError, match="not the piece that was requested"):
        receiver.collect(answer)
    receiver.end()
    assert state(asker) == {}
    pull(asker, server)
    assert state(asker) == state(server)


def test_a_text_that_is_overwritten_while_it_is_transferred_arrives_as_it_was() -> None:
    server, asker = replica_of(1), replica_of(2)
    change(server, kv.Set("a", "before " * 20, 0))
    sender, receiver = Sender(server), receiver_of(asker)
    sender.event_bytes, sender.piece_bytes = 30, 16
    page = None
    while page is None:
        page = receiver.collect(sender.respond(asker.id, receiver.next_request(), 0.0))
        change(server, kv.Set("a", "after " * 20, 0))
    receiver.receive(page, 1000)
    assert asker.read("a", 1000).data == "before " * 20  # type: ignore[union-attr]
    pull_in_pieces(asker, server)
    assert state(asker) == state(server)
