"""One exchange with a NATS server over a blocking socket: connect, send all requests at once, wait for their replies.

For a command that asks once and ends. asyncio and nats-py take ten times as long to load as such an exchange takes. It does
only what every server does that asks for neither TLS nor credentials; `connection` does everything else.

Source: NATS client protocol (docs.nats.io, reference).
"""

from __future__ import annotations

import json
import os
import time
from _socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY, socket  # the module around it takes 2 ms to load
from collections.abc import Sequence
from contextlib import closing

from provider.nats.frames import CRLF, FrameParser, Message, publish_frame

Request = tuple[str, bytes]
"""Subject and body."""

Reply = tuple[bytes, float]
"""Payload, and when it arrived by `time.monotonic`."""

_BUFFER_BYTES = 65_536
"""Read at once: most answers are whole then, and a value of a megabyte takes a few reads."""

_DEMANDS = ("auth_required", "tls_required", "tls_verify", "ldm")
"""Fields of INFO by which a server asks for more than this exchange gives, or announces that it ends."""


class UnusualServerError(Exception):
    """The server does not take part in such an exchange: it demands, refuses or sends something else."""


def exchange(
    host: str, port: int, name: str, requests: Sequence[Request], limit_seconds: float
) -> tuple[float, list[Reply]]:
    """Connect, send requests, and return when they were sent, by `time.monotonic`, with the reply to each, in their order.

    Args:
        host: Address of the server. A look-up of a name would not know the limit.
        port: Port of the server.
        name: Name of the connection in the server's monitoring.
        requests: The requests. They are sent together, so that all of them take one round trip.
        limit_seconds: Limit for connecting, and for each wait after it.

    Raises:
        UnusualServerError: The server asks for credentials or TLS, refuses something, or ends the connection.
        OSError: The server cannot be reached, or does not answer in time.
        ValueError: The bytes are not of the NATS protocol.
    """
    with closing(socket(AF_INET6 if ":" in host else AF_INET)) as connection:
        connection.settimeout(limit_seconds)
        connection.connect((host, port))
        connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        frames = FrameParser()
        waiting = _check_info(connection, frames)
        inbox = b"_INBOX." + os.urandom(11).hex().encode()  # 88 random bits, as `requests.new_inbox`
        sent_at = time.monotonic()
        connection.sendall(_opening(name, inbox, requests))
        replies: dict[bytes, Reply] = {}
        while len(replies) < len(requests):
            for frame in waiting:
                if isinstance(frame, tuple):
                    _, subject, _, _, payload = frame
                    replies[subject] = payload, time.monotonic()
                else:
                    _answer(connection, frame)
            waiting = frames.feed(_received(connection)) if len(replies) < len(requests) else []
    return sent_at, [replies[_reply_subject(inbox, number)] for number in range(len(requests))]


def _check_info(connection: socket, frames: FrameParser) -> list[Message | bytes]:
    """Read the INFO with which a server begins, and check it; return what came behind it."""
    while not (found := frames.feed(_received(connection))):
        pass
    first, *rest = found
    if isinstance(first, tuple) or not first.startswith(b"INFO "):
        raise UnusualServerError
    info = json.loads(first[5:])
    if any(info.get(demand) for demand in _DEMANDS) or not info.get("headers"):
        raise UnusualServerError
    return rest


def _opening(name: str, inbox: bytes, requests: Sequence[Request]) -> bytes:
    """Return everything that this client sends: who it is, where it listens, and its requests."""
    client = {"name": name, "lang": "python3", "version": "1", "protocol": 1}
    options = client | {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "echo": False}
    frames = [b"CONNECT ", json.dumps(options).encode(), CRLF, b"SUB %b.* 1\r\n" % inbox]
    for number, (subject, body) in enumerate(requests):
        frames.append(publish_frame(subject.encode(), _reply_subject(inbox, number), b"", body))
    return b"".join(frames)


def _reply_subject(inbox: bytes, number: int) -> bytes:
    return b"%b.%d" % (inbox, number)


def _answer(connection: socket, line: bytes) -> None:
    """Answer a control line of the server; a new INFO and +OK need no answer."""
    if line == b"PING":
        connection.sendall(b"PONG\r\n")
    elif not line.startswith((b"INFO ", b"+OK", b"PONG")):
        raise UnusualServerError


def _received(connection: socket) -> bytes:
    data = connection.recv(_BUFFER_BYTES)
    if not data:
        raise UnusualServerError
    return data
