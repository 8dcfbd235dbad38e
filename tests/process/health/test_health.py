"""The health answer names a link that does not work and the reason, and becomes healthy again by itself."""

from __future__ import annotations

from pathlib import Path

from tests.blackbox.host_families import Health
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually


async def test_a_provider_without_links_is_healthy(host: LatticeHost) -> None:
    await host.start_provider()
    assert await host.health() == Health(is_healthy=True, message="")


async def test_a_provider_whose_links_work_is_healthy(host: LatticeHost) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    assert await host.health() == Health(is_healthy=True, message="")


async def test_a_health_request_with_any_payload_is_answered(host: LatticeHost) -> None:
    await host.start_provider()
    for payload in (b"", b"{}", b"\x81\xabplaceholder\xc3", b"\xc1\xff", b"[" * 10_000):
        reply = await host.client.request(f"{host.subject}.health", payload, timeout=2)
        assert host.family.read_health(reply.data).is_healthy


async def test_a_link_to_a_dead_port_is_named_and_heals_when_a_server_appears(
    host: LatticeHost, tmp_path: Path
) -> None:
    actor, good = host.actor(), host.actor()
    port = free_port()
    await host.start_provider([host.link(actor, {"URL": f"nats://user:hidden@127.0.0.1:{port}"}), host.link(good)])

    async def unhealthy() -> Health | None:
        found = await host.health()
        return None if found.is_healthy else found

    health: Health = await eventually(unhealthy, "bad health")
    assert host.who.link_name in health.message
    assert actor in health.message
    assert "connect" in health.message.lower() or "unreachable" in health.message.lower()
    assert "hidden" not in health.message
    error = await host.error(actor, "Get", "k")
    assert str(port) not in error
    assert "hidden" not in error
    assert "unlinked" not in error
    await host.set(good, "k", "v")

    with NatsServer(tmp_path / "appears", port=port):

        async def is_healthy() -> bool:
            return (await host.health()).is_healthy

        await eventually(is_healthy, "good health", 15)
        await host.set(actor, "k", "v")
        assert await host.get(actor, "k") == "v"
    assert "hidden" not in host.provider.stderr


async def test_health_follows_the_end_and_the_return_of_a_server(
    host: LatticeHost, own_nats_server: NatsServer
) -> None:
    actor = host.actor()
    await host.start_provider([host.link(actor, {"URL": own_nats_server.url})], default_rpc_timeout_ms=600)
    await host.set(actor, "k", "v")
    own_nats_server.kill()

    async def is_healthy() -> bool:
        return (await host.health()).is_healthy

    async def is_unhealthy() -> bool:
        return not await is_healthy()

    await eventually(is_unhealthy, "bad health")
    assert await host.error(actor, "Get", "k")
    own_nats_server.start()
    await eventually(is_healthy, "good health", 15)

    async def is_served() -> bool:
        try:
            return await host.get(actor, "k") == "v"
        except CallFailedError:
            return False

    await eventually(is_served, "the value")
