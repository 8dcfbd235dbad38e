"""A TCP relay in front of a nats-server that can be cut, to show the loss of a NATS connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit

_READ_BYTES = 65_536
"""The size of asyncio's own stream buffer."""

_DEFAULT_PORT = 4222
"""The port of nats-server."""


class Relay:
    """Forwards a loopback port to a server. An async context manager.

    Args:
        server_url: URL of the server. Credentials in it are kept in `url`.
    """

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORT)
        self._credentials = parts.netloc.rpartition("@")[0]
        self._server: asyncio.Server | None = None
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None, "not started"
        port = self._server.sockets[0].getsockname()[1]
        return f"nats://{self._credentials}{'@' if self._credentials else ''}127.0.0.1:{port}"

    def cut(self) -> None:
        """Close all connections and accept no new ones until `heal`."""
        self._is_cut = True
        for task in self._tasks:
            task.cancel()

    def heal(self) -> None:
        self._is_cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy bytes in both directions until one side closes or the relay is cut."""
        copies: list[asyncio.Future[None]] = []
        writers = [writer]
        try:
            with contextlib.suppress(OSError):
                to_reader, to_writer = await asyncio.open_connection(*self._target)
                writers.append(to_writer)
                copies = [asyncio.ensure_future(_copy(*pair)) for pair in ((reader, to_writer), (to_reader, writer))]
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for copy in copies:
                copy.cancel()
            for open_writer in writers:
                open_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
