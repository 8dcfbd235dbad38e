"""Changes that depend on the revision that stands under a key, and entries as they are read for them. Pure.

A revision is that of what can be read: of nothing, of something deleted and of something expired it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from contracts.extensions import CompareAndDelete, CompareAndSwap, Create, EntryResponse, SwapResponse
from contracts.keyvalue import Request, SingleKeyRequest
from provider import errors
from provider.keyvalue.payloads import encode_payload
from provider.keyvalue.values import Change, Kind, Value

Condition = Callable[[Any, Value | None, int, int], Change]
"""Makes a change of a request, what stands there, its revision, and the time in milliseconds."""


class Put(SingleKeyRequest, frozen=True, gc=False):
    """Put bytes, as those do who are no actors. `revision`: what must stand there, 0 nothing; `None`: whatever it is."""

    payload: bytes
    expires: int = 0
    revision: int | None = None
    response_type = SwapResponse


class Delete(SingleKeyRequest, frozen=True, gc=False):
    """Delete, as those do who are no actors. `keeps_history`: of a bucket that has one, only the marker is new."""

    keeps_history: bool = False
    revision: int | None = None
    response_type = SwapResponse


class Expire(SingleKeyRequest, frozen=True, gc=False):
    """Change when an entry ends, whatever its kind. `expires`: seconds from now, 0 never; `revision` as for `Put`."""

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


def delete(request: Delete, value: Value | None, revision: int, now_ms: int) -> Change:
    return _delete(request.revision, value, revision, keeps_history=request.keeps_history)


def expire(request: Expire, value: Value | None, revision: int, now_ms: int) -> Change:
    if value is None:
        return Change(None, SwapResponse(False, 0), False)
    return _put(value.copy(), request.revision, request.expires, value, revision, now_ms)


def value_of(payload: bytes) -> Value:
    """Return bytes as a value: a text if they are one."""
    try:
        return Value(Kind.TEXT, payload.decode())
    except UnicodeDecodeError:
        return Value(Kind.BINARY, payload)


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
    Delete: delete,
    Expire: expire,
}
"""Such a change is written by itself, and its `SwapResponse` is given the revision of that write."""


def entry_response(key: str, value: Value | None, revision: int, now_ms: int) -> EntryResponse:
    """Return an entry as actors see it.

    Args:
        key: The actor's, for the error.
        value: `None`: nothing stands there.
        revision: Of the value.
        now_ms: By the clock that its expiry is of.

    Raises:
        errors.WrongKindError: It is a binary value.
    """
    if value is None:
        return EntryResponse(False, "", "", 0, 0)
    if value.kind is Kind.BINARY:
        raise errors.WrongKindError(key, value.kind.value, Kind.TEXT.value)
    text = encode_payload(value).decode()
    return EntryResponse(True, text, value.kind.value, revision, seconds_left(value, now_ms))


def seconds_left(value: Value, now_ms: int) -> int:
    """Return in how many seconds a value expires, rounded up; 0: never."""
    return max(1, math.ceil((value.expires_at_ms - now_ms) / 1000)) if value.expires_at_ms else 0
