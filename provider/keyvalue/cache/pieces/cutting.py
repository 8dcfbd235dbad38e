"""A message with one long text <-> pieces that fit into messages. Pure.

Piece 0 is the frame: the body of the message with an empty text in place of the long one. The others are the text. So a body
that is unpacked is never larger than a message, and what arrives in pieces costs no more than its bytes.
"""

from __future__ import annotations

from msgspec import structs

from contracts.long_values import LONG_BYTES, LongBytes, LongText, are_utf8, empty_buffer, utf8_outline
from provider.keyvalue.cache.items.item import ItemValue, is_text
from provider.keyvalue.cache.messages import (
    AddBytes,
    AddText,
    BytesState,
    Deltas,
    Piece,
    TextState,
    TransferPage,
    pack,
    unpack_plain,
)
from provider.keyvalue.cache.trust.refused_messages import ForeignMessageError, Refusal

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Size of a text that replicas exchange: the default of `max_invocation_bytes`. All replicas must have the same limit."""

MAX_PIECE_BYTES = 128 * 1024
"""Size of a piece. It is signed or checked in less than a millisecond, and calls wait no longer than that."""

MAX_PIECES = 8192
"""Pieces of one text: 64 MiB in pieces of 8 KiB, as where `max_payload` is 16 KiB."""

PIECE_BYTES_KEPT = 200
"""Size counted for a piece that is kept beyond its bytes: about what the objects that hold it take in memory."""


def piece_bytes(max_payload_bytes: int) -> int:
    """Return the size of a piece where messages have a given size."""
    return min(MAX_PIECE_BYTES, max(1, max_payload_bytes // 2))


def text_bytes(max_payload_bytes: int) -> int:
    """Return the greatest size of a text where messages have a given size."""
    return min(MAX_TEXT_BYTES, (MAX_PIECES - 1) * piece_bytes(max_payload_bytes))


class Cut:
    """A message cut into pieces.

    Args:
        whole: Number of the message; see `Piece`.
        message: Deltas of one event that sets a text, or a page with one item, which is a text; see `long_text`.
        size: Size of a piece, in bytes.

    Attributes:
        count: Number of pieces.
        size_bytes: Size of the text.
    """

    def __init__(self, whole: int, message: Deltas | TransferPage, size: int) -> None:
        text = long_text(message)
        raw = text.encode() if isinstance(text, str) else text
        self._raw = raw if isinstance(raw, LongBytes) else LongBytes([raw])
        self._frame = pack(_with_text(message, "" if is_text(text) else b""))
        self._whole = whole
        self._size = size
        self.size_bytes = len(self._raw)
        self.count = 1 + -(-self.size_bytes // size)

    def piece(self, number: int) -> Piece:
        """Return a piece; its number is below `count`."""
        start = (number - 1) * self._size
        if not number:
            return Piece(self._whole, number, self.count, self.size_bytes, self._frame, b"")
        data = self._raw.read(start, min(start + self._size, self.size_bytes))
        return Piece(self._whole, number, self.count, self.size_bytes, b"", bytes(data))


class Whole:
    """A message that arrives in pieces, in any order.

    Args:
        piece: Piece that arrived first; it is to be added too.

    Attributes:
        number: Number of the message.
        kept_bytes: Size of the pieces that have arrived, with the objects that hold it.

    Raises:
        ForeignMessageError: No replica cuts a message like that.
    """

    def __init__(self, piece: Piece) -> None:
        if piece.total_bytes > MAX_TEXT_BYTES or piece.count > MAX_PIECES:
            raise ForeignMessageError(f"a text of {piece.total_bytes} bytes in {piece.count} pieces", Refusal.LIMIT)
        self.number = piece.whole
        self.kept_bytes = 0
        self._count, self._total_bytes = piece.count, piece.total_bytes
        self._frame = b""
        self._joined = empty_buffer(piece.total_bytes)
        """The text, from its beginning. Pieces that are kept apart leave as much memory unused between them."""
        self._joined_bytes = 0
        self._early: dict[int, bytes] = {}
        """The pieces behind one that is missing."""
        self._outlines: dict[int, bytes | None] = {}
        """Of each piece, what tells whether all of them are a text: each is checked as it arrives."""
        self._size_bytes = 0

    def add(self, piece: Piece) -> bool:
        """Add a piece; return whether all have arrived. One that has arrived before is ignored.

        Raises:
            ForeignMessageError: It does not fit to the others. The message must be dropped.
        """
        if (piece.whole, piece.count, piece.total_bytes) != (self.number, self._count, self._total_bytes):
            raise _unfit()
        if (
            piece.number >= self._count
            or bool(piece.frame) is bool(piece.number)
            or bool(piece.data) is not bool(piece.number)
        ):
            raise _unfit()
        if piece.number == 0:
            self.kept_bytes += 0 if self._frame else len(piece.frame)
            self._frame = self._frame or piece.frame
        elif piece.number not in self._outlines:
            self._size_bytes += len(piece.data)
            self.kept_bytes += len(piece.data) + PIECE_BYTES_KEPT
            if self._size_bytes > self._total_bytes:
                raise _unfit()
            self._outlines[piece.number] = utf8_outline(piece.data)
            self._early[piece.number] = piece.data
            while (part := self._early.pop(len(self._outlines) - len(self._early) + 1, None)) is not None:
                self._joined[self._joined_bytes : self._joined_bytes + len(part)] = part
                self._joined_bytes += len(part)
        return len(self._outlines) == self._count - 1 and bool(self._frame)

    def message(self) -> Deltas | TransferPage:
        """Return the message, of which all pieces have arrived.

        Raises:
            ForeignMessageError: The pieces are not those of a message with a text.
        """
        if self._size_bytes != self._total_bytes:
            raise _unfit()
        message = unpack_plain(self._frame)
        if not isinstance(message, Deltas | TransferPage):
            raise _unfit()
        frame_text = long_text(message)
        if frame_text:
            raise _unfit()
        numbers = range(1, self._count)
        if isinstance(frame_text, str) and not are_utf8(self._outlines[number] for number in numbers):
            raise ForeignMessageError("a text in pieces that is not UTF-8")
        if self._total_bytes >= LONG_BYTES:
            parts = [self._joined]
            return _with_text(message, LongText(parts) if isinstance(frame_text, str) else LongBytes(parts))
        raw = bytes(self._joined)
        return _with_text(message, raw.decode() if isinstance(frame_text, str) else raw)


def long_text(message: Deltas | TransferPage) -> ItemValue:
    """Return the text, or binary value, of a message that has exactly one.

    Raises:
        ForeignMessageError: It has none, or more than one.
    """
    if isinstance(message, Deltas):
        add = message.events[0].add if len(message.events) == 1 else None
        if isinstance(add, AddText | AddBytes):
            return add.value
    elif len(message.cells) == 1 and len(message.cells[0].items) == 1:
        item = message.cells[0].items[0]
        if isinstance(item, TextState | BytesState) and item.value is not None:
            return item.value
    raise ForeignMessageError("a message in pieces that has not exactly one text")


def _with_text(message: Deltas | TransferPage, text: ItemValue) -> Deltas | TransferPage:
    """Return a message with another text in place of the only one, of the same type."""
    if isinstance(message, Deltas):
        event = message.events[0]
        assert event.add is not None
        return Deltas(message.first, [structs.replace(event, add=structs.replace(event.add, value=text))])
    cell = message.cells[0]
    items = [structs.replace(cell.items[0], value=text)]
    return structs.replace(message, cells=[structs.replace(cell, items=items)])


def _unfit() -> ForeignMessageError:
    return ForeignMessageError("a piece that does not belong to the others of its message")
