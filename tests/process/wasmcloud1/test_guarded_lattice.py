"""A lattice whose users have tokens, and whose server has a certificate of an authority that only the host knows."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import RawCredentials

from tests.blackbox.nats.certificates import Authority
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.operator_mode import Operator
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host

MEMORY = {"STORAGE": "memory"}
IMPATIENT = {"connect_timeout_seconds": "1"}


def credentials(token: str, seed: str) -> RawCredentials:
    return RawCredentials(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def otel(*authorities: Path) -> dict[str, Any]:
    return {"otel_config": {"additional_ca_paths": [str(path) for path in authorities]}}


async def test_users_by_token_and_the_authorities_of_the_host(tmp_path: Path) -> None:
    authority, operator = Authority(tmp_path, "ours"), Operator()
    certificate, key = authority.issue("server")
    config = f'{operator.server_config()}\ntls {{ cert_file: "{certificate}", key_file: "{key}" }}'
    (host_token, host_seed), (token, seed) = operator.user(), operator.user()
    user: dict[str, Any] = {"lattice_rpc_user_jwt": token, "lattice_rpc_user_seed": seed}
    tls = ssl.create_default_context(cafile=str(authority.file))
    client_options: dict[str, Any] = {"tls": tls, "user_credentials": credentials(host_token, host_seed)}
    with NatsServer(tmp_path / "server", config) as server:
        async with Wasmcloud1Host(server.url, tmp_path, client_options=client_options) as host:
            # A file that is of no use does not stop the provider.
            authorities = otel(tmp_path / "absent.pem", key, authority.file)
            provider = await host.start_provider([host.link(config=MEMORY)], **user, **authorities)
            component = await host.component()
            await component.call("set", "", "k", b"v")
            assert await component.call("get", "", "k") == b"v"
            assert (await host.health())["healthy"]
            assert token not in provider.stderr
            assert seed not in provider.stderr
        async with Wasmcloud1Host(server.url, tmp_path, client_options=client_options) as host:
            with pytest.raises(AssertionError, match="TLS certificate verification failed"):
                await host.start_provider([], IMPATIENT, **user, **otel(key))
            host.provider.end()
            other_seed = {"lattice_rpc_user_seed": host_seed}
            with pytest.raises(AssertionError, match="Authorization Violation"):
                await host.start_provider([], IMPATIENT, **(user | other_seed), **otel(authority.file))


async def test_a_server_without_tls_is_used_as_it_is(nats_server: NatsServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    async with Wasmcloud1Host(nats_server.url, tmp_path) as host:
        await host.start_provider([host.link(config=MEMORY)], **otel(authority.file))
        component = await host.component()
        assert await component.call("get", "", "k") is None
