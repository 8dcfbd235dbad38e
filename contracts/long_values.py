"""Long texts and binary values as bytes in parts, so that no step has to handle the whole of one. Pure.

A long text is never a `str`: to decode, copy or compare 64 MiB takes up to a tenth of a second, in which no other call is served.
"""

from __future__ import annotations

import codecs
import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

LONG_BYTES = 1024 * 1024
"""Size from which on values are handled in parts. A smaller one is decoded within a millisecond or two."""

SLICE_BYTES = 256 * 1024
"""Size of a step: some tenths of a millisecond."""

_CONTINUED, _HIGH_BITS = 0x80, 0xC0
_MOST_CONTINUED = 3
"""Bytes of a character after the first one, at most."""

Buffer = bytes | bytearray | memoryview


class LongBytes:
    """A long binary value; it stands where `bytes` would.

    Args:
        parts: Its bytes; no part is empty.

    Attributes:
        parts: The same.
    """

    __slots__ = ("_ends", "parts")

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self.parts = [memoryview(part) for part in parts]
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        """Return the size in bytes, also of a text."""
        return self._ends[-1]

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def read(self, start: int, stop: int) -> memoryview:
        """Return the bytes between two positions, without a copy where one part has all of them."""
        index = bisect_right(self._ends, start)
        begin = self._ends[index - 1] if index else 0
        if stop <= self._ends[index]:
            return self.parts[index][start - begin : stop - begin]
        found = bytearray()
        while start < stop:
            begin = self._ends[index - 1] if index else 0
            found += self.parts[index][start - begin : stop - begin]
            start = self._ends[index]
            index += 1
        return memoryview(found)

    def cuts(self, size: int) -> Iterator[memoryview]:
        """Yield all bytes in pieces of one size; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self.read(start, min(start + size, len(self)))


class LongText(LongBytes):
    """The UTF-8 of a long text; it stands where a `str` would."""

    __slots__ = ()

    def __str__(self) -> str:
        return bytes(self).decode()


def empty_buffer(size: int) -> memoryview:
    """Return memory to write to, which is taken from the system as it is written and given back at once.

    Memory of the heap would be filled with zeros first, or copied while it grows: either takes up to a fiftieth of a second.
    """
    return memoryview(mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))[:size]


def plain(value: LongBytes) -> str | bytes:
    """Return a value in one piece, where it fits into a message all the same or is for another program."""
    return str(value) if isinstance(value, LongText) else bytes(value)


def utf8_outline(piece: Buffer) -> bytes | None:
    """Return the bytes at both ends of a piece that belong to a character across its border, with a letter for the rest.

    The outlines of all pieces of a text together are UTF-8 if and only if the text is.

    Returns:
        `None`: the piece is not of a text.
    """
    start = 0
    while start < min(len(piece), _MOST_CONTINUED) and piece[start] & _HIGH_BITS == _CONTINUED:
        start += 1
    inner = memoryview(piece)[start:]
    try:
        _, used = codecs.utf_8_decode(inner, "strict", False)
    except UnicodeDecodeError:
        return None
    return bytes(piece[:start]) + b"a" * bool(used) + bytes(inner[used:])


def are_utf8(outlines: Iterable[bytes | None]) -> bool:
    """Tell by the outlines of all pieces, in their order, whether they are a text."""
    collected = bytearray()
    for outline in outlines:
        if outline is None:
            return False
        collected += outline
    try:
        collected.decode()
    except UnicodeDecodeError:
        return False
    return True
