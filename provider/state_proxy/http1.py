"""HTTP/1.1 as a state machine: bytes to typed events, answers to bytes. Pure; the meaning of a request is decided elsewhere.

httptools parses. It wraps llhttp, which rejects requests that can be read in two ways. A parser in pure Python would take
longer than the bucket takes to answer.

Source: RFC 9112; section 6.1 for transfer encodings.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import NamedTuple

import httptools

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_MAX_SILENT_BYTES = 32 * 1024
"""Longest head or trailer. A key has at most 3,500 bytes, and percent-escapes make three bytes of each."""

_SIZED_HEAD = b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
_CHUNKED_HEAD = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

_PHRASES = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class RequestHead(NamedTuple):
    """The request line and the headers that matter here.

    Attributes:
        method: In upper case.
        target: Path and query, percent-escapes untouched.
        length: Size of the body in bytes; 0 without a body, `None` if it is chunked.
        if_none_match: Value of the header, "" if absent.
        expects_continue: Whether the client waits for `CONTINUE` before it sends the body.
        keeps_alive: Whether another request may follow.
        is_http_1_0: Whether the answer must say explicitly that the connection stays open.
    """

    method: str
    target: str
    length: int | None
    if_none_match: str
    expects_continue: bool
    keeps_alive: bool
    is_http_1_0: bool


class RequestEnd(NamedTuple):
    """The end of a request, after its body."""


class Malformed(NamedTuple):
    """The bytes are not HTTP, or exceed a limit. Nothing after them is parsed."""

    reason: str


Event = RequestHead | bytes | RequestEnd | Malformed
"""Each request gives a head, pieces of its body and an end."""


class StreamedBody(NamedTuple):
    """A body that is read while it is sent. `length` is in bytes, those of all pieces together."""

    length: int
    pieces: AsyncGenerator[bytes, None]


class Response(NamedTuple):
    """An HTTP response.

    Attributes:
        status: A status that has a phrase in this module.
        body: Empty with 204.
        content_type: Media type of the body.
        headers: Further header lines, as they are sent.
        stream: The body in place of `body`, if it may be too large for the memory.
    """

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: bytes = b""
    stream: StreamedBody | None = None

    @property
    def length(self) -> int:
        """The size of the body in bytes."""
        return len(self.body) if self.stream is None else self.stream.length


class RequestParser:
    """The parser of the requests on one connection.

    Attributes:
        is_amid: Whether a request has begun and not ended.
    """

    def __init__(self) -> None:
        self.is_amid = False
        self._parser = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._silent_bytes = 0
        self._is_broken = False
        self._begin()

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and return the events they complete. After `Malformed` there are no more events."""
        if self._is_broken:
            return []
        self._silent_bytes += len(data)
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError as error:
            self._break(str(error) or "not HTTP")
        events, self._events = self._events, []
        if events:
            self._silent_bytes = 0
        elif self._silent_bytes > _MAX_SILENT_BYTES:
            self._break(f"over {_MAX_SILENT_BYTES} bytes without the end of a head")
            events, self._events = self._events, []
        return events

    def _parse(self, data: bytes) -> bytes:
        """Parse up to the end of a head that asks for another protocol, and return the unparsed rest.

        llhttp treats everything after an `Upgrade` head as the other protocol, even the body of the request itself. A
        server may ignore the header and stay with HTTP/1.1 (RFC 9110 section 7.8). So parsing goes on in a new parser,
        which is primed with a head that has the same body length. After a CONNECT, nothing that follows is HTTP.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            (parsed,) = upgrade.args
        else:
            return b""
        if self._is_broken:
            return b""
        if self._parser.get_method() == b"CONNECT":
            *self._events, head, end = self._events
            assert isinstance(head, RequestHead), "llhttp reports a request that asks for an upgrade without its body"
            self._events += [head._replace(keeps_alive=False), end]
            self._is_broken = True
            return b""
        self._parser = httptools.HttpRequestParser(self)
        if self._length != 0:
            self._events.pop()  # the end, which llhttp has reported before the body
            self._parser.feed_data(_CHUNKED_HEAD if self._length is None else _SIZED_HEAD % self._length)
            self._events.pop()  # the head that primed the new parser
        return data[parsed:]

    def _begin(self) -> None:
        self._target = b""
        self._is_in_head = True
        self._length: int | None = 0
        self._if_none_match = b""
        self._expects_continue = False

    def _break(self, reason: str) -> None:
        if not self._is_broken:
            self._is_broken = True
            self._events.append(Malformed(reason))

    # --- called by httptools

    def on_message_begin(self) -> None:
        self.is_amid = True
        self._begin()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return
        match name.lower():
            case b"content-length":
                self._length = int(value)
            case b"transfer-encoding":
                self._length = None
                if value.strip().lower() != b"chunked":
                    self._break("a transfer encoding other than chunked")
            case b"if-none-match":
                self._if_none_match = value
            case b"expect":
                self._expects_continue = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        version = self._parser.get_http_version()
        # A relay that speaks HTTP/1.0 does not know the field, and would see other requests in the bytes that follow.
        if self._length is None and version != "1.1":
            self._break("a transfer encoding outside of HTTP/1.1")
        if self._is_broken:
            return
        head = RequestHead(
            self._parser.get_method().decode("ascii"),
            self._target.decode("latin-1"),
            self._length,
            self._if_none_match.decode("latin-1"),
            self._expects_continue and version == "1.1",
            self._parser.should_keep_alive(),
            version != "1.1",
        )
        self._events.append(head)

    def on_body(self, part: bytes) -> None:
        if not self._is_broken:
            self._events.append(part)

    def on_message_complete(self) -> None:
        self.is_amid = False
        if not self._is_broken:
            self._events.append(_END)


_END = RequestEnd()


def encode_answer(answer: Response, *, is_head: bool, is_last: bool, is_http_1_0: bool) -> bytes:
    """Encode an answer, without the pieces of a streamed body.

    Args:
        answer: The answer to send.
        is_head: Whether the request was a HEAD, whose answer has no body.
        is_last: Whether the connection is closed after it.
        is_http_1_0: Whether the request was HTTP/1.0.
    """
    parts = [b"HTTP/1.1 %d %b\r\n" % (answer.status, _PHRASES[answer.status])]
    if answer.status != 204:
        parts.append(b"Content-Type: %b\r\nContent-Length: %d\r\n" % (answer.content_type, answer.length))
    if answer.headers:
        parts.append(answer.headers)
    if is_last:
        parts.append(b"Connection: close\r\n")
    elif is_http_1_0:
        parts.append(b"Connection: keep-alive\r\n")
    parts.append(b"\r\n")
    if not is_head:
        parts.append(answer.body)
    return b"".join(parts)
