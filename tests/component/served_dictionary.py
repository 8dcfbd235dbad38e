"""The connector's server over a dictionary in place of a bucket, for the tests of its clients. The socket is real."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from provider import errors
from provider.state_proxy import file_operations as ops
from provider.state_proxy.conversation import BodyLimits, ClientLimits
from provider.state_proxy.file_operations import FileOperation
from provider.state_proxy.http1 import Response, StreamedBody
from provider.state_proxy.refusals import CONFLICT, refusal
from provider.state_proxy.unix_server import UnixServer

MAX_BODY_BYTES = 200_000
WHOLE_BODY_BYTES = 150_000
PIECE = b"x" * 500_000
STREAM_BYTES = 20 * len(PIECE)
LIMITS = ClientLimits(
    connections=4,
    waiting_connections=2,
    large_bodies=1,
    large_streams=1,
    turn_seconds=0.1,
    idle_seconds=0.2,
    head_seconds=0.1,
    answer_seconds=0.2,
    ending_seconds=0.5,
    tick_seconds=0.01,
)


class GatedStore:
    """A dictionary that answers while its gate is open."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.pieces: dict[str, int] = {}
        """Files that are read while they are sent, and the number of pieces that can be read."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.operations: list[FileOperation] = []
        self.failed: list[FileOperation] = []

    async def body_limits(self, operation: FileOperation) -> BodyLimits:
        return BodyLimits(WHOLE_BODY_BYTES, MAX_BODY_BYTES, "a limit of the test")

    def has_failed(self, operation: FileOperation) -> None:
        self.failed.append(operation)

    async def perform(self, operation: FileOperation, body: bytes | AsyncIterator[bytes]) -> Response:
        self.operations.append(operation)
        self.begun.set()
        await self.gate.wait()
        match operation:
            case ops.WriteFile("refused"):
                return refusal(CONFLICT, "there is another")
            case ops.WriteFile(key):
                self.values[key] = body if isinstance(body, bytes) else b"".join([part async for part in body])
                return Response(204)
            case ops.ReadFile(key) if key in self.pieces:
                return Response(200, stream=StreamedBody(STREAM_BYTES, self._stream(self.pieces[key])))
            case ops.ReadFile(key):
                return Response(200, self.values[key], b"application/octet-stream")
        return Response(200, b"{}")

    async def _stream(self, count: int) -> AsyncGenerator[bytes, None]:
        for _ in range(count):
            yield PIECE
        if count * len(PIECE) < STREAM_BYTES:
            raise errors.StoreUnreachableError("a page is missing")


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Serve = Callable[[ClientLimits], AbstractAsyncContextManager[tuple[UnixServer, Open]]]


@pytest.fixture
def serve(store: GatedStore, tmp_path: Path) -> Serve:
    @contextlib.asynccontextmanager
    async def run(limits: ClientLimits) -> AsyncIterator[tuple[UnixServer, Open]]:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            writers = []

            async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await asyncio.open_unix_connection(path)
                writers.append(writer)
                return reader, writer

            async with UnixServer(listener, store, limits) as server:
                yield server, connect
            for writer in writers:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    return run


@pytest.fixture
async def connect(serve: Serve) -> AsyncIterator[Open]:
    async with serve(LIMITS) as (_, connect):
        yield connect


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return all bytes until the server closes the connection."""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
        return b""


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next answer."""
    async with asyncio.timeout(5):
        return await reader.readuntil(b"\r\n\r\n")


def put(key: str, length: int, more: str = "") -> bytes:
    return f"PUT /keys/{key} HTTP/1.1\r\nContent-Length: {length}\r\n{more}\r\n".encode()


STREAM = b"PUT /keys/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
