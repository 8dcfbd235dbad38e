"""Frames come out whole however the bytes come in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.nats.frames import (
    FrameError,
    FrameParser,
    Message,
    added_header,
    header_block,
    header_reader,
    header_value,
    publish_frame,
    refused_subject,
    status_of,
)

words = st.text("abcXYZ0.$_", min_size=1, max_size=8).map(str.encode)
messages = st.tuples(
    st.integers(0, 999),
    words,
    st.just(b"") | words,
    st.just(b"") | st.just(header_block((b"A", b"b"))),
    st.binary(max_size=50),
)
controls = st.sampled_from([b"PING", b"PONG", b"+OK", b"-ERR 'x'", b'INFO {"a":1}'])


IMPOSSIBLE = [
    b"MSG a 1 -13\r\n\r\n",
    b"PING\r\nMSG a 1 -21\r\n",
    b"MSG a 1 -1\r\n\r\n",
    b"MSG a 1 90000000\r\n",
    b"MSG a 1 99999999999999999999\r\n",
    b"HMSG a 1 -5 3\r\nabc\r\n",
    b"HMSG a 1 5 3\r\nabc\r\nx\r\n",
    b"HMSG a 1 3 -2\r\nabc\r\n",
    b"HMSG a 1 -9 -9\r\nabc\r\n",
]
"""Messages whose sizes no server means."""


def encoded(frame: Message | bytes) -> bytes:
    if isinstance(frame, bytes):
        return frame + b"\r\n"
    sid, subject, reply, header, payload = frame
    middle = b"%b %d %b" % (subject, sid, reply + b" " if reply else b"")
    if header:
        return b"HMSG %b%d %d\r\n%b%b\r\n" % (middle, len(header), len(header) + len(payload), header, payload)
    return b"MSG %b%d\r\n%b\r\n" % (middle, len(payload), payload)


@given(st.lists(messages | controls, max_size=8), st.data())
def test_frames_come_out_whole_however_the_bytes_are_cut(frames: list[Message | bytes], data: st.DataObject) -> None:
    stream = b"".join(encoded(frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser, out = FrameParser(), list[Message | bytes]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += parser.feed(stream[start:end])
    assert out == frames


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_garbage_is_lines_or_an_error(pieces: list[bytes]) -> None:
    parser = FrameParser()
    try:
        for piece in pieces:
            parser.feed(piece)
    except FrameError:
        return


@given(st.text('".$Kk\\\\ x\u00e9', min_size=1))
def test_a_refused_subject_is_the_whole_one_or_none(subject: str) -> None:
    quoted = json.dumps(subject, ensure_ascii=False)  # as the server quotes it
    assert refused_subject(f"Permissions Violation for Publish to {quoted}") in (subject.encode(), b"")


def test_a_refusal_of_anything_but_a_publication_refuses_no_subject() -> None:
    for what in ("Subscription to", "Publish with Reply of"):
        assert refused_subject(f'Permissions Violation for {what} "$KV.b.k"') == b""
    assert refused_subject('Permissions Violation for Publish to "$KV.b.k"') == b"$KV.b.k"


@pytest.mark.parametrize("line", [b"MSG a\r\n", b"MSG a b c\r\n", b"HMSG a 1 x 5\r\n", b"MSG a 1 -\r\n", *IMPOSSIBLE])
def test_a_malformed_message_line_is_an_error(line: bytes) -> None:
    with pytest.raises(FrameError):
        FrameParser().feed(line)


@given(
    st.sampled_from([b"MSG a 1 %d", b"HMSG a 1 %d %d"]),
    st.integers(-100, 100),
    st.integers(-100, 100),
    st.binary(max_size=60),
)
def test_any_sizes_end_in_an_error_or_in_frames_that_are_as_large(
    line: bytes, first: int, second: int, rest: bytes
) -> None:
    sizes = (first, second)[: line.count(b"%d")]
    try:
        frames = FrameParser().feed(line % sizes + b"\r\n" + rest)
    except FrameError:
        return
    if frames and isinstance(frames[0], tuple):
        assert len(frames[0][3]) + len(frames[0][4]) == sizes[-1] >= 0


def test_a_message_over_the_limit_of_all_servers_is_an_error() -> None:
    assert FrameParser().feed(b"MSG a 1 89000000\r\n") == [], "the server may send base64, and add headers"
    with pytest.raises(FrameError):
        FrameParser().feed(b"MSG a 1 90000000\r\n")


def test_a_line_without_end_is_an_error_before_it_fills_the_memory() -> None:
    parser = FrameParser()
    reads = (parser.feed(b"x" * 65_536) for _ in range(40))
    with pytest.raises(FrameError):
        list(reads)


def test_headers_are_found_by_their_whole_name() -> None:
    block = header_block((b"Nats-TTL", b"5s"), (b"TTL", b"no"), (b"Kv-Kind", b"set"))
    assert header_value(block, b"TTL") == b"no"
    assert header_value(block, b"Nats") is None
    assert header_reader(b"Kv-Kind", b"Nats-TTL", b"None")(block) == {b"Kv-Kind": b"set", b"Nats-TTL": b"5s"}


def test_headers_are_found_with_any_space_and_the_first_of_two_counts() -> None:
    block = b"NATS/1.0\r\nA:1\r\nB: \t2\r\nX: \nA: no\r\nC:\r\nA: 3\r\n\r\n"
    assert header_reader(b"A", b"B", b"C")(block) == {b"A": b"1", b"B": b"2", b"C": b""}


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"NATS/1.0\r\n\r\n", 0),
        (b"NATS/1.0 404 Message Not Found\r\n\r\n", 404),
        (b"NATS/1.0 204 EOB\r\nA: b\r\n\r\n", 204),
    ],
)
def test_a_status_is_read_from_the_first_line(block: bytes, status: int) -> None:
    assert status_of(block) == status


def test_a_publication_is_written_as_the_protocol_says() -> None:
    assert publish_frame(b"s", b"", b"", b"ab") == b"PUB s  2\r\nab\r\n"
    header = header_block((b"A", b"b"))
    assert publish_frame(b"s", b"r", header, b"ab") == b"HPUB s r %d %d\r\n%bab\r\n" % (
        len(header),
        len(header) + 2,
        header,
    )


def test_a_header_that_the_server_adds_stands_behind_a_stored_one_of_the_same_name() -> None:
    block = b"NATS/1.0\r\nNats-Sequence: x\r\nNats-Stream: KV_b\r\nNats-Sequence: 5\r\n\r\n"
    assert added_header(block, b"Nats-Sequence") == b"5"
    assert added_header(block, b"Nats-Subject") is None
