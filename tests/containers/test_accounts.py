"""The image on a server in operator mode: accounts, credentials in a file, TLS with client certificates, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.blackbox.host_families import RUST
from tests.blackbox.link_checks import exercise, filled, reason, served
from tests.blackbox.nats.certificates import Authority
from tests.blackbox.nats.operator_mode import Operator, creds_file
from tests.conformance.actor import Actor
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork
from tests.containers.provider_container import ContainedHost

ACCOUNT_BYTES = 256 * 1024

MakeActor = Callable[..., Awaitable[Actor]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def make_actor(
    node: NatsNode,
    network: ContainerNetwork,
    nats_image: str,
    project_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[MakeActor]:
    """Return a function that links an actor to a server which requires a certificate and credentials of an account."""
    folder = tmp_path_factory.mktemp("credentials")
    folder.chmod(0o755)
    operator, stranger, ours = Operator(), Operator(), Authority(folder, "ours")
    users = {
        "good": operator.user(),
        "without-jetstream": operator.user(operator.account(disk_storage=0, mem_storage=0)),
        "small": operator.user(operator.account(disk_storage=ACCOUNT_BYTES, mem_storage=0)),
        "stranger": stranger.user(),
    }
    for name, user in users.items():
        (folder / f"{name}.creds").write_text(creds_file(*user))
    ours.issue("client")
    inside = {
        "cert_file": "/etc/nats/server.pem",
        "key_file": "/etc/nats/server-key.pem",
        "ca_file": "/etc/nats/ca.pem",
    }
    tls = ", ".join(f'{name}: "{path}"' for name, path in inside.items())
    store = NatsNode(network, nats_image, "store", f"{operator.server_config()}\ntls {{ {tls}, verify: true }}")
    certificate, key = ours.issue("server", store.address)
    for path, made in zip(inside.values(), (certificate, key, ours.file), strict=True):
        store.add_file(path, made.read_bytes())
    store.start()
    for file in folder.iterdir():
        file.chmod(0o644)
    async with ContainedHost(
        RUST, node.url, tmp_path_factory.mktemp("host"), image=project_image, network=network, mounted=folder
    ) as host:
        await host.start_provider()

        async def make(user: str, **values: str | None) -> Actor:
            public_key = host.actor()
            whole = {
                "URL": store.url.replace("nats://", "tls://"),
                "CREDS_FILE": str(folder / f"{user}.creds"),
                "TLS_CA_FILE": str(ours.file),
                "TLS_CERT_FILE": str(folder / "client.pem"),
                "TLS_KEY_FILE": str(folder / "client-key.pem"),
                "BUCKET": "b",
            } | values
            given = {name: value for name, value in whole.items() if value is not None}
            await host.put_link(host.link(public_key, given))
            return Actor(host, public_key, "b")

        yield make


async def test_credentials_and_certificate_from_mounted_files_open_a_link(make_actor: MakeActor) -> None:
    actor = await make_actor("good")
    await served(actor)
    await exercise(actor)


async def test_a_missing_client_certificate_is_an_error_of_its_setting(make_actor: MakeActor) -> None:
    error = await reason(await make_actor("good", TLS_CERT_FILE=None, TLS_KEY_FILE=None))
    assert "TLS_CERT_FILE" in error


async def test_a_user_of_another_operator_is_an_error_of_its_setting(make_actor: MakeActor) -> None:
    assert "CREDS_FILE" in await reason(await make_actor("stranger"))


async def test_an_account_without_jetstream_is_named(make_actor: MakeActor) -> None:
    assert "JetStream" in await reason(await make_actor("without-jetstream"))


async def test_an_account_at_its_storage_limit_refuses_writes_until_deletions_make_room(
    make_actor: MakeActor,
) -> None:
    actor = await make_actor("small")
    await served(actor)
    keys: list[str] = []
    error = await filled(actor, "x" * 16_000, keys)
    assert "outcome unknown" not in error
    assert "storage" in error or "full" in error or "limit" in error, error
    assert len(keys) >= 8
    assert await actor.get(keys[0]) == "x" * 16_000
    assert await actor.error("SetAdd", {"setName": "new", "value": "z" * 16_000})
    assert await actor.contains("new") is False
    for key in keys[:3]:
        assert await actor.delete(key) is True
    await actor.set("after", "x" * 16_000)


async def test_a_full_bucket_refuses_writes_until_deletions_make_room(
    make_actor: MakeActor,
) -> None:
    actor = await make_actor("good", BUCKET="small", MAX_BYTES="64K")
    keys: list[str] = []
    await served(actor)
    error = await filled(actor, "x" * 4000, keys)
    assert "full" in error
    assert "outcome unknown" not in error
    assert await actor.delete(keys[0]) is True
    assert await actor.delete(keys[1]) is True
    await actor.set("after", "x" * 4000)
