"""A connection restores itself, whatever ends it, and sends nothing late."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.secret import Secret
from provider import errors
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually

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


async def test_a_connection_does_not_receive_its_own_messages(lattice_server: NatsServer) -> None:
    settings = ConnectionSettings((lattice_server.url,))
    async with Connection(settings, "test", 5) as connection, Connection(settings, "other", 5) as other:
        received: list[bytes] = []
        await connection.listen("own", lambda subject, reply, header, payload: received.append(payload))
        await connection.flush(2)
        connection.publish(b"own", b"of its own")
        await connection.flush(2)
        other.publish(b"own", b"of another")
        await other.flush(2)
        await connection.flush(2)
        assert received == [b"of another"]


async def test_requests_fail_at_once_when_the_server_goes_and_nothing_is_sent_later(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server:
        settings = ConnectionSettings((server.url,))
        async with Connection(settings, "test", 5) as connection, Connection(settings, "other", 5) as other:
            loop = asyncio.get_running_loop()
            received: list[bytes] = []
            await other.listen("late", lambda subject, reply, header, payload: received.append(payload))
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
            assert received == [b"real"]


@pytest.mark.slow
async def test_a_silent_server_holds_one_connection_however_often_it_is_tried(tmp_path: Path) -> None:
    attempts, still_open = 0, 0

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts, still_open
        attempts += 1
        still_open += 1
        await reader.read()
        still_open -= 1
        writer.close()

    async def is_tried_three_times() -> bool:
        return attempts == 3

    with NatsServer(tmp_path / "server") as server:
        async with Connection(ConnectionSettings((server.url,)), "test", 5) as connection:
            server.kill()
            silent = await asyncio.start_server(stay_silent, "127.0.0.1", server.port)
            await eventually(is_tried_three_times, "three attempts", 30)
            await asyncio.sleep(0.5)
            assert still_open == 1
            silent.close()
            await silent.wait_closed()
            server.start()
            await answer(connection, "welcomed")
            async with Connection(ConnectionSettings((server.url,)), "caller", 5) as caller:
                await is_served(caller, "welcomed")


@pytest.mark.parametrize("values", [{"servers": "tls"}, {"is_tls": True}])
async def test_nothing_is_sent_to_a_server_without_tls_if_the_settings_require_it(values: dict[str, Any]) -> None:
    sent: list[bytes] = []

    async def offer_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
        sent.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(offer_no_tls, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"{values.pop('servers', 'nats')}://127.0.0.1:{port}"
        settings = ConnectionSettings((url,), user="ann", password=Secret("geheim"), **values)
        with pytest.raises(errors.ConnectError, match="TLS"):
            async with Connection(settings, "test", 3):
                pass
        await asyncio.sleep(0.1)
    assert sent
    assert set(sent) == {b""}


@pytest.mark.slow
async def test_a_connection_cancelled_while_it_connects_makes_no_further_attempt(tmp_path: Path) -> None:
    attempts = 0

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    async with server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connection = Connection(ConnectionSettings((url,)), "test", 10, is_patient=True)
        connecting = asyncio.ensure_future(connection.__aenter__())
        await asyncio.sleep(0.3)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        before = attempts
        await asyncio.sleep(6)  # one attempt waits for five seconds
        assert (before, attempts) == (1, 1)


async def test_a_refused_subject_fails_its_own_requests_only(tmp_path: Path) -> None:
    config = """authorization { users: [
        { user: a, password: a, permissions: { publish: { deny: ["k.ab", "k.C"] } } }, { user: b, password: b }
    ] }"""
    with NatsServer(tmp_path / "server", config) as server:
        a = ConnectionSettings((server.url,), user="a", password=Secret("a"))
        b = ConnectionSettings((server.url,), user="b", password=Secret("b"))
        async with Connection(a, "test", 5) as connection, Connection(b, "other", 5) as other:
            await other.listen("k.*", lambda *_: None)
            await other.flush(2)
            deadline = asyncio.get_running_loop().time() + 1
            subjects = [b"k.a", b"k.ab", b"k.abc", b"k.c", b"k.C"]
            waiting = [connection.request(subject, deadline=deadline) for subject in subjects]
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    passed, refused = errors.RequestTimeoutError, errors.PermissionsError
    assert [type(outcome) for outcome in outcomes] == [passed, refused, passed, passed, refused]
    assert '"k.C"' in str(outcomes[4])
