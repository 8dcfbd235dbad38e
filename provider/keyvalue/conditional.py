"""Changes on the condition that a key has a certain revision, and entries as callers read them for such a change. Pure.

The revision is that of a value which can be read: it is 0 for a key that is missing, deleted or expired.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from contracts.extensions import CompareAndDelete, CompareAndSwap, Create, EntryResponse, SwapResponse
from contracts.keyvalue import Request, SingleKeyRequest
from contracts.long_values import LongText
from provider import errors
from provider.keyvalue.byte_values import value_of
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import Change

_CLOCK_ERROR_MS = 100
"""Error of the store's clock as it is known here, half a round trip at most: a value just given 100 seconds has no 101 left."""

Condition = Callable[[Any, Value | None, int, int], Change]
"""Function from a request, the current value, its revision and the time in milliseconds to the change."""


class Put(SingleKeyRequest, frozen=True, gc=False):
    """A request to put bytes, from the command line or the state-proxy.

    Attributes:
        payload: The bytes.
        expires: Seconds until the value ends; 0: never.
        revision: The revision that the key must have, 0 for none; `None`: no condition.
    """

    payload: bytes
    expires: int = 0
    revision: int | None = None
    response_type = SwapResponse


class PutValue(SingleKeyRequest, frozen=True, gc=False):
    """A request to put a value of any kind, from an import.

    Attributes:
        value: The value; its own end does not count.
        expires_ms: Milliseconds until the value ends; 0: never.
        revision: As for `Put`.
    """

    value: Value
    expires_ms: int = 0
    revision: int | None = None
    response_type = SwapResponse


class PutPaged(SingleKeyRequest, frozen=True, gc=False):
    """A request to put a value whose pages are stored.

    Attributes:
        value: The value, with the head of its pages.
        base_revision: Revision of the last message of the key before the pages were written, be it a marker: the head may
            replace no other.
        expires: Seconds until the value ends; 0: never.
    """

    value: Value
    base_revision: int
    expires: int = 0
    response_type = SwapResponse


class Delete(SingleKeyRequest, frozen=True, gc=False):
    """A request to delete a value of any kind, from the command line or the state-proxy.

    Attributes:
        keeps_history: Whether the earlier revisions stay, in a bucket with history.
        revision: As for `Put`.
    """

    keeps_history: bool = False
    revision: int | None = None
    response_type = SwapResponse


class Expire(SingleKeyRequest, frozen=True, gc=False):
    """A request to change the end of a value of any kind, from the state-proxy.

    Attributes:
        expires: Seconds until the value ends; 0: never.
        revision: As for `Put`.
    """

    expires: int
    revision: int | None = None
    response_type = SwapResponse


def create(request: Create, value: Value | None, revision: int, now_ms: int) -> Change:
    return _put(Value(Kind.TEXT, request.value), 0, request.expires, value, revision, now_ms)


def compare_and_swap(request: CompareAndSwap, value: Value | None, revision: int, now_ms: int) -> Change:
    return _put(Value(Kind.TEXT, request.value), request.revision, request.expires, value, revision, now_ms)


def compare_and_delete(request: CompareAndDelete, value: Value | None, revision: int, now_ms: int) -> Change:
    return _delete(request.revision, value, revision, keeps_history=False)


def put(request: Put, value: Value | None, revision: int, now_ms: int) -> Change:
    return _put(value_of(request.payload), request.revision, request.expires, value, revision, now_ms)


def put_value(request: PutValue, value: Value | None, revision: int, now_ms: int) -> Change:
    change = _put(request.value.copy(), request.revision, 0, value, revision, now_ms)
    if change.is_change and change.value is not None and request.expires_ms:
        change.value.expires_at_ms = now_ms + request.expires_ms
    return change


def put_paged(request: PutPaged, value: Value | None, revision: int, now_ms: int) -> Change:
    return _put(request.value.copy(), None, request.expires, value, revision, now_ms)


def delete(request: Delete, value: Value | None, revision: int, now_ms: int) -> Change:
    return _delete(request.revision, value, revision, keeps_history=request.keeps_history)


def expire(request: Expire, value: Value | None, revision: int, now_ms: int) -> Change:
    if value is None:
        return Change(None, SwapResponse(False, 0), False)
    return _put(value.copy(), request.revision, request.expires, value, revision, now_ms)


def _put(new: Value, wanted: int | None, expires: int, value: Value | None, revision: int, now_ms: int) -> Change:
    if wanted is not None and wanted != revision:
        return Change(value, SwapResponse(False, revision), False)
    new.expires_at_ms = now_ms + expires * 1000 if expires else 0
    return Change(new, SwapResponse(True, 0), True)


def _delete(wanted: int | None, value: Value | None, revision: int, *, keeps_history: bool) -> Change:
    if value is None or (wanted is not None and wanted != revision):
        return Change(value, SwapResponse(False, revision), False)
    return Change(None, SwapResponse(True, 0), True, keeps_history)


CONDITIONS: dict[type[Request], Condition] = {
    Create: create,
    CompareAndSwap: compare_and_swap,
    CompareAndDelete: compare_and_delete,
    Put: put,
    PutValue: put_value,
    PutPaged: put_paged,
    Delete: delete,
    Expire: expire,
}
"""Conditional changes. Each is written alone, and its `SwapResponse` gets the revision of that write."""


def entry_response(key: str, value: Value | None, revision: int, now_ms: int, age_end_ms: int = 0) -> EntryResponse:
    """Return an entry as actors see it.

    Args:
        key: The actor's key, for the error.
        value: The value; `None` for a key without one.
        revision: The value's revision.
        now_ms: The time by the store's clock.
        age_end_ms: The end by the store's maximum age; 0: no limit.

    Raises:
        errors.WrongKindError: The value is a binary value, which an actor cannot read.
    """
    if value is None:
        return EntryResponse(False, "", "", 0, 0)
    if value.kind is Kind.BINARY:
        raise errors.WrongKindError(key, value.kind.value, Kind.TEXT.value)
    text: Any = value.data if isinstance(value.data, LongText) else encode_payload(value).decode()
    return EntryResponse(True, text, value.kind.value, revision, seconds_left(value, age_end_ms, now_ms))


def seconds_left(value: Value, age_end_ms: int, now_ms: int) -> int:
    """Return the seconds until a value ends, by its own end or by its age, rounded up and at least 1; 0: never."""
    ends_ms = [end_ms for end_ms in (value.expires_at_ms, age_end_ms) if end_ms > 0]
    return max(1, math.ceil((min(ends_ms) - now_ms - _CLOCK_ERROR_MS) / 1000)) if ends_ms else 0
