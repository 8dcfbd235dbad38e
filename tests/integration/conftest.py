"""One lattice for the tier, and further servers for the stores of links. Links and servers end with their test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.cluster import Cluster
from tests.blackbox.nats.nats_server import PATIENT, NatsServer
from tests.conformance.actor import Actor

ANSWER_SECONDS = 2.2
"""Longest time of a call while the provider lives, whatever happens."""

MakeActor = Callable[..., Awaitable[Actor]]
MakeServer = Callable[..., NatsServer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every test of the tier on the event loop of the shared lattice."""
    for item in items:
        if "tests/integration/" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def lattice_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The lattice's own server. Tests must not stop, freeze or fill it."""
    with NatsServer(tmp_path_factory.mktemp("lattice-server"), PATIENT) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(lattice_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LatticeHost]:
    async with LatticeHost(RUST, lattice_server.url, tmp_path_factory.mktemp("host")) as host:
        await host.start_provider(log_level="debug", structured_logging=True)
        yield host


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def make_actor(host: LatticeHost) -> AsyncIterator[MakeActor]:
    """Return a function that links an actor, by default with a bucket of its own. The links are deleted with the test."""
    links: list[dict[str, Any]] = []

    async def make(**values: Any) -> Actor:
        values = {name: value for name, value in values.items() if value is not None}
        if not any(name.upper() == "BUCKET" for name in values):
            values["BUCKET"] = f"own-{uuid.uuid4().hex[:12]}"
        public_key = host.actor()
        links.append(host.link(public_key, values))
        await host.put_link(links[-1])
        bucket = next(value for name, value in values.items() if name.upper() == "BUCKET")
        return Actor(host, public_key, bucket, ANSWER_SECONDS)

    yield make
    for link in links:
        await host.delete_link(link)


@pytest_asyncio.fixture(loop_scope="session")
async def witness(make_actor: MakeActor) -> Actor:
    """An actor with a healthy link to the same provider process."""
    actor = await make_actor()
    await actor.set("witness", "here")
    return actor


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Return a function that makes a server with its own configuration. The test starts it."""
    with ExitStack() as stack:

        def make(config: str = "", **options: Any) -> NatsServer:
            server = NatsServer(tmp_path / f"server-{uuid.uuid4().hex[:8]}", config, **options)
            stack.callback(server.kill)
            return server

        yield make
