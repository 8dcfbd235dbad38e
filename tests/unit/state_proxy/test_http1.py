"""The HTTP parser: requests in any pieces, malformed input, limits, and the encoding of answers."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.state_proxy.http1 import (
    Event,
    Malformed,
    RequestEnd,
    RequestHead,
    RequestParser,
    Response,
    encode_answer,
)

REQUESTS = (
    b"GET /keys/a%20b?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    b"PUT /keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nIf-None-Match: *\r\nExpect: 100-Continue\r\n\r\nhello"
    b"PUT /keys/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nIf-None-Match: *\r\n\r\n"
    b"DELETE /keys/c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    b"PUT /keys/e HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    b"PUT /keys/f HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\nA: b\r\n\r\n"
    b"PUT /keys/g HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
    b"GET /keys/h HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    b"HEAD /keys/d HTTP/1.0\r\n\r\n"
)
EXPECTED = [
    (RequestHead("GET", "/keys/a%20b?x=1", 0, "", False, True, False), b""),
    (RequestHead("PUT", "/keys/a", 5, "*", True, True, False), b"hello"),
    (RequestHead("PUT", "/keys/b", None, "", False, True, False), b"abcde"),
    (RequestHead("DELETE", "/keys/c", 0, "", False, True, True), b""),
    (RequestHead("PUT", "/keys/e", 5, "", False, True, False), b"hello"),
    (RequestHead("PUT", "/keys/f", None, "", False, True, False), b"he"),
    (RequestHead("PUT", "/keys/g", 0, "", False, True, False), b""),
    (RequestHead("GET", "/keys/h", 0, "", False, True, False), b""),
    (RequestHead("HEAD", "/keys/d", 0, "", False, False, True), b""),
]


def requests_of(events: list[Event]) -> list[tuple[RequestHead, bytes]]:
    """Join the pieces of each body."""
    found: list[tuple[RequestHead, bytes]] = []
    body = b""
    for event in events:
        match event:
            case RequestHead():
                found.append((event, b""))
                body = b""
            case bytes():
                body += event
            case RequestEnd():
                found[-1] = (found[-1][0], body)
            case Malformed():
                raise AssertionError(event.reason)
    return found


@given(st.lists(st.integers(0, len(REQUESTS)), max_size=12))
def test_requests_are_the_same_in_whatever_pieces_they_arrive(cuts: list[int]) -> None:
    parser = RequestParser()
    ends = [*sorted(cuts), len(REQUESTS)]
    events = [event for start, end in zip([0, *ends], ends, strict=False) for event in parser.feed(REQUESTS[start:end])]
    assert requests_of(events) == EXPECTED


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"nonsense\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"FETCH /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/7.3\r\n\r\n",
        b"GET /a HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"GET /a HTTP/1.1\r\n folded: x\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: 3x\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nContent-Length: -1\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"PUT /a HTTP/1.1\nContent-Length: 0\n\n",
        b"PUT /a HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /a HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_or_are_ambiguous_end_the_connection(sent: bytes) -> None:
    parser = RequestParser()
    events = parser.feed(sent)
    assert isinstance(events[-1], Malformed)
    assert events[-1].reason
    assert not any(isinstance(event, RequestEnd) for event in events), "an ambiguous request is not carried out"
    assert parser.feed(REQUESTS) == []


def test_a_request_before_garbage_still_counts() -> None:
    events = RequestParser().feed(b"GET /a HTTP/1.1\r\n\r\n\x00\x01garbage")
    assert [type(event) for event in events] == [RequestHead, RequestEnd, Malformed]


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /a HTTP/1.1\r\nX: " + b"x" * 1000,
        b"GET /" + b"a" * 1000,
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 1000,
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"x" * 1000,
    ],
    ids=["header", "target", "trailer", "chunk extension"],
)
def test_an_endless_head_is_refused_before_it_takes_much_memory(endless: bytes) -> None:
    parser = RequestParser()
    events = parser.feed(endless)
    sent = len(endless)
    while not any(isinstance(event, Malformed) for event in events):
        events = parser.feed(b"x" * 1000)
        sent += 1000
        assert sent < 100_000


def test_a_connect_request_is_the_last_one_of_its_connection() -> None:
    parser = RequestParser()
    events = parser.feed(b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
    assert events == [RequestHead("CONNECT", "a:1", 5, "", False, False, False), RequestEnd()]
    assert parser.feed(REQUESTS) == []


@pytest.mark.parametrize("more", [b"Transfer-Encoding: gzip\r\n\r\nabc", b"Content-Length: 3x\r\n\r\nabc"])
def test_a_request_for_an_upgrade_must_be_valid_too(more: bytes) -> None:
    parser = RequestParser()
    events = parser.feed(b"PUT /a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + more)
    assert [type(event) for event in events] == [Malformed]
    assert parser.feed(REQUESTS) == []


def test_the_parser_knows_whether_a_request_is_under_way() -> None:
    parser = RequestParser()
    found = []
    for part in (
        b"",
        b"\r\n",
        b"G",
        b"ET /a HTTP/1.1\r\n\r",
        b"\nP",
        b"UT /b HTTP/1.1\r\nContent-Length: 2\r\n\r\na",
        b"b",
    ):
        parser.feed(part)
        found.append(parser.is_amid)
    assert found == [False, False, True, True, True, True, False]


class _Socket(io.BytesIO):
    def makefile(self, mode: str) -> io.BytesIO:
        return self


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 405, 408, 409, 413, 500, 501, 503, 504])
@pytest.mark.parametrize("is_head", [True, False])
def test_a_standard_client_reads_every_answer(status: int, is_head: bool) -> None:
    body = b"" if status == 204 else b'{"a":1}'
    sent = encode_answer(Response(status, body), is_head=is_head, is_last=status == 400, is_http_1_0=False)
    received = http.client.HTTPResponse(_Socket(sent), method="HEAD" if is_head else "GET")  # type: ignore[arg-type]
    received.begin()
    assert received.status == status
    assert received.read() == (b"" if is_head else body)
    assert received.will_close == (status == 400)
    assert received.getheader("Content-Length") == (None if status == 204 else "7")


def test_a_client_of_http_1_0_is_told_that_the_connection_is_kept() -> None:
    assert b"Connection: keep-alive\r\n" in encode_answer(Response(204), is_head=False, is_last=False, is_http_1_0=True)
