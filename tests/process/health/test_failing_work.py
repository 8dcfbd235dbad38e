"""Health is bad while all parts seem to work and yet every call of a kind fails, and good again afterwards."""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from tests.blackbox.host_families import RUST, Health
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually

HOUR_SECONDS = 3600
PERMISSIONS = "authorization {{ users: [{{ user: u, password: p, permissions: {{ publish: {{ deny: [{}] }} }} }}] }}"


@pytest.fixture
async def lone_host(hosts: Callable[..., Awaitable[LatticeHost]]) -> LatticeHost:
    """A host of the family that gives calls the least time."""
    return await hosts(RUST)


@pytest.fixture
def restricted_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with one user, whose permissions the test changes."""
    with NatsServer(tmp_path / "restricted", PERMISSIONS.format('"none"')) as server:
        yield server


async def restricted_actor(host: LatticeHost, server: NatsServer) -> str:
    """Start a provider with an actor that has a bucket on a restricted server, and store one value."""
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": server.url, "USER": "u", "PASSWORD": "p", "BUCKET": "b"})])
    await host.set(actor, "k", "v")
    return actor


def deny(server: NatsServer, *subjects: str) -> None:
    """Forbid the user of a restricted server to publish to these subjects; without any, allow all."""
    server.config = PERMISSIONS.format(", ".join(f'"{subject}"' for subject in subjects or ("none",)))
    server.reload()


def limit_file_size(server: NatsServer, maximum: int) -> None:
    """Make every write of the server beyond a size of a file fail, as on a full disk."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (maximum, hard))


async def fail_some(host: LatticeHost, actor: str, operation: str = "Set", value: str = "v") -> None:
    for number in range(4):
        argument = {"key": f"new{number}", "value": value, "expires": 0} if operation == "Set" else f"new{number}"
        await host.error(actor, operation, argument, 6)


async def is_healthy(host: LatticeHost) -> bool:
    return (await host.health()).is_healthy


async def bad_health(host: LatticeHost) -> Health:
    health = await host.health()
    assert not health.is_healthy
    return health


async def test_a_server_that_cannot_store_any_more_makes_health_bad(
    lone_host: LatticeHost, own_nats_server: NatsServer
) -> None:
    host, actor = lone_host, lone_host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url, "BUCKET": "b"})])
    await host.set(actor, "k", "v")
    assert await is_healthy(host)
    limit_file_size(own_nats_server, 1)
    await fail_some(host, actor, value="x" * 100_000)
    health = await bad_health(host)
    assert actor in health.message
    assert "'b': writes: the last" in health.message
    limit_file_size(own_nats_server, resource.RLIM_INFINITY)
    own_nats_server.restart()
    await eventually(lambda: is_healthy(host), "good health without a call", 25)
    await host.set(actor, "k", "v")


async def test_a_lost_permission_to_write_makes_health_bad_until_a_write_succeeds(
    lone_host: LatticeHost, restricted_server: NatsServer
) -> None:
    host, actor = lone_host, await restricted_actor(lone_host, restricted_server)
    deny(restricted_server, "$KV.b.>")
    await fail_some(host, actor)
    assert "permissions" in (await bad_health(host)).message.lower()
    assert await host.get(actor, "k") == "v"
    deny(restricted_server)
    await host.set(actor, "k", "v")
    assert await is_healthy(host)


async def test_a_lost_permission_to_read_makes_health_bad_until_a_read_succeeds(
    lone_host: LatticeHost, restricted_server: NatsServer
) -> None:
    host, actor = lone_host, await restricted_actor(lone_host, restricted_server)
    deny(restricted_server, "$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.>")
    await fail_some(host, actor, "Get")
    assert "reads: the last" in (await bad_health(host)).message
    deny(restricted_server)
    assert await host.get(actor, "k") == "v"
    assert await is_healthy(host)


@pytest.mark.parametrize(
    "values", [{"MAX_BYTES": "8K"}, {"BACKEND": "cache", "MAX_KEYS": "1"}], ids=["bucket", "cache"]
)
async def test_a_full_store_makes_health_bad_until_there_is_room(
    lone_host: LatticeHost, values: dict[str, str]
) -> None:
    host, actor = lone_host, lone_host.actor()
    await host.start_provider([host.link(actor, values)])
    await host.set(actor, "first", "x" * 5000)
    await fail_some(host, actor, value="x" * 5000)
    assert "full" in (await bad_health(host)).message
    assert await host.call(actor, "Del", "first")
    await host.set(actor, "second", "v")
    assert await is_healthy(host)


async def test_one_refused_change_or_mistakes_of_actors_do_not_make_health_bad(lone_host: LatticeHost) -> None:
    host, actor = lone_host, lone_host.actor()
    await host.start_provider([host.link(actor, {"MAX_VALUE_SIZE": "2K"})])
    await fail_some(host, actor, value="x" * 5000)
    for _ in range(4):
        await host.error(actor, "Get", "")
        await host.error(actor, "Nonsense", "")
    await host.set(actor, "text", "v")
    for _ in range(4):
        await host.error(actor, "SetAdd", {"key": "text", "value": "v"})
    assert await is_healthy(host)


async def call_at(
    host: LatticeHost, actor: str, claims: dict[str, int | str], key: KeyPair | None = None
) -> str | None:
    argument = msgpack.packb("k")
    response = await host.invoke(host.invocation(actor, "KeyValue.Get", argument, claims=claims, key=key))
    return response.error


@pytest.mark.parametrize(("claim", "seconds"), [("iat", -HOUR_SECONDS), ("iat", HOUR_SECONDS), ("exp", -HOUR_SECONDS)])
async def test_a_clock_that_is_an_hour_off_makes_health_bad_until_a_call_is_accepted(
    lone_host: LatticeHost, claim: str, seconds: int
) -> None:
    host, actor = lone_host, lone_host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    for _ in range(3):
        assert await call_at(host, actor, {claim: int(time.time()) + seconds})
    assert "calls: the last 3 failed" in (await bad_health(host)).message
    assert await host.get(actor, "k") == "v"
    assert await is_healthy(host)


async def test_old_tokens_of_a_stranger_do_not_make_health_bad(lone_host: LatticeHost) -> None:
    host, actor, stranger = lone_host, lone_host.actor(), KeyPair.generate("C")
    await host.start_provider([host.link(actor)])
    for claim in ("iat", "exp"):
        for issuer in ({}, {"iss": stranger.public}):
            for _ in range(4):
                claims: dict[str, int | str] = {claim: int(time.time()) - HOUR_SECONDS, **issuer}
                assert await call_at(host, actor, claims, stranger)
    assert await is_healthy(host)


async def test_a_call_that_is_served_meanwhile_keeps_health_good(lone_host: LatticeHost) -> None:
    host, actor = lone_host, lone_host.actor()
    await host.start_provider([host.link(actor)])
    for _ in range(3):
        assert await call_at(host, actor, {"iat": int(time.time()) - HOUR_SECONDS})
        with pytest.raises(CallFailedError):
            await host.call(actor, "SetAdd", {"key": ""})
    assert await is_healthy(host)
