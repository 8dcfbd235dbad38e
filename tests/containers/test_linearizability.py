"""Fault rounds on servers in containers, whose network the kernel cuts: the histories of the callers are linearizable.

`make soak` plays the same rounds on processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.blackbox.nats.nats_server import NatsServer
from tests.containers.container_cluster import ContainerCluster
from tests.linearizability.providers import Providers
from tests.linearizability.rounds import play


@pytest_asyncio.fixture(loop_scope="session")
async def providers(cluster: ContainerCluster, tmp_path: Path) -> AsyncIterator[Providers]:
    with NatsServer(tmp_path / "lattice") as lattice:
        async with Providers(cluster, lattice.url, tmp_path) as providers:
            yield providers


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["leader cut off", "leader killed", "leader deaf"])
async def test_calls_are_linearizable(providers: Providers, fault: str) -> None:
    one = await play(providers, fault)
    assert one.is_survived, "\n".join([*map(str, one.violations), one.undecided, one.trouble])
