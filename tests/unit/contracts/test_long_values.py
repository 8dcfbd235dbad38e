"""Long texts and binary values are read, checked and encoded part by part, with the outcome of doing it at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import extensions, keyvalue, operations
from contracts.codec import MalformedError, NotUtf8Error
from contracts.long_values import LONG_BYTES, SLICE_BYTES, LongBytes, LongText, are_utf8, plain, utf8_outline

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
cuts = st.lists(st.integers(1, 7), min_size=1, max_size=40)


def cut_up(raw: bytes, sizes: list[int]) -> list[bytes]:
    """Cut bytes into pieces of given sizes, over and over."""
    pieces: list[bytes] = []
    at = 0
    while at < len(raw):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(raw[at : at + size])
        at += size
    return pieces


def is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def steps_of(work: Generator[None, None, keyvalue.Request]) -> tuple[keyvalue.Request, int]:
    """Return the result of some work, and the number of its steps."""
    steps = 1
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, steps
        steps += 1


@given(texts.map(str.encode) | st.binary(min_size=1, max_size=40), cuts, st.data())
def test_pieces_are_a_text_if_and_only_if_the_whole_is(raw: bytes, sizes: list[int], data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + data.draw(st.binary(max_size=2)) + raw[at + 1 :]
    assert are_utf8(map(utf8_outline, cut_up(raw, sizes))) is is_utf8(raw)


@given(st.binary(min_size=1, max_size=80), cuts, st.integers(1, 90), st.data())
def test_parts_are_read_as_if_they_were_one(raw: bytes, sizes: list[int], size: int, data: st.DataObject) -> None:
    value = LongBytes(cut_up(raw, sizes))
    assert (len(value), bytes(value), plain(value)) == (len(raw), raw, raw)
    assert list(map(bytes, value.cuts(size))) == cut_up(raw, [size])
    start = data.draw(st.integers(0, len(raw) - 1))
    stop = data.draw(st.integers(start + 1, len(raw)))
    assert value.read(start, stop) == raw[start:stop]


LONG = "aé€😀" * (LONG_BYTES // 10 + 1)
REQUESTS: list[keyvalue.Request] = [
    keyvalue.Set("k", LONG, 3),
    extensions.Create("k", LONG, 4),
    extensions.CompareAndSwap("k", LONG, 5, 6),
    extensions.SetMany([extensions.SetManyItem("k", LONG, 7), extensions.SetManyItem("l", "short", 0)]),
]


def text_in(request: Any) -> Any:
    return request.items[0].value if isinstance(request, extensions.SetMany) else request.value


def with_plain_texts(request: Any) -> keyvalue.Request:
    def plainly(item: Any) -> Any:
        fields = {name: getattr(item, name) for name in item.__struct_fields__}
        value = fields["value"]
        return type(item)(**fields | {"value": str(value) if isinstance(value, LongText) else value})

    if isinstance(request, extensions.SetMany):
        return extensions.SetMany([plainly(item) for item in request.items])
    return plainly(request)  # type: ignore[no-any-return]


@pytest.mark.parametrize("request_", REQUESTS, ids=operations.operation_name)
@pytest.mark.parametrize("prefix", [b"", b"\xc1"], ids=["usual", "protocol 2"])
def test_a_long_text_is_decoded_in_steps_to_a_text_in_parts(request_: keyvalue.Request, prefix: bytes) -> None:
    payload = bytearray(prefix + operations.encode_request(request_))
    decoded, steps = steps_of(operations.decoding_request(operations.operation_name(request_), payload))
    assert isinstance(text_in(decoded), LongText)
    assert with_plain_texts(decoded) == request_
    assert steps > len(LONG.encode()) // SLICE_BYTES


@pytest.mark.parametrize("operation", operations.REQUESTS)
@pytest.mark.parametrize(
    "argument",
    [
        "k",
        {"key": "k", "value": "v", "expires": 1, "revision": 2},
        {"key": "k", "value": "v" * 300, "expires": 1, "revision": 2, "more": [1]},
        {"key": "k", "value": 5, "expires": 1, "revision": 2},
        {"key": "k", "value": b"v", "expires": 1, "revision": 2},
        {"key": "k", "value": "v", "expires": -1, "revision": 2},
        {"key": "k", "value": "v"},
        [],
        [{"key": "k", "value": "v", "expires": 1}, {"key": "l", "value": "w" * 70_000, "expires": 0}],
        [{"key": "k", "value": None, "expires": 1}],
        ["k", "v", 1],
    ],
    ids=repr,
)
def test_any_argument_is_decoded_in_steps_as_it_is_at_once(operation: str, argument: Any) -> None:
    payload = msgpack.packb(argument)
    try:
        expected: object = operations.decode_request(operation, payload)
    except MalformedError as error:
        expected = str(error)
    try:
        found: object = steps_of(operations.decoding_request(operation, payload))[0]
    except MalformedError as error:
        found = str(error)
    assert found == expected


@pytest.mark.parametrize("size", [1, LONG_BYTES + 1])
def test_a_text_that_is_not_utf8_is_refused(size: int) -> None:
    payload = msgpack.packb({"key": "k", "value": "a" * size, "expires": 1}).replace(
        b"a" * size, b"a" * (size - 1) + b"\xff"
    )
    with pytest.raises(NotUtf8Error):
        steps_of(operations.decoding_request("KeyValue.Set", payload))


def test_a_text_that_is_a_part_of_its_payload_does_not_hold_the_rest() -> None:
    argument = {"key": "k", "value": LONG, "expires": 1}
    for rest, is_held in ((b"", True), (bytes(len(LONG.encode())), False)):
        payload = bytearray(msgpack.packb(argument | {"more": rest}))
        decoded, _ = steps_of(operations.decoding_request("KeyValue.Set", payload))
        try:
            payload += b"."
        except BufferError:
            assert is_held
        else:
            assert not is_held
        assert str(text_in(decoded)) == LONG


@given(texts, texts, cuts)
def test_an_answer_with_texts_in_parts_is_encoded_as_one_with_texts(one: str, other: str, sizes: list[int]) -> None:
    one_long: Any = LongText(cut_up(one.encode(), sizes))
    other_long: Any = LongText(cut_up(other.encode(), sizes))
    for found, expected in (
        (keyvalue.GetResponse(one_long, True), keyvalue.GetResponse(one, True)),
        (
            extensions.EntryResponse(True, one_long, "text", 1, 2),
            extensions.EntryResponse(True, one, "text", 1, 2),
        ),
        (
            [extensions.GetResult("k", one_long, True), extensions.GetResult("l", other_long, True)],
            [extensions.GetResult("k", one, True), extensions.GetResult("l", other, True)],
        ),
    ):
        encoded = operations.encode_response(found)
        assert isinstance(encoded, LongBytes)
        assert bytes(encoded) == operations.encode_response(expected)
