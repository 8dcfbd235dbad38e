"""The provider on a store that lives in a container and is frozen and killed there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import docker
from testcontainers.core.container import DockerContainer

from contracts import keyvalue as kv
from provider.dev.errors import CallFailedError
from provider.dev.lattice import LatticeSettings, running


def store_url(container: DockerContainer) -> str:
    return f"nats://{container.get_container_host_ip()}:{container.get_exposed_port(4222)}"


async def test_a_link_is_served_from_a_container(nats_container: DockerContainer) -> None:
    settings = LatticeSettings(link_values={"URL": store_url(nats_container)})
    async with running(settings) as lattice:
        await lattice.actor.call(kv.Set("k", "v", 0))
        assert await lattice.actor.call(kv.Get("k")) == kv.GetResponse("v", True)
        totals = await asyncio.gather(*(lattice.actor.call(kv.Increment("n", 1)) for _ in range(64)))
        assert sorted(totals) == list(range(1, 65))


async def test_a_frozen_container_gives_errors_in_time_and_then_the_truth(nats_container: DockerContainer) -> None:
    settings = LatticeSettings(link_values={"URL": store_url(nats_container)})
    async with running(settings) as lattice:
        acknowledged = [await lattice.actor.call(kv.Increment("n", 1))]
        frozen: docker.models.containers.Container = nats_container.get_wrapped_container()
        frozen.pause()
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(lattice.actor.call(kv.Increment("n", 1)) for _ in range(16)), return_exceptions=True
        )
        assert time.monotonic() - began < 2.0
        frozen.unpause()
        assert all(isinstance(outcome, CallFailedError) for outcome in outcomes)
        unknown = sum("outcome unknown" in str(outcome) for outcome in outcomes)
        final = await counted(lattice.actor.call)
        assert len(acknowledged) <= final <= len(acknowledged) + unknown


async def test_a_killed_container_comes_back_with_the_data(nats_container: DockerContainer) -> None:
    async with running(LatticeSettings(link_values={"URL": store_url(nats_container), "BUCKET": "kept"})) as lattice:
        assert await lattice.actor.call(kv.Increment("n", 41)) == 41
    container: docker.models.containers.Container = nats_container.get_wrapped_container()
    container.kill()
    container.wait()
    container.start()
    async with running(LatticeSettings(link_values={"URL": store_url(nats_container), "BUCKET": "kept"})) as lattice:
        assert await counted(lattice.actor.call) == 41
        assert await lattice.actor.call(kv.Increment("n", 1)) == 42


async def counted(call: Callable[[kv.Request], Awaitable[Any]]) -> int:
    """Return the counter as soon as it can be read again."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return int((await call(kv.Get("n"))).value)
        except CallFailedError:
            assert time.monotonic() < deadline
