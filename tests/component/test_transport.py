"""The transport below nats-py on the provider's event loop, and a client that is closed while it connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlparse

import pytest
import uvloop
from nats.aio.client import Client

from provider.nats.connect_options import Loaded
from provider.nats.transport import DirectTransport
from provider.nats.wire import WireClient
from tests.blackbox.waiting import eventually


def test_a_write_to_a_lost_connection_is_dropped_without_an_error() -> None:
    async def lose() -> bytes:
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(receive, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            transport = DirectTransport(lambda data: False)
            await transport.connect(urlparse(f"nats://{host}:{port}"), 4096, 5)
            assert transport._io_writer is not None
            transport.write(b"before")
            transport._io_writer.transport.close()
            transport.write(b"while it closes")
            await transport.wait_closed()  # type: ignore[no-untyped-call]
            transport.write(b"after")
            transport.writelines([b"long ", b"after"])
            return await asyncio.wait_for(received, 5)

    assert uvloop.run(lose()) == b"before"


@asynccontextmanager
async def connected_client() -> AsyncIterator[WireClient]:
    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1024}\r\n')
        async for line in reader:
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
        writer.close()

    async def renew() -> Loaded:
        return Loaded(())

    client = WireClient(renew, lambda: None, lambda reason: None, lambda: None)
    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        await client.connect(f"nats://{host}:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0)
        yield client


@pytest.mark.parametrize("outcome", ["fails", "succeeds"])
async def test_a_client_that_is_closed_as_an_attempt_ends_makes_no_further_attempt(
    outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing cancels the attempt, but `asyncio.wait_for` may return its result instead, and nats-py would go on."""
    attempts = 0

    async def lose_cancellation(client: Client) -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            client._status = Client.CONNECTING
        if outcome == "fails":
            raise ConnectionResetError

    async with connected_client() as client:
        monkeypatch.setattr(Client, "_process_connect_init", lose_cancellation)
        await client.force_reconnect()
        await eventually(lambda: attempts == 1, "an attempt")
        await client.close()
        reconnecting = client._reconnection_task
        assert reconnecting is not None
        await eventually(reconnecting.done, "the end of the attempts")
        assert client.is_closed
        assert attempts == 1
