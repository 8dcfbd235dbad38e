"""Values as components see them: bytes, and numbers of 64 bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.byte_values import U64_MAX, GetBytes, GetBytesMany, IncrementU64, SetBytes
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.tables import CHANGES, READS, READS_OF_MANY
from provider.keyvalue.values import MANY_BYTES

NOW = 5_000


def put(payload: bytes) -> Value:
    value = CHANGES[SetBytes](SetBytes("k", payload), Value(Kind.LIST, ["old"], NOW + 1), NOW).value
    assert value is not None
    return value


@given(st.binary() | st.text().map(str.encode))
def test_bytes_come_back_as_they_were_put_and_have_no_end(payload: bytes) -> None:
    value = put(payload)
    assert READS[GetBytes](GetBytes("k"), value) == payload
    assert value.expires_at_ms == 0
    assert (value.kind is Kind.TEXT) == (payload.decode(errors="replace").encode() == payload)


def test_an_actor_reads_the_text_of_a_component_and_is_told_of_bytes_that_are_none() -> None:
    assert READS[kv.Get](kv.Get("k"), put("é".encode())) == kv.GetResponse("é", True)
    with pytest.raises(errors.WrongKindError, match="binary value"):
        READS[kv.Get](kv.Get("k"), put(b"\xff"))


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (Value(Kind.COUNTER, -7), b"-7"),
        (Value(Kind.LIST, ["a", "é"]), '["a","é"]'.encode()),
        (Value(Kind.SET, {"a": None}), b'["a"]'),
        (None, None),
    ],
)
def test_a_component_reads_what_other_clients_of_the_bucket_read(value: Value | None, payload: bytes | None) -> None:
    assert READS[GetBytes](GetBytes("k"), value) == payload
    assert READS_OF_MANY[GetBytesMany](GetBytesMany(["k", "k"]), [value, None]) == [payload, None]


def test_values_that_are_too_large_together_are_refused() -> None:
    half = Value(Kind.TEXT, "x" * (MANY_BYTES // 2 + 1))
    with pytest.raises(errors.TooMuchAtOnceError):
        READS_OF_MANY[GetBytesMany](GetBytesMany(["k", "k"]), [half, half])


def increment(value: Value | None, step: int) -> tuple[Value, int]:
    after, total, is_change, _ = CHANGES[IncrementU64](IncrementU64("k", step), value, NOW)
    assert after is not None
    assert is_change
    return after, total


@given(st.integers(0, U64_MAX), st.integers(0, U64_MAX))
def test_numbers_of_64_bits_add_up_or_nothing_changes(first: int, second: int) -> None:
    value, total = increment(None, first)
    assert total == first
    assert value.kind is (Kind.COUNTER if first < 2**31 else Kind.TEXT)
    if first + second > U64_MAX:
        with pytest.raises(errors.CounterOverflowError, match=str(U64_MAX)):
            increment(value, second)
    else:
        assert increment(value, second)[1] == first + second


def test_a_number_beyond_32_bits_is_an_error_for_actors_alone_and_keeps_its_end() -> None:
    value, _ = increment(Value(Kind.COUNTER, 2**31 - 1, NOW + 9), 1)
    assert value == Value(Kind.TEXT, "2147483648", NOW + 9)
    assert READS[kv.Get](kv.Get("k"), value).value == "2147483648"
    with pytest.raises(errors.CounterOverflowError):
        CHANGES[kv.Increment](kv.Increment("k", 1), value, NOW)


def test_a_negative_number_counts_up_and_a_negative_total_is_an_error() -> None:
    assert increment(Value(Kind.COUNTER, -5), 7)[1] == 2
    with pytest.raises(errors.CounterOverflowError, match="-2"):
        increment(Value(Kind.TEXT, "-5"), 3)


@pytest.mark.parametrize("value", [Value(Kind.TEXT, "+5"), Value(Kind.BINARY, b"\xff"), Value(Kind.LIST, ["1"])])
def test_what_is_no_number_is_not_incremented(value: Value) -> None:
    with pytest.raises((errors.NotANumberError, errors.WrongKindError)):
        increment(value, 1)
