"""The connection of the development lattice to its server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from provider.commands import connect, connection_file
from provider.commands.dev_lattice.lattice_connection import connected
from provider.commands.errors import UnreachableError
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually


async def test_a_refused_connection_and_a_silent_server_have_different_errors_in_time(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"connection refused$"):
        async with connected(f"nats://127.0.0.1:{free_port()}"):
            pass
    with NatsServer(tmp_path / "server") as server:
        server.freeze()
        with pytest.raises(UnreachableError, match=r"no answer within 0\.5 s$"):
            async with connected(server.url, 0.5):
                pass
        server.thaw()
    assert time.monotonic() - began < 3


async def test_a_person_who_named_no_server_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, other = (f"nats://127.0.0.1:{free_port()}" for _ in range(2))
    monkeypatch.setattr(connection_file, "DEFAULT_URL", usual)
    for url, end in ((usual, "`keyvalue-nats dev` starts one"), (other, "connection refused")):
        with pytest.raises(UnreachableError, match=f"{end}$"):
            async with connect.connected(connect.ConnectionOptions(url), 2.0):
                pass


async def test_a_connection_is_reestablished_after_any_number_of_attempts(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server:
        async with connected(server.url) as connection:
            connection.options["reconnect_time_wait"] = 0.01
            server.kill()
            await eventually(lambda: connection._server_pool[0].reconnects > 10, "ten attempts")
            server.start()
            await eventually(lambda: connection.is_connected, "the connection")
