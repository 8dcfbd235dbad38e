"""A TCP relay before a nats-server, which can be cut: for showing what happens when somebody loses NATS."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit

_READ_BYTES = 65_536
_DEFAULT_PORT = 4222


class Relay:
    """Forwards a port on loopback to a server. An async context manager.

    Args:
        server_url: `nats://` with a host; credentials in it stay in `url`.
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
        """Close what is open and accept nothing until `heal`."""
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
        """Carry bytes both ways until either side has ended, or the relay is cut."""
        ways: list[asyncio.Future[None]] = []
        writers = [writer]
        try:
            with contextlib.suppress(OSError):
                to_reader, to_writer = await asyncio.open_connection(*self._target)
                writers.append(to_writer)
                ways = [asyncio.ensure_future(_copy(*way)) for way in ((reader, to_writer), (to_reader, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for open_writer in writers:
                open_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()
