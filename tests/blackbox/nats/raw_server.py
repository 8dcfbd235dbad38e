"""A server that speaks as much of the NATS protocol as a test wants, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

INFO = {
    "server_id": "raw",
    "server_name": "raw",
    "version": "2.11.0",
    "proto": 1,
    "headers": True,
    "max_payload": 1048576,
}

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""A function that talks to one client; the connection is closed after it."""


def info_line(**changed: Any) -> bytes:
    return b"INFO " + json.dumps(INFO | changed).encode() + b"\r\n"


class RawServer:
    """A server on a port of its own, as an async context manager.

    Args:
        talk: Function that talks to each client.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.connects: list[dict[str, Any]] = []
        """The options that clients have connected with, added by `welcome`."""
        self.clients = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, **info: Any) -> None:
        """Send INFO, note the client's options, and answer its first ping."""
        writer.write(info_line(**info))
        while line := await reader.readline():
            if line.startswith(b"CONNECT "):
                self.connects.append(json.loads(line[8:]))
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
                await writer.drain()
                return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._talk(reader, writer)
        writer.close()
