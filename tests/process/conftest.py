"""Lattice hosts of each family, on one nats-server for the whole run. Every host has a lattice of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.host_families import FAMILIES, HostFamily
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.process.cache.replicas import Replicas

Hosts = Callable[..., Awaitable[LatticeHost]]
MakeReplicas = Callable[..., Awaitable[Replicas]]


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The server that tests share. They must not stop, freeze or fill it."""
    with NatsServer(tmp_path_factory.mktemp("nats-server")) as server:
        yield server


@pytest.fixture
def own_nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A second, running server, which the test may stop, freeze and fill."""
    with NatsServer(tmp_path / "own-nats-server") as server:
        yield server


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> HostFamily:
    found: HostFamily = request.param
    return found


@pytest.fixture
async def hosts(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Hosts]:
    """Return a function that makes a connected host without a provider. Hosts and their providers end with the test."""
    async with AsyncExitStack() as stack:

        async def make(family: HostFamily, **options: Any) -> LatticeHost:
            return await stack.enter_async_context(LatticeHost(family, nats_server.url, tmp_path, **options))

        yield make


@pytest.fixture
async def host(hosts: Hosts, family: HostFamily) -> LatticeHost:
    return await hosts(family)


@pytest.fixture
async def make_replicas(tmp_path: Path) -> AsyncIterator[MakeReplicas]:
    """Return a function that makes servers, joined by leaf links, for the replicas of a cache. They end with the test."""
    async with AsyncExitStack() as stack:

        async def make(server_count: int, **values: Any) -> Replicas:
            folder = tmp_path / f"replicas-{uuid.uuid4().hex[:8]}"
            return await stack.enter_async_context(Replicas(folder, server_count, **values))

        yield make
