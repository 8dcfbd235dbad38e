"""Large answers, put together in their encoded form from parts."""

from __future__ import annotations

import struct

from contracts.codec import pack_struct
from contracts.keyvalue import GetResponse
from contracts.long_values import Buffer, LongBytes

_EMPTY_TEXT = pack_struct("")

_PART_BYTES = 1024 * 1024
"""Size of a part from which on a new one is begun: one that grows further would be copied now and then."""


class EncodedTexts:
    """The answer of an operation that returns texts. Encoded, they take half or a third of the memory that the texts would take.

    Each addition is copied at once, as to put a million texts together at the end would take a fiftieth of a second.

    Attributes:
        count: Number of texts.
        size: Their encoded size in bytes.
    """

    def __init__(self) -> None:
        self.count = self.size = 0
        self._parts: list[bytearray] = [bytearray()]

    def add(self, texts: list[str]) -> None:
        self.add_encoded(pack_struct(texts), len(texts))

    def add_encoded(self, array: bytes, count: int) -> None:
        """Add the texts of an encoded array with so many texts, which is not checked."""
        texts = memoryview(array)[_header_bytes(array) :]
        if len(self._parts[-1]) >= _PART_BYTES:
            self._parts.append(bytearray())
        self._parts[-1] += texts
        self.size += len(texts)
        self.count += count

    def encode(self) -> LongBytes:
        """Return the encoded list. Nothing may be added to it any more."""
        return LongBytes([_array_header(self.count), *(part for part in self._parts if part)])


class EncodedGet:
    """The answer of a `Get`, put together from pieces of its text.

    Args:
        size: Bytes of the text.
    """

    def __init__(self, size: int) -> None:
        before, self._after = pack_struct(GetResponse("", True)).split(_EMPTY_TEXT)
        self._parts: list[Buffer] = [before + text_header(size)]

    def add(self, piece: bytes) -> None:
        """Add a piece. All of them must be a text of the size that was given, which is not checked."""
        self._parts.append(piece)

    def encode(self) -> LongBytes:
        """Return the encoded answer. Nothing may be added to it any more."""
        return LongBytes([*self._parts, self._after])


def text_header(size: int) -> bytes:
    """Return the first bytes of a text, in the shortest form. Source: MessagePack specification."""
    if size < 32:
        return bytes([0xA0 | size])
    if size < 256:
        return bytes([0xD9, size])
    return struct.pack(">BH", 0xDA, size) if size < 65_536 else struct.pack(">BI", 0xDB, size)


def _array_header(count: int) -> bytes:
    """Return the first bytes of an array, in the shortest form. Source: MessagePack specification."""
    if count < 16:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count < 65_536 else struct.pack(">BI", 0xDD, count)


def _header_bytes(array: bytes) -> int:
    """Return the length of the header of an array."""
    return {0xDC: 3, 0xDD: 5}.get(array[0], 1)
