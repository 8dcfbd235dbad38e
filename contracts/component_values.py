"""Values in the component model's encoding: bytes to Python values, and the reverse.

Of numbers in LEB128, padded forms are accepted within the bytes that the greatest number takes. A stated length is judged
before memory is taken for it.

Source: WebAssembly component-model, design/mvp/Binary.md (value definitions); wrpc-transport 0.28 (value encoding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from msgspec import Struct

from contracts.codec import MalformedError
from contracts.long_values import LONG_BYTES, Buffer, LongBytes

U64_MAX = 2**64 - 1
_U32_MAX = 2**32 - 1
_CONTINUED, _BITS = 0x80, 0x7F
"""Of each byte of a number: whether another one follows, and its bits."""


class TooManyError(ValueError):
    """Parameters that go over a limit of this provider. They are refused before memory is taken for them.

    Attributes:
        unit: The counted thing, `bytes` or `items`.
        count: The number that the parameters state, at least.
        maximum: The greatest number that is accepted.
    """

    def __init__(self, unit: str, count: int, maximum: int) -> None:
        super().__init__(f"parameters of {count} {unit}, over the limit of {maximum}")
        self.unit = unit
        self.count = count
        self.maximum = maximum


class Limits(Struct, frozen=True):
    """Limits of the parameters of one call.

    Attributes:
        max_bytes: Greatest length of all parameters together.
        max_items: Greatest number of elements in a list.
    """

    max_bytes: int
    max_items: int


UNLIMITED = Limits(_U32_MAX, _U32_MAX)
"""For results, which a caller has in memory already."""


class IncompleteError(Exception):
    """The bytes end inside a value. `needed` is a length below which they cannot be complete."""

    def __init__(self, needed: int) -> None:
        self.needed = needed


class Cursor:
    """A position in bytes, and the values that begin there. Each reader moves it behind the value.

    Args:
        buffer: The bytes.
        limits: Limits of the values.
        what: Name of the message in errors.
        may_hold: Whether long bytes may be views of the buffer, which must not change then.
    """

    __slots__ = ("_limits", "_may_hold", "_what", "at", "buffer")

    def __init__(self, buffer: bytes | bytearray, limits: Limits, what: str, *, may_hold: bool = False) -> None:
        self._may_hold = may_hold
        self.buffer = buffer
        self.at = 0
        self._limits = limits
        self._what = what

    def u64(self) -> int:
        return self._leb128(U64_MAX)

    def string(self) -> str:
        start, end = self._extent()
        try:
            return str(self.buffer[start:end], "utf-8")
        except UnicodeDecodeError:
            self.malformed("text that is not UTF-8")

    def octets(self) -> bytes | LongBytes:
        start, end = self._extent()
        view = memoryview(self.buffer)[start:end]
        return LongBytes([view]) if self._may_hold and end - start >= LONG_BYTES else bytes(view)

    def count(self) -> int:
        """Read the number of elements of a list. Each takes a byte at least."""
        count = self._leb128(_U32_MAX)
        if count > self._limits.max_items:
            raise TooManyError("items", count, self._limits.max_items)
        return count

    def tag(self, cases: int) -> int:
        """Read the number of a case out of so many: 2 for a bool, an option or a result."""
        tag = self._leb128(_U32_MAX) if cases > 2 else self._octet()
        if tag >= cases:
            self.malformed(f"case {tag} where there are {cases}")
        return tag

    def malformed(self, reason: str) -> NoReturn:
        raise MalformedError(self._what, f"{reason}, before byte {self.at}")

    def _octet(self) -> int:
        if self.at >= len(self.buffer):
            raise IncompleteError(self.at + 1)
        self.at += 1
        return self.buffer[self.at - 1]

    def _leb128(self, maximum: int) -> int:
        value = shift = 0
        while (octet := self._octet()) & _CONTINUED:
            value |= (octet & _BITS) << shift
            shift += 7
            if shift > maximum.bit_length():  # 7 bits in each byte: 5 bytes of a u32, 10 of a u64
                self.malformed("number without an end")
        value |= octet << shift
        if value > maximum:
            self.malformed(f"number over {maximum}")
        return value

    def _extent(self) -> tuple[int, int]:
        """Read a length in bytes and step over so many; return where they begin and end."""
        buffer, start = self.buffer, self.at
        if start < len(buffer) and (length := buffer[start]) < _CONTINUED:
            start += 1
        else:
            length = self._leb128(_U32_MAX)
            start = self.at
        end = start + length
        if end > len(buffer):
            if end > self._limits.max_bytes:
                raise TooManyError("bytes", end, self._limits.max_bytes)
            raise IncompleteError(end)
        self.at = end
        return start, end


_Reader = Callable[[Cursor], Any]
_Writer = Callable[[bytearray, Any], None]


class Type(Struct, frozen=True):
    """A type of values. `item` is that of a list's elements; None for any other type."""

    read: _Reader
    write: _Writer
    item: Type | None = None


def _write_number(out: bytearray, value: int) -> None:
    if not 0 <= value <= U64_MAX:
        raise ValueError(f"{value} is not from 0 to 2^64-1")
    while value > _BITS:
        out.append(value & _BITS | _CONTINUED)
        value >>= 7
    out.append(value)


class Encoded(bytearray):
    """Encoded values. Long bytes are put between its parts, and not copied."""

    def __init__(self) -> None:
        super().__init__()
        self._long: list[tuple[int, LongBytes]] = []

    def put(self, value: LongBytes) -> None:
        self._long.append((len(self), value))

    def whole(self) -> bytes | LongBytes:
        """Return everything."""
        if not self._long:
            return bytes(self)
        parts: list[Buffer] = []
        at = 0
        for start, value in self._long:
            parts += [bytes(self[at:start]), *value.parts]
            at = start
        parts.append(bytes(self[at:]))
        return LongBytes([part for part in parts if part])


def _write_octets(out: bytearray, value: bytes | LongBytes) -> None:
    _write_number(out, len(value))
    if isinstance(value, bytes):
        out += value
    else:
        assert isinstance(out, Encoded), "only results have long bytes"
        out.put(value)


def _write_string(out: bytearray, value: str) -> None:
    _write_octets(out, value.encode())


def _read_nothing(cursor: Cursor) -> None:
    pass


def _write_nothing(out: bytearray, value: None) -> None:
    pass


NUMBER = Type(Cursor.u64, _write_number)
STRING = Type(Cursor.string, _write_string)
OCTETS = Type(Cursor.octets, _write_octets)
BOOL = Type(lambda cursor: bool(cursor.tag(2)), lambda out, value: out.append(value))
NOTHING = Type(_read_nothing, _write_nothing)


def option_of(type_: Type) -> Type:
    def write(out: bytearray, value: Any) -> None:
        out.append(value is not None)
        if value is not None:
            type_.write(out, value)

    return Type(lambda cursor: type_.read(cursor) if cursor.tag(2) else None, write)


def list_of(item: Type) -> Type:
    def write(out: bytearray, values: list[Any]) -> None:
        _write_number(out, len(values))
        for value in values:
            item.write(out, value)

    return Type(lambda cursor: [item.read(cursor) for _ in range(cursor.count())], write, item)


def record_of(make: Callable[[Iterable[Any]], Any], split: Callable[[Any], Iterable[Any]], *types: Type) -> Type:
    def write(out: bytearray, value: Any) -> None:
        for type_, part in zip(types, split(value), strict=True):
            type_.write(out, part)

    return Type(lambda cursor: make([type_.read(cursor) for type_ in types]), write)
