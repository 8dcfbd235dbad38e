"""Fault rounds on servers in containers, whose network the kernel cuts: what callers see could have happened one by one.

The same rounds as `make soak` plays on processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.blackbox.nats_server import NatsServer
from tests.containers.cluster import Cluster
from tests.linearizability.providers import Providers
from tests.linearizability.rounds import play


@pytest_asyncio.fixture(loop_scope="session")
async def providers(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Providers]:
    with NatsServer(tmp_path / "lattice") as lattice:
        async with Providers(cluster, lattice.url, tmp_path) as providers:
            yield providers


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["leader cut off", "leader killed", "leader deaf"])
async def test_everything_could_have_happened_one_by_one(providers: Providers, fault: str) -> None:
    one = await play(providers, fault)
    assert one.is_survived, "\n".join([*map(str, one.violations), one.undecided, one.trouble])
