"""The transport below nats-py, on the event loop of the provider."""

from __future__ import annotations

import asyncio
from urllib.parse import urlparse

import uvloop

from provider.nats.transport import DirectTransport


def test_what_is_written_to_a_lost_connection_is_dropped_without_an_error() -> None:
    async def lose() -> bytes:
        heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set_result(await reader.read())
            writer.close()

        server = await asyncio.start_server(hear, "127.0.0.1", 0)
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
            return await asyncio.wait_for(heard, 5)

    assert uvloop.run(lose()) == b"before"
