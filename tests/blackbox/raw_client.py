"""A NATS client that says what none would say. Imports nothing of the project."""

from __future__ import annotations

import socket

_SECONDS = 5.0


def publish_raw(port: int, subject: bytes) -> None:
    """Publish to a subject of any bytes, and return once the server has taken it."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection, connection.makefile("rb") as said:
        said.readline()
        connection.sendall(b'CONNECT {"verbose":false}\r\nPUB %b 1\r\nv\r\nPING\r\n' % subject)
        answer = said.readline()
        assert answer == b"PONG\r\n", answer
