"""A NATS client for messages that no library would send. Imports nothing of the project."""

from __future__ import annotations

import socket

_SECONDS = 5.0


def publish_raw(port: int, subject: bytes) -> None:
    """Publish to a subject of any bytes, and wait until the server has processed it."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection, connection.makefile("rb") as received:
        received.readline()
        connection.sendall(b'CONNECT {"verbose":false}\r\nPUB %b 1\r\nv\r\nPING\r\n' % subject)
        answer = received.readline()
        assert answer == b"PONG\r\n", answer
