"""A TCP proxy that can close connections, refuse them, drop their data, or delay it without closing anything."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class _Pair:
    """A forwarded connection, of which each direction may be dropped."""

    def __init__(self) -> None:
        self.is_dropping_requests = False
        self.is_dropping_replies = False


class Proxy:
    """A proxy from a loopback port to a server, as an async context manager.

    Args:
        target_port: Port of the server.
        target_address: Address of the server.
        delay_seconds: Delay of all data, in each direction.
    """

    def __init__(self, target_port: int, target_address: str = "127.0.0.1", *, delay_seconds: float = 0.0) -> None:
        self._target_port = target_port
        self._target_address = target_address
        self._delay_seconds = delay_seconds
        self._pairs: list[_Pair] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._is_dropping_requests = False
        self._is_dropping_replies = False
        self._is_refusing = False
        self._is_flowing = asyncio.Event()
        self._is_flowing.set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """The number of connections accepted so far."""
        return len(self._pairs)

    def drop(self, *, requests: bool, replies: bool) -> None:
        """Drop all further data of the current connections. Later connections are forwarded."""
        for pair in self._pairs:
            pair.is_dropping_requests = pair.is_dropping_requests or requests
            pair.is_dropping_replies = pair.is_dropping_replies or replies

    def darken(self, *, requests: bool = True, replies: bool = True) -> None:
        """Drop all data in one direction or both, of later connections too, until `lighten`."""
        self._is_dropping_requests = self._is_dropping_requests or requests
        self._is_dropping_replies = self._is_dropping_replies or replies
        self.drop(requests=requests, replies=replies)

    def lighten(self) -> None:
        """Forward again. Connections whose data was dropped are closed."""
        self._is_dropping_requests = self._is_dropping_replies = False
        self.cut()

    def cut(self) -> None:
        """Close all current connections, like a fault between the two ends."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Close all connections, and later ones at once, until `admit`."""
        self._is_refusing = True
        self.cut()

    def admit(self) -> None:
        """Forward new connections again."""
        self._is_refusing = False

    def hold(self) -> None:
        """Delay all data in both directions until `release`. Connections stay open."""
        self._is_flowing.clear()

    def release(self) -> None:
        """Forward the delayed data, and all further data."""
        self._is_flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        pair = _Pair()
        pair.is_dropping_requests = self._is_dropping_requests
        pair.is_dropping_replies = self._is_dropping_replies
        self._pairs.append(pair)
        self._writers.append(writer)
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(self._target_address, self._target_port)
            self._writers.append(server_writer)
            await asyncio.gather(
                self._forward(reader, server_writer, pair, is_request=True),
                self._forward(server_reader, writer, pair, is_request=False),
            )

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair, *, is_request: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._is_flowing.wait()
                if not (pair.is_dropping_requests if is_request else pair.is_dropping_replies):
                    if self._delay_seconds:
                        asyncio.get_running_loop().call_later(self._delay_seconds, writer.write, data)
                    else:
                        writer.write(data)
                        await writer.drain()
        writer.close()
