"""A connection comes back, whatever ends it, and sends nothing late."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from provider import errors
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats_server import NatsServer

DEADLINE_SECONDS = 10.0


async def is_served(connection: Connection, subject: str) -> None:
    """Wait until a request over the connection is answered by its own listener."""
    give_up = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            deadline = asyncio.get_running_loop().time() + 0.5
            assert (await connection.request(subject.encode(), b"?", deadline=deadline))[1] == b"!"
            return
        except errors.NatsError:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)


async def answer(connection: Connection, subject: str) -> None:
    def on_request(subject: bytes, reply: bytes, header: bytes, payload: bytes) -> None:
        del subject, header, payload
        connection.publish(reply, b"!")

    await connection.listen(subject, on_request)


async def test_a_client_that_has_closed_for_good_is_replaced_with_its_subscriptions(lattice_server: NatsServer) -> None:
    settings = ConnectionSettings((lattice_server.url,))
    async with Connection(settings, "test", 5) as connection, Connection(settings, "caller", 5) as caller:
        await answer(connection, "rebuilt")
        await is_served(caller, "rebuilt")
        await connection._client.close()
        assert not connection.is_connected
        await is_served(caller, "rebuilt")


async def test_an_error_of_the_server_is_followed_by_a_reconnect(lattice_server: NatsServer) -> None:
    settings = ConnectionSettings((lattice_server.url,))
    async with Connection(settings, "test", 5) as connection, Connection(settings, "caller", 5) as caller:
        await answer(connection, "after-error")
        connection._client.write(b"PUB " + b"x" * 5000 + b" 0\r\n\r\n")  # over the server's control line
        await is_served(caller, "after-error")


async def test_a_connection_does_not_hear_itself(lattice_server: NatsServer) -> None:
    settings = ConnectionSettings((lattice_server.url,))
    async with Connection(settings, "test", 5) as connection, Connection(settings, "other", 5) as other:
        heard: list[bytes] = []
        await connection.listen("own", lambda subject, reply, header, payload: heard.append(payload))
        await connection.flush(2)
        connection.publish(b"own", b"of its own")
        await connection.flush(2)
        other.publish(b"own", b"of another")
        await other.flush(2)
        await connection.flush(2)
        assert heard == [b"of another"]


async def test_requests_fail_at_once_when_the_server_goes_and_nothing_is_sent_later(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server:
        settings = ConnectionSettings((server.url,))
        async with Connection(settings, "test", 5) as connection, Connection(settings, "other", 5) as other:
            loop = asyncio.get_running_loop()
            heard: list[bytes] = []
            await other.listen("late", lambda subject, reply, header, payload: heard.append(payload))
            await other.listen("silent", lambda *_: None)
            await other.flush(2)
            pending = connection.request(b"silent", b"", deadline=loop.time() + 30)
            await connection.flush(2)
            server.kill()
            began = time.monotonic()
            with pytest.raises(errors.ConnectionLostError):
                await pending
            assert time.monotonic() - began < 5
            with pytest.raises(errors.NotConnectedError):
                connection.publish(b"late", b"ghost")
            server.restart()
            give_up = time.monotonic() + DEADLINE_SECONDS
            while not (connection.is_connected and other.is_connected):
                assert time.monotonic() < give_up
                await asyncio.sleep(0.02)
            await other.flush(2)
            connection.publish(b"late", b"real")
            await connection.flush(2)
            await other.flush(2)
            assert heard == [b"real"]
