"""A list of texts that is put together in its encoded form."""

from __future__ import annotations

import struct

from contracts.codec import pack_struct


class EncodedTexts:
    """The answer of an operation that returns texts. Encoded, they take half or a third of the memory that the texts would take.

    Attributes:
        count: Number of texts.
        size: Their encoded size in bytes.
    """

    def __init__(self) -> None:
        self.count = self.size = 0
        self._pieces: list[bytes | memoryview] = []

    def add(self, texts: list[str]) -> None:
        self.add_encoded(pack_struct(texts), len(texts))

    def add_encoded(self, array: bytes, count: int) -> None:
        """Add the texts of an encoded array with so many texts, which is not checked. The array is not copied."""
        piece = memoryview(array)[_header_bytes(array) :]
        self._pieces.append(piece)
        self.size += len(piece)
        self.count += count

    def encode(self) -> bytes:
        """Return the encoded list."""
        return b"".join([_array_header(self.count), *self._pieces])


def _array_header(count: int) -> bytes:
    """Return the first bytes of an array, in the shortest form. Source: MessagePack specification."""
    if count < 16:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count < 65_536 else struct.pack(">BI", 0xDD, count)


def _header_bytes(array: bytes) -> int:
    """Return the length of the header of an array."""
    return {0xDC: 3, 0xDD: 5}.get(array[0], 1)
