"""The bytes of the NATS client protocol. Pure: bytes in, frames out, and the reverse.

Source: NATS client protocol (docs.nats.io, reference); ADR-4 (headers).
"""

from __future__ import annotations

import re
from collections.abc import Callable

Message = tuple[int, bytes, bytes, bytes, bytes]
"""A MSG or HMSG: subscription id, subject, reply subject (b"": none), header block (b"": none), payload."""

CRLF = b"\r\n"
_HEADER_LINE = b"NATS/1.0"
_MAX_CONTROL_LINE = 128 * 1024
"""Limit for a line without an end: the INFO of a cluster of some thousand servers. The beginning is searched again with each
piece, so a larger limit would let a server that sends single bytes take all the time."""

_MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""The largest limit for publications that a nats-server can be configured to. The limit of today does not count here: a message
that was stored under a higher one is still sent."""

_ADDED_BYTES = 64 * 1024
"""Room for the headers that a server adds to a message, over its limit for publications."""

_MAX_MESSAGE_BYTES = _MAX_PAYLOAD_BYTES * 4 // 3 + _ADDED_BYTES
"""Limit of a message. A server sends more than it accepts: a message of a stream that allows no direct reads comes as base64 in
JSON."""


_PUBLISH_REFUSED = re.compile(r'Permissions Violation for Publish to "([^"\\]+)"')
"""The subjects of this program have no character that the server would write with a backslash."""


class FrameError(ValueError):
    """The bytes are not of the NATS protocol."""


class FrameParser:
    """A parser that splits a server's bytes into messages and control lines (PING, PONG, INFO, -ERR, +OK)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        """The beginning of an incomplete frame, in pieces as they arrived."""
        self._have = 0
        """Length of the pieces together."""
        self._need = 0
        """Length of the incomplete frame; 0 while its control line is incomplete. No parsing is tried before that."""

    def feed(self, data: bytes) -> list[Message | bytes]:
        """Take bytes and return the frames that they complete, in order; a control line is bytes without its line end.

        Raises:
            FrameError: The bytes are not of the NATS protocol.
        """
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._parts)
        frames: list[Message | bytes] = []
        position = self._split(data, frames)
        rest = data[position:] if position else data
        self._parts = [rest] if rest else []
        self._have = len(rest)
        return frames

    def _split(self, data: bytes, frames: list[Message | bytes]) -> int:
        """Append the frames in `data`; return where the incomplete rest begins, and set the length that it needs."""
        position, end = 0, len(data)
        last_stop = end - len(CRLF)
        self._need = 0
        while position < end:
            line_end = data.find(CRLF, position)
            if line_end < 0:
                if end - position > _MAX_CONTROL_LINE:
                    raise FrameError("control line without an end")
                break
            words = data[position:line_end].split()
            has_header = bool(words) and words[0] == b"HMSG"
            if not has_header and (not words or words[0] != b"MSG"):
                frames.append(data[position:line_end])
                position = line_end + 2
                continue
            try:
                reply = words[3] if len(words) == 5 + has_header else b""
                start = header_end = line_end + 2
                stop = start + int(words[-1])
                if has_header:
                    header_end += int(words[-2])
                if not start <= header_end <= stop <= last_stop:
                    self._check_size(start, header_end, stop)
                    self._need = stop + 2 - position
                    break
                position = stop + 2
                frames.append((int(words[2]), words[1], reply, data[start:header_end], data[header_end:stop]))
            except (ValueError, IndexError):
                raise FrameError("malformed message line") from None
        return position

    def _check_size(self, start: int, header_end: int, stop: int) -> None:
        """Raise `ValueError` if a message cannot become complete: a negative size, a header beyond it, too large."""
        if not start <= header_end <= stop or stop - start > _MAX_MESSAGE_BYTES:
            raise ValueError


def header_block(*pairs: tuple[bytes, bytes]) -> bytes:
    """Encode headers. Names and values must not contain line ends; none of them comes from an actor unchecked."""
    return b"".join((_HEADER_LINE, CRLF, *[b"%b: %b\r\n" % pair for pair in pairs], CRLF))


def publish_frame(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> bytes:
    """Encode a PUB, or an HPUB if there is a header block. The payload is copied once."""
    if header:
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
            subject,
            reply,
            len(header),
            len(header) + len(payload),
            header,
            payload,
        )
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


def payload_size(frame: bytes) -> int:
    """Return the size of headers and payload of a PUB or HPUB in bytes; 0 for any other frame."""
    words = frame[: frame.find(CRLF)].split()
    return int(words[-1]) if words[0] in (b"PUB", b"HPUB") else 0


def refused_subject(text: str) -> bytes:
    """Return the subject that a server does not let this client publish to; b"" if its notice is about anything else.

    The server quotes subjects: a stranger may choose one that contains quotes and another subject.

    Args:
        text: The text of an `-ERR` without the quotes around it.
    """
    match = _PUBLISH_REFUSED.fullmatch(text)
    return match[1].encode() if match else b""


def header_value(block: bytes, name: bytes) -> bytes | None:
    """Return the first value of a header, or `None` if the block does not have it. Letter case counts."""
    start = block.find(b"\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 2
    return block[start : block.index(CRLF, start)].strip()


def added_header(block: bytes, name: bytes) -> bytes | None:
    """Return the value of a header that the server puts behind those of a stored message, or `None` without one.

    A header of the same name that a client has stored comes before it, and does not count.
    """
    start = block.rfind(b"\r\n%b: " % name)
    if start < 0:
        return None
    start += len(name) + 4
    return block[start : block.index(CRLF, start)]


def header_reader(*names: bytes) -> Callable[[bytes], dict[bytes, bytes]]:
    """Return a function that finds several headers of a block in one pass and leaves out those that are missing.

    Letter case counts. Of a header that occurs twice the first value counts, as for NATS clients.
    """
    find = header_finder(*names)
    return lambda block: dict(find(block)[::-1])


def header_finder(*names: bytes) -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """Return a function that finds several headers of a block in one pass and returns them in their order."""
    return re.compile(b"\r\n(" + b"|".join(names) + b"):[ \t]*([^\r]*)").findall


def status_of(block: bytes) -> int:
    """Return the status in the first line of a header block, e.g. 404; 0 if it has none."""
    if block[8:10] == CRLF:
        return 0
    line = block[: block.find(CRLF)].split(None, 2)
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


def status_text(block: bytes) -> str:
    """Return the text after the status in the first line of a header block; "" if it has no text."""
    words = block[: block.find(CRLF)].split(None, 2)
    return words[2].decode(errors="replace") if len(words) > 2 else ""
