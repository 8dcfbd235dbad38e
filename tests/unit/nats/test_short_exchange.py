"""The blocking exchange, against a server that follows a script."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from provider.nats.short_exchange import UnusualServerError, exchange

INFO = {"headers": True, "max_payload": 1024, "server_id": "x"}
LIMIT_SECONDS = 5.0


@contextlib.contextmanager
def scripted(info: dict[str, object], answers: list[bytes]) -> Iterator[int]:
    """Serve one connection: INFO, then the answers once the requests are there, with `INBOX` as the client's. Yield the port."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"INFO " + json.dumps(info).encode() + b"\r\n")
            received = b""
            while b"PUB b" not in received and (data := connection.recv(4096)):
                received += data
            inbox = received.partition(b"SUB ")[2].partition(b".* ")[0]
            for answer in answers:
                connection.sendall(answer.replace(b"INBOX", inbox))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def exchanged(port: int) -> list[bytes]:
    _, replies = exchange("127.0.0.1", port, "test", [("a", b"1"), ("b", b"2")], LIMIT_SECONDS)
    return [payload for payload, _ in replies]


def test_replies_come_in_the_order_of_the_requests_however_the_server_sends_them() -> None:
    answers = [
        b"PING\r\nMSG INBOX.1 1 3\r\nt",
        b"wo\r",
        b"\nINFO {}\r\nHMSG INBOX.0 1 12 15\r\nNATS/1.0\r\n\r\none\r\n",
    ]
    with scripted(INFO, answers) as port:
        assert exchanged(port) == [b"one", b"two"]


@pytest.mark.parametrize(
    "info",
    [
        {**INFO, "auth_required": True},
        {**INFO, "tls_required": True},
        {**INFO, "headers": False},
        {**INFO, "ldm": True},
    ],
)
def test_a_server_that_demands_more_is_unusual(info: dict[str, object]) -> None:
    with scripted(info, []) as port, pytest.raises(UnusualServerError):
        exchanged(port)


@pytest.mark.parametrize(
    "answer", [b"-ERR 'Permissions Violation for Publish to \"b\"'\r\n", b"MSG INBOX.0 1 1\r\n1\r\n"]
)
def test_a_refusal_and_a_lost_connection_are_unusual(answer: bytes) -> None:
    with scripted(INFO, [answer]) as port, pytest.raises((UnusualServerError, ConnectionResetError)):
        exchanged(port)


def test_bytes_of_another_protocol_are_no_messages() -> None:
    with scripted(INFO, [b"MSG x\r\n"]) as port, pytest.raises(ValueError, match="malformed"):
        exchanged(port)
