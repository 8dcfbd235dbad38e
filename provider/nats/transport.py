"""nats-py's TCP transport, changed to pass bytes on in the turn of the event loop in which they arrive.

nats-py reads through a stream: bytes are copied into a buffer, a task is woken, and it sees them only in the next turn.
This is kept while a connection is set up, line by line. Once nats-py's read loop has begun, bytes go straight to a
function, and the loop is woken only for the rare control lines.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

_WAKE_UP = b"wake up"
"""The bytes that the read loop reads; the parser has had the real ones already."""


class DirectTransport(TcpTransport):
    """A transport that may be connected repeatedly, as nats-py does; one connection is open at a time.

    nats-py forgets a connection without closing it when the server sends no INFO: a frozen server accepts connections
    and is silent. So connecting closes the connection before.

    Args:
        on_data: Function called with bytes as they arrive; it returns whether the read loop has something to do.
    """

    def __init__(self, on_data: Callable[[bytes], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nats-py has no types for it
        self._on_data = on_data
        self._protocol: _Protocol | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        assert uri.hostname is not None, "nats-py adds a host name and a port to every URL"
        assert uri.port is not None, "the same"
        self.close()  # type: ignore[no-untyped-call]  # nats-py has no types for it
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=buffer_size)
        self._protocol = protocol = _Protocol(reader, self._on_data)
        async with asyncio.timeout(connect_timeout):
            transport, _ = await loop.create_connection(lambda: protocol, uri.hostname, uri.port)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._bare_io_reader, self._bare_io_writer = reader, writer
        self._io_reader, self._io_writer = reader, writer

    async def is_greeted(self, seconds: float) -> bool:
        """Wait for the first bytes of the server, or the end of the connection; return false if neither comes in time."""
        assert self._protocol is not None, "connect comes first"
        try:
            async with asyncio.timeout(seconds):
                await self._protocol.greeted.wait()
        except TimeoutError:
            return False
        return True

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        assert self._io_writer is not None, "connect comes first"
        assert self._protocol is not None, "the same"
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=buffer_size)
        plain, protocol = self._protocol, _Protocol(reader, self._on_data, is_tls=True)
        name = uri if isinstance(uri, str) else uri.hostname
        try:
            async with asyncio.timeout(connect_timeout):
                transport = await loop.start_tls(self._io_writer.transport, protocol, ssl_context, server_hostname=name)
        except BaseException:
            # The event loop does not tell the replaced protocol, for whose end nats-py would wait for ever.
            self._io_writer.transport.abort()
            plain.connection_lost(None)
            raise
        assert transport is not None
        self._protocol = protocol
        self._io_reader, self._io_writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def read(self, buffer_size: int) -> bytes:
        """Wait until the read loop has something to do; return some bytes, or b"" at the end of the connection."""
        assert self._protocol is not None, "connect comes first"
        return await self._protocol.read()

    def write(self, payload: bytes) -> None:
        """Write, or do nothing when the connection is lost, as asyncio does; uvloop would raise a RuntimeError.

        The read loop is about to notice the loss.
        """
        assert self._io_writer is not None, "connect comes first"
        if not self._io_writer.transport.is_closing():
            self._io_writer.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self.write(b"".join(payload))

    def at_eof(self) -> bool:
        return self._protocol is None or self._protocol.is_at_end

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes that were written and that the socket has not taken yet."""
        return self._io_writer.transport.get_write_buffer_size() if self._io_writer is not None else 0


class _Protocol(asyncio.StreamReaderProtocol):
    """One connection: read through a stream until the read loop begins, then directly."""

    def __init__(self, reader: asyncio.StreamReader, on_data: Callable[[bytes], bool], *, is_tls: bool = False) -> None:
        super().__init__(reader)
        self._reader = reader
        self._is_tls = is_tls
        self._on_data = on_data
        self._is_direct = False
        self._has_work = False
        self._is_over = False
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self.greeted = asyncio.Event()
        """Set once bytes have come, or the connection has ended."""

    @property
    def is_at_end(self) -> bool:
        return self._is_over and not self._has_work

    async def read(self) -> bytes:
        if not self._is_direct:
            self._is_direct = True
            self._reader.feed_eof()
            # All that the stream has: its end was fed, so this does not wait.
            self.data_received(await self._reader.read())
        if not self._has_work and not self._is_over:
            self._wake.clear()
            await self._wake.wait()
        if self._has_work:
            self._has_work = False
            return _WAKE_UP
        if self._error is not None:
            raise self._error
        return b""

    def data_received(self, data: bytes) -> None:
        if not self._is_direct:
            self.greeted.set()
            super().data_received(data)
        elif self._on_data(data):
            self._has_work = True
            self._wake.set()

    def eof_received(self) -> bool | None:
        """Note the end of the connection, and do not keep a TLS connection half open: the event loop would warn."""
        self._end(None)
        return super().eof_received() and not self._is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        super().connection_lost(exc)

    def _end(self, error: Exception | None) -> None:
        self._is_over = True
        self.greeted.set()
        self._error = self._error or error
        self._wake.set()
