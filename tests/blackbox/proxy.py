"""A TCP proxy that can close connections, refuse them, swallow what they carry, or hold it back without closing anything."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class _Pair:
    """One forwarded connection. What comes while a direction is swallowed is read and dropped."""

    def __init__(self) -> None:
        self.is_swallowing_requests = False
        self.is_swallowing_replies = False


class Proxy:
    """Forward a loopback port to a server. An async context manager.

    Args:
        target_port: Of the server.
        target_address: Of the server.
        delay_seconds: How much later everything is carried, in each direction.
    """

    def __init__(self, target_port: int, target_address: str = "127.0.0.1", *, delay_seconds: float = 0.0) -> None:
        self._target_port = target_port
        self._target_address = target_address
        self._delay_seconds = delay_seconds
        self._pairs: list[_Pair] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._is_swallowing_requests = False
        self._is_swallowing_replies = False
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
        """How many have been accepted so far."""
        return len(self._pairs)

    def swallow(self, *, requests: bool, replies: bool) -> None:
        """Drop what the connections open now carry, for good; connections made later are forwarded."""
        for pair in self._pairs:
            pair.is_swallowing_requests = pair.is_swallowing_requests or requests
            pair.is_swallowing_replies = pair.is_swallowing_replies or replies

    def darken(self, *, requests: bool = True, replies: bool = True) -> None:
        """Drop everything in one direction or both, of later connections too, until `lighten`."""
        self._is_swallowing_requests = self._is_swallowing_requests or requests
        self._is_swallowing_replies = self._is_swallowing_replies or replies
        self.swallow(requests=requests, replies=replies)

    def lighten(self) -> None:
        """Forward again; connections that were in the dark are closed."""
        self._is_swallowing_requests = self._is_swallowing_replies = False
        self.cut()

    def cut(self) -> None:
        """Close every connection open now, as a fault between the two ends does."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Close every connection, and later ones as soon as they are made, until `admit`."""
        self._is_refusing = True
        self.cut()

    def admit(self) -> None:
        """Forward connections made from now on."""
        self._is_refusing = False

    def hold(self) -> None:
        """Hold back what is carried in both directions, connections staying open, until `release`."""
        self._is_flowing.clear()

    def release(self) -> None:
        """Forward what was held back, and what comes."""
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
        pair.is_swallowing_requests = self._is_swallowing_requests
        pair.is_swallowing_replies = self._is_swallowing_replies
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
                if not (pair.is_swallowing_requests if is_request else pair.is_swallowing_replies):
                    if self._delay_seconds:
                        asyncio.get_running_loop().call_later(self._delay_seconds, writer.write, data)
                    else:
                        writer.write(data)
                        await writer.drain()
        writer.close()
