"""The operations of components, to whom every value is bytes and every number has 64 bits. Pure.

Bytes that are UTF-8 are stored as a text, so that actors, `nats kv` and components read the same bucket alike. A number
beyond 32 bits is stored as a text too: a counter of that size would be a binary value to an actor, and this way its `Get`
shows the number and its `Increment` tells the overflow.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from contracts.integers import I32_MAX, I32_MIN
from contracts.keyvalue import KeysRequest, Request, SingleKeyRequest
from contracts.long_values import SLICE_BYTES, LongBytes, LongText, are_utf8, utf8_outline
from provider import errors
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import MANY_BYTES, Change, number_of

U64_MAX = 2**64 - 1


class GetBytes(SingleKeyRequest, frozen=True, gc=False):
    """Read a value of any kind as bytes; None for a key without a value."""

    response_type = bytes | None


class SetBytes(SingleKeyRequest, frozen=True, gc=False):
    """Put bytes. They replace a value of any kind and never expire."""

    value: bytes | LongBytes
    response_type = None


class IncrementU64(SingleKeyRequest, frozen=True, gc=False):
    """Add to the number at a key. The answer is the new total, which must be from 0 to 2^64-1, as `value` is."""

    value: int
    response_type = int


class GetBytesMany(KeysRequest, frozen=True, gc=False):
    """Read values of any kind as bytes, in the order of the keys; None for each key without a value."""

    response_type = list[bytes | None]


class SetBytesMany(Request, frozen=True, gc=False):
    """Put bytes, each independently of the others. The answers are those of an `extensions.SetMany`."""

    items: list[SetBytes]


class ListPage(Request, frozen=True, gc=False):
    """List keys, a page at a time, with a cursor that every instance understands. The answer is a `KeyPage`.

    Attributes:
        cursor: Cursor of the page before; 0: the first page.
        max_bytes: Size of the keys of a page together.
    """

    cursor: int
    max_bytes: int


class KeyPage(NamedTuple):
    """A page of keys. `cursor` is where the next page begins; None after the last page."""

    keys: list[str]
    cursor: int | None


def value_of(payload: bytes | LongBytes) -> Value:
    """Return bytes as a value: a text if they are UTF-8, else a binary value. Long ones have been checked; see `checking`."""
    if isinstance(payload, LongBytes):
        return Value(Kind.TEXT if isinstance(payload, LongText) else Kind.BINARY, payload)
    try:
        return Value(Kind.TEXT, payload.decode())
    except UnicodeDecodeError:
        return Value(Kind.BINARY, payload)


def checking(payload: LongBytes) -> Generator[None, None, LongBytes]:
    """Return a long value as a text if it is UTF-8, in steps of less than a millisecond."""
    outlines = []
    for piece in payload.cuts(SLICE_BYTES):
        outlines.append(utf8_outline(piece))
        if outlines[-1] is None:
            return payload
        yield
    return LongText(payload.parts) if are_utf8(outlines) else payload


def is_long(request: Request) -> bool:
    """Tell whether a request has long values, which have to be checked; see `checking_request`."""
    items = request.items if isinstance(request, SetBytesMany) else [request]
    return any(isinstance(item, SetBytes) and isinstance(item.value, LongBytes) for item in items)


def checking_request(request: Request) -> Generator[None, None, Request]:
    """Return a request with its long values checked, in steps of less than a millisecond."""
    if isinstance(request, SetBytesMany):
        items: list[SetBytes] = []
        for item in request.items:
            items += [(yield from _checking_item(item))]
        return SetBytesMany(items)
    return (yield from _checking_item(request)) if isinstance(request, SetBytes) else request


def _checking_item(item: SetBytes) -> Generator[None, None, SetBytes]:
    return SetBytes(item.key, (yield from checking(item.value))) if isinstance(item.value, LongBytes) else item


def get_bytes(request: Request, value: Value | None) -> bytes | LongBytes | None:
    if value is not None and isinstance(value.data, LongBytes):
        return value.data
    return encode_payload(value) if value is not None else None


def get_bytes_many(request: KeysRequest, values: Sequence[Value | None]) -> list[bytes | LongBytes | None]:
    found = [get_bytes(request, value) for value in values]
    # A key that is named twice is answered twice, so the answer may be larger than the values that were read.
    if sum(len(payload) for payload in found if payload is not None) > MANY_BYTES:
        raise errors.TooMuchAtOnceError(len(found), MANY_BYTES)
    return found


def set_bytes(request: SetBytes, value: Value | None, now_ms: int) -> Change:
    return Change(value_of(request.value), None, True)


def increment_u64(request: IncrementU64, value: Value | None, now_ms: int) -> Change:
    total = total_u64(request, value)
    return Change(counted(total, value.expires_at_ms if value is not None else 0), total, True)


def counted(total: int, expires_at_ms: int) -> Value:
    """Return a number as a value: a counter if it fits in 32 bits with a sign, else a text."""
    if I32_MIN <= total <= I32_MAX:
        return Value(Kind.COUNTER, total, expires_at_ms)
    return Value(Kind.TEXT, str(total), expires_at_ms)


def total_u64(request: IncrementU64, value: Value | None) -> int:
    """Return the total after an increment.

    Raises:
        errors.StoreError: The value is not a number, or the total is negative or does not fit in 64 bits.
    """
    total = number_of(request.key, value) + request.value
    if not 0 <= total <= U64_MAX:
        raise errors.CounterOverflowError(request.key, total, 0, U64_MAX)
    return total
