"""A link definition is not signed. A server or a file of its choice learns nothing and stops no other link."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.operator_mode import Operator, creds_file
from tests.blackbox.nats.raw_server import RawServer
from tests.blackbox.waiting import eventually

only_rust = pytest.mark.parametrize("family", [RUST], ids=["rust"], indirect=True)


@only_rust
@pytest.mark.parametrize("kind", ["TOKEN", "USER", "NKEY_SEED", "CREDS_FILE"])
async def test_the_credentials_of_the_provider_reach_no_server_of_a_link(
    host: LatticeHost, tmp_path: Path, kind: str
) -> None:
    user_token, seed = Operator().user()
    path = tmp_path / "operator.creds"
    path.write_text(creds_file(user_token, seed))
    config = {
        "TOKEN": {"TOKEN": "hidden"},
        "USER": {"USER": "hidden", "PASSWORD": "hidden"},
        "NKEY_SEED": {"NKEY_SEED": seed},
        "CREDS_FILE": {"CREDS_FILE": str(path)},
    }[kind]
    server = RawServer(lambda reader, writer: server.welcome(reader, writer, auth_required=True, nonce="relayed"))
    async with server:
        await host.start_provider(config=config)
        await host.put_link(host.link(host.actor(), {"URL": server.url}))
        await eventually(lambda: server.connects, "a connection")
    credentials = {"user", "pass", "auth_token", "jwt", "nkey", "sig"}
    assert [connect.keys() & credentials for connect in server.connects] == [set()] * len(server.connects)


@only_rust
async def test_an_odd_file_that_a_link_names_stops_no_other_link(host: LatticeHost, tmp_path: Path) -> None:
    pipe, actor = tmp_path / "pipe", host.actor()
    os.mkfifo(pipe)
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    before = host.provider.resident_bytes
    for odd in (str(pipe), "/dev/zero", "/dev/stdin", "/proc/kmsg", str(tmp_path), "a\0b"):
        for name in ("CREDS_FILE", "TLS_CA_FILE", "TLS_CERT_FILE"):
            values = {name: odd} | ({"TLS_KEY_FILE": odd} if name == "TLS_CERT_FILE" else {})
            other = host.actor()
            await host.put_link(host.link(other, values | {"TOKEN": "t"}))
            assert await host.get(actor, "k") == "v"

            async def is_named(other: str = other, kind: str = name.partition("_")[0]) -> bool:
                return kind in (await host.error(other, "Get", "k"))

            await eventually(is_named, f"a reason for {name}={odd!r}")
            await host.delete_link(host.link(other, values))
    assert host.provider.resident_bytes - before < 20 * 1024 * 1024
    assert "Traceback" not in host.provider.stderr


REFUSAL = b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
FLOODS = {
    "a negative size": b"MSG a 1 -15\r\nxx\r\n",
    "a huge size": b"MSG a 1 999999999999\r\n" + bytes(1_000_000),
    "pings": b"PING\r\n" * 100_000,
    "refusals": REFUSAL * 100_000,
    "errors": b"-ERR 'Odd'\r\n" * 100_000,
    "messages": b"MSG a 77 1\r\nx\r\n" * 100_000,
    "INFO": b'INFO {"connect_urls":["127.0.0.1:%d"],"max_payload":1048576}\r\n' % 1 * 20_000,
    "INFO that is not JSON": b"INFO [[[\r\n" * 1000,
    "INFO of another kind": b"INFO [1]\r\n" * 1000,
}


@only_rust
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_a_links_server_stops_no_other_link(host: LatticeHost, flood: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.welcome(reader, writer)
        for _ in range(20):
            writer.write(flood)
            await writer.drain()
        await reader.read()

    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    before = host.provider.resident_bytes
    async with RawServer(talk) as server:
        await host.put_link(host.link(host.actor(), {"URL": server.url}))
        await eventually(lambda: server.connects, "a connection")
        for _ in range(50):
            assert await host.get(actor, "k") == "v"
            await asyncio.sleep(0.02)
    assert host.provider.resident_bytes - before < 60 * 1024 * 1024
    assert "Traceback" not in host.provider.stderr


@only_rust
@pytest.mark.parametrize(
    "info",
    [
        b"[1,2]",
        b"[" * 50_000,
        b"5",
        b'{"max_payload":"many"}',
        b'{"max_payload":-1}',
        b'{"nonce":5}',
        b'{"connect_urls":7}',
    ],
    ids=lambda info: info[:20].decode(),
)
async def test_an_odd_info_is_a_reason_that_names_it(host: LatticeHost, info: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + info + b"\r\n")
        await reader.read()

    await host.start_provider()
    other = host.actor()
    async with RawServer(talk) as server:
        await host.put_link(host.link(other, {"URL": server.url}))

        async def is_named() -> bool:
            error = await host.error(other, "Get", "k")
            return "link value URL" in error and "info" in error.lower()

        await eventually(is_named, "a reason")
    assert "Traceback" not in host.provider.stderr
