"""The calls of `wrpc:keyvalue@0.2.0-draft`, with the bytes of their parameters and results.

The parameters of a call stand one behind the other without a header; `contracts.component_values` encodes each.

Source: wasmCloud v1.9.2 wit/ (wrpc:keyvalue); wrpc-transport-nats 0.29 (subjects).
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from msgspec import Struct

from contracts.component_values import (
    BOOL,
    NOTHING,
    NUMBER,
    OCTETS,
    STRING,
    UNLIMITED,
    Cursor,
    Encoded,
    IncompleteError,
    Limits,
    TooManyError,
    Type,
    list_of,
    option_of,
    record_of,
)
from contracts.lattice import check_subject_token
from contracts.long_values import LONG_BYTES, LongBytes

STORE = "wrpc:keyvalue/store@0.2.0-draft"
ATOMICS = "wrpc:keyvalue/atomics@0.2.0-draft"
BATCH = "wrpc:keyvalue/batch@0.2.0-draft"
WATCHER = "wrpc:keyvalue/watcher@0.2.0-draft"

PROTOCOL = "wrpc.0.0.1"
"""The tokens of every subject of a call that stand between the id of the called side and the interface."""


class WrpcCall(Struct, frozen=True, gc=False):
    """One call. The class is the function; the first parameter of each is the name with which a store was opened."""

    bucket: str
    instance: ClassVar[str]
    function: ClassVar[str]


class Get(WrpcCall, frozen=True, gc=False):
    """Read a value. The result is its bytes, or None if there is no value."""

    key: str
    instance = STORE
    function = "get"


class Set(WrpcCall, frozen=True, gc=False):
    """Put a value. The result is None."""

    key: str
    value: bytes | LongBytes
    instance = STORE
    function = "set"


class Delete(WrpcCall, frozen=True, gc=False):
    """Remove a value, if there is one. The result is None."""

    key: str
    instance = STORE
    function = "delete"


class Exists(WrpcCall, frozen=True, gc=False):
    """Return whether there is a value. The result is a bool."""

    key: str
    instance = STORE
    function = "exists"


class KeyResponse(Struct, frozen=True, gc=False):
    """A page of keys. `cursor` is where the next page begins; None after the last page."""

    keys: list[str]
    cursor: int | None


class ListKeys(WrpcCall, frozen=True, gc=False):
    """List keys. `cursor` is that of the page before, or None for the first page. The result is a `KeyResponse`."""

    cursor: int | None
    instance = STORE
    function = "list-keys"


class Increment(WrpcCall, frozen=True, gc=False):
    """Add to a number, a missing one being 0. The result is the new number, 0 to 2^64-1 like `delta`."""

    key: str
    delta: int
    instance = ATOMICS
    function = "increment"


class GetMany(WrpcCall, frozen=True, gc=False):
    """Read values. The result is a list of `(key, value)`, with None in place of each key without a value."""

    keys: list[str]
    instance = BATCH
    function = "get-many"


class SetMany(WrpcCall, frozen=True, gc=False):
    """Put the values of `(key, value)` pairs, each independently of the others. The result is None."""

    pairs: list[tuple[str, bytes | LongBytes]]
    instance = BATCH
    function = "set-many"


class DeleteMany(WrpcCall, frozen=True, gc=False):
    """Remove values, each independently of the others. The result is None."""

    keys: list[str]
    instance = BATCH
    function = "delete-many"


class OnSet(WrpcCall, frozen=True, gc=False):
    """Tell a component of a value that was put. There is no result, not even an empty one."""

    key: str
    value: bytes | LongBytes
    instance = WATCHER
    function = "on-set"


class OnDelete(WrpcCall, frozen=True, gc=False):
    """Tell a component of a value that was removed. There is no result, not even an empty one."""

    key: str
    instance = WATCHER
    function = "on-delete"


class ErrorCase(enum.IntEnum):
    """The cases of the interface's error, by their number on the wire."""

    NO_SUCH_STORE = 0
    ACCESS_DENIED = 1
    OTHER = 2


class Failure(Struct, frozen=True):
    """The error of a call, in place of its result. `text` is "" except for `OTHER`."""

    case: ErrorCase
    text: str = ""

    def __str__(self) -> str:
        return self.text or self.case.name.lower().replace("_", "-")


def _read_failure(cursor: Cursor) -> Failure:
    case = ErrorCase(cursor.tag(len(ErrorCase)))
    return Failure(case, cursor.string() if case is ErrorCase.OTHER else "")


def _write_failure(out: bytearray, failure: Failure) -> None:
    out.append(failure.case)
    if failure.case is ErrorCase.OTHER:
        STRING.write(out, failure.text)


_PAIR = record_of(tuple, lambda pair: pair, STRING, OCTETS)
_PAGE = record_of(
    lambda parts: KeyResponse(*parts), lambda page: (page.keys, page.cursor), list_of(STRING), option_of(NUMBER)
)

_TYPES: dict[type[WrpcCall], tuple[tuple[Type, ...], Type | None]] = {
    Get: ((STRING, STRING), option_of(OCTETS)),
    Set: ((STRING, STRING, OCTETS), NOTHING),
    Delete: ((STRING, STRING), NOTHING),
    Exists: ((STRING, STRING), BOOL),
    ListKeys: ((STRING, option_of(NUMBER)), _PAGE),
    Increment: ((STRING, STRING, NUMBER), NUMBER),
    GetMany: ((STRING, list_of(STRING)), list_of(option_of(_PAIR))),
    SetMany: ((STRING, list_of(_PAIR)), NOTHING),
    DeleteMany: ((STRING, list_of(STRING)), NOTHING),
    OnSet: ((STRING, STRING, OCTETS), None),
    OnDelete: ((STRING, STRING), None),
}
"""The types of the parameters and of the good result of each function; None if there is no result at all."""

CALLS: tuple[type[WrpcCall], ...] = (Get, Set, Delete, Exists, ListKeys, Increment, GetMany, SetMany, DeleteMany)
"""The functions that a provider serves."""

WATCHER_CALLS: tuple[type[WrpcCall], ...] = (OnSet, OnDelete)
"""The functions by which a provider tells a component of changes."""


def invocation_subject(lattice: str, called_id: str, type_: type[WrpcCall]) -> str:
    """Return the subject on which a provider or the host of a component receives calls of a function.

    Raises:
        MalformedError: The id is of a link, which anyone may have written, and no subject can have it.
    """
    check_subject_token("id", called_id, "link")
    return f"{lattice}.{called_id}.{PROTOCOL}.{type_.instance}.{type_.function}"


def function_name(type_: type[WrpcCall]) -> str:
    """Return the short name for logs, errors and statistics, e.g. `store.list-keys`."""
    return f"{type_.instance.partition('/')[2].partition('@')[0]}.{type_.function}"


_SHORT_LIST_BYTES = 64 * 1024
"""Size from which on it is taken that an incomplete list is long: its first message would have had all of a short one."""


class ParameterReader:
    """A reader of the parameters of one call, which may come in pieces that end anywhere.

    A complete value is never decoded again, so that many small pieces cost no more than one.

    Args:
        type_: Function that is called.
        limits: Limits of the parameters.
    """

    def __init__(self, type_: type[WrpcCall], limits: Limits) -> None:
        self._type = type_
        self._limits = limits
        # Long bytes are the last parameter, unless they are in a list.
        may_hold = _TYPES[type_][0][-1].item is None
        self._cursor = Cursor(b"", limits, f"parameters of {function_name(type_)}", may_hold=may_hold)
        self._values: list[Any] = []
        """The complete parameters."""
        self._elements: list[Any] | None = None
        """The complete elements of the list that comes next; None until its length has been read."""
        self._count = 0
        """The number of elements that this list has in all."""
        self._needed = 0
        """The length of the buffer below which its bytes cannot be complete."""
        self._dropped_bytes = 0
        """The number of bytes that are not in the buffer any more, as their values have been read."""

    @property
    def held_bytes(self) -> int:
        """The number of bytes received so far."""
        return self._dropped_bytes + len(self._cursor.buffer)

    @property
    def expected_bytes(self) -> int:
        """The number of bytes that incomplete parameters have in all, as far as is known; of a list, as many as they may have."""
        is_long_list = self._elements is not None and self.held_bytes > _SHORT_LIST_BYTES
        return self._limits.max_bytes if is_long_list else max(self._needed, self.held_bytes)

    def feed(self, piece: bytes) -> WrpcCall | None:
        """Take the next piece; return the call once its parameters are complete, else None.

        Raises:
            MalformedError: The bytes are not parameters of this function, or go on behind them.
            TooManyError: They go over a limit.
        """
        cursor = self._cursor
        size = self.held_bytes + len(piece)
        if size > self._limits.max_bytes:
            raise TooManyError("bytes", size, self._limits.max_bytes)
        if not cursor.buffer:
            cursor.buffer = piece  # nearly always the whole: no copy
        else:
            if isinstance(cursor.buffer, bytes):
                cursor.buffer = bytearray(cursor.buffer)
            cursor.buffer += piece
        if len(cursor.buffer) < self._needed:
            return None
        try:
            return self._read()
        except IncompleteError as missing:
            self._needed = missing.needed
            self._drop_read()
            return None

    def _drop_read(self) -> None:
        """Drop the bytes of the elements that have been read, which would be in memory twice."""
        cursor = self._cursor
        if cursor.at >= LONG_BYTES and self._elements is not None and isinstance(cursor.buffer, bytearray):
            del cursor.buffer[: cursor.at]
            self._dropped_bytes += cursor.at
            self._needed -= cursor.at
            cursor.at = 0

    def _read(self) -> WrpcCall:
        cursor, types = self._cursor, _TYPES[self._type][0]
        while len(self._values) < len(types):
            type_ = types[len(self._values)]
            start = cursor.at
            try:
                self._values.append(type_.read(cursor) if type_.item is None else self._read_list(type_.item))
            except IncompleteError:
                if type_.item is None:
                    cursor.at = start
                raise
        if cursor.at != len(cursor.buffer):
            cursor.malformed("bytes left over")
        return self._type(*self._values)

    def _read_list(self, item: Type) -> list[Any]:
        """Read the elements that are still missing, and keep them even if the bytes end before the last."""
        cursor = self._cursor
        start = cursor.at
        try:
            if self._elements is None:
                self._count = cursor.count()
                self._elements = []
            while len(self._elements) < self._count:
                start = cursor.at
                self._elements.append(item.read(cursor))
        except IncompleteError:
            cursor.at = start
            raise
        return self._elements


def encode_parameters(call: WrpcCall) -> bytes:
    """Encode the parameters of a call.

    Raises:
        ValueError: A number is not a u64, or a text has no UTF-8 form.
    """
    return bytes(encode_parameters_in_parts(call))


def encode_parameters_in_parts(call: WrpcCall) -> bytes | LongBytes:
    """Do the same, without a copy of long bytes."""
    out = Encoded()
    for type_, name in zip(_TYPES[type(call)][0], type(call).__struct_fields__, strict=True):
        type_.write(out, getattr(call, name))
    return out.whole()


def encode_result(type_: type[WrpcCall], result: Any) -> bytes:
    """Encode the result of a function, as its class describes it, or a `Failure`. A function without one has b""."""
    return bytes(encode_result_in_parts(type_, result))


def encode_result_in_parts(type_: type[WrpcCall], result: Any) -> bytes | LongBytes:
    """Do the same, without a copy of long bytes."""
    good = _TYPES[type_][1]
    if good is None:
        return b""
    out = Encoded()
    if isinstance(result, Failure):
        out.append(1)
        _write_failure(out, result)
    else:
        out.append(0)
        good.write(out, result)
    return out.whole()


def decode_result(type_: type[WrpcCall], data: bytes) -> Any:
    """Decode the whole result of a function, as its class describes it, or a `Failure`. Bytes behind it are ignored.

    Raises:
        MalformedError: The bytes are not a result of this function, or end too early.
    """
    good = _TYPES[type_][1]
    if good is None:
        return None
    cursor = Cursor(data, UNLIMITED, f"result of {function_name(type_)}")
    try:
        return _read_failure(cursor) if cursor.tag(2) else good.read(cursor)
    except IncompleteError:
        cursor.malformed("it ends too early")


def encode_text(text: str) -> bytes:
    """Encode a single text, as callers of 1.0 expect it on their error subject."""
    out = bytearray()
    STRING.write(out, text)
    return bytes(out)


def decode_text(data: bytes) -> str:
    """Decode a single text.

    Raises:
        MalformedError: The bytes are not a text.
    """
    cursor = Cursor(data, UNLIMITED, "text")
    try:
        return cursor.string()
    except IncompleteError:
        cursor.malformed("it ends too early")
