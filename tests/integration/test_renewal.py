"""Renewed credentials and certificates are found: files are read again at every attempt to connect."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nkeys
import pytest

from contracts.secret import Secret
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.link_checks import served
from tests.blackbox.nats.certificates import Authority
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.operator_mode import Operator, SigningKey, creds_file
from tests.blackbox.waiting import eventually
from tests.conformance.actor import fresh
from tests.integration.conftest import MakeActor, MakeServer


def replace(path: Path, text: str) -> None:
    """Replace a file at once, as agents that renew credentials do."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def restart(server: NatsServer, config: str | None = None) -> None:
    server.stop()
    server.config = server.config if config is None else config
    server.start()


@pytest.mark.parametrize("change", ["user", "account", "operator", "line ends"])
async def test_a_link_uses_the_credentials_that_are_in_the_file_when_it_connects(
    host: LatticeHost, make_actor: MakeActor, make_server: MakeServer, tmp_path: Path, change: str
) -> None:
    before, after = Operator(), Operator()
    path, user = tmp_path / "user.creds", before.user()
    other_account = before.account()
    path.write_text(creds_file(*user))
    server = make_server(before.server_config())
    server.start()
    values = {"URL": server.url, "CREDS_FILE": str(path), "BUCKET": fresh()}
    actor = await make_actor(**values)
    await served(actor)
    await actor.set("k", "kept")
    match change:
        case "user":
            replace(path, creds_file(*before.user()))
            restart(server)
        case "account":
            replace(path, creds_file(*before.user(other_account)))
            restart(server)
        case "operator":
            replace(path, creds_file(*after.user()))
            restart(server, after.server_config())
        case _:
            replace(path, creds_file(*user).replace("\n", "\r\n"))
            restart(server)
    await served(actor)
    if change in ("user", "line ends"):
        assert await actor.get("k") == "kept"

    async def is_healthy() -> bool:
        return actor.public_key not in (await host.health()).message

    await eventually(is_healthy, "good health", 10)
    later = await make_actor(**values)
    await served(later)


async def test_a_damaged_credentials_file_heals_when_it_is_whole_again(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path
) -> None:
    operator = Operator()
    path, (user_jwt, seed) = tmp_path / "user.creds", operator.user()
    whole = creds_file(user_jwt, seed)
    path.write_text(whole)
    server = make_server(operator.server_config())
    server.start()
    actor = await make_actor(URL=server.url, CREDS_FILE=str(path))
    await served(actor)
    for damaged in ("", whole[: len(whole) // 2], whole.replace(seed, seed[:-10])):
        replace(path, damaged)
        restart(server)
        assert seed not in await actor.error("Get", "k")
        replace(path, whole)
        await served(actor)


async def test_a_link_uses_the_certificates_that_are_in_the_files_when_it_connects(
    make_actor: MakeActor, make_server: MakeServer, tmp_path: Path
) -> None:
    def issue(name: str) -> str:
        authority = Authority(tmp_path, name)
        certificate, key = authority.issue(f"{name}-server")
        for source, target in zip((authority.file, *authority.issue(f"{name}-client")), files, strict=True):
            replace(target, source.read_text())
        return f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.file}", verify: true }}'

    files = [tmp_path / name for name in ("ca.pem", "client.pem", "client-key.pem")]
    server = make_server(issue("old"))
    server.start()
    names = dict(zip(("TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE"), map(str, files), strict=True))
    actor = await make_actor(URL=server.url, **names)
    await served(actor)
    restart(server, issue("new"))
    await served(actor)


async def test_a_connection_uses_the_seed_that_is_in_its_file_when_it_connects(
    make_server: MakeServer, tmp_path: Path
) -> None:
    def config(key: SigningKey) -> str:
        return f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}"

    old, new = SigningKey(nkeys.PREFIX_BYTE_USER), SigningKey(nkeys.PREFIX_BYTE_USER)
    path = tmp_path / "user.nk"
    path.write_text(f"# comment\n{old.seed}\n")
    server = make_server(config(old))
    server.start()
    async with Connection(ConnectionSettings((server.url,), seed_file=str(path)), "test", 5) as connection:
        reconnected = asyncio.Event()
        connection.on_reconnect(reconnected.set)
        replace(path, f"{new.seed}\n")
        restart(server, config(new))
        await asyncio.wait_for(reconnected.wait(), 10)
    async with Connection(ConnectionSettings((server.url,), client_seed=Secret(new.seed)), "test", 5):
        pass
