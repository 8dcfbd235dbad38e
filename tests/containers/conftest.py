"""The tier that needs Docker. Without it, or without a tool, tests skip with the reason; in CI a missing tool fails them."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest
import pytest_asyncio
from docker.errors import DockerException

from tests.blackbox.host_families import RUST, HostFamily
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.containers import images
from tests.containers.container_cluster import ContainerCluster
from tests.containers.cutting import what_cutting_lacks
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork
from tests.containers.ownership import remove_abandoned, remove_own
from tests.containers.provider_container import ContainedHost

StartImage = Callable[..., Awaitable[ContainedHost]]

_DOCKER_SOCKET = Path("/var/run/docker.sock")
_TEST_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every coroutine of the tier on the event loop of the module's clusters and hosts.

    The timeout of a test does not cover its fixtures, because the first test that needs an image builds it.
    """
    for item in items:
        if "tests/containers/" not in item.path.as_posix():
            continue
        if inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
        given = item.get_closest_marker("timeout")
        seconds = given.args[0] if given is not None else _TEST_SECONDS
        item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)


def cannot_run(why: str) -> NoReturn:
    """Skip the test, or fail it in CI: where there is Docker, the missing part can be installed."""
    if os.environ.get("CI"):
        pytest.fail(f"the container tier must run where Docker does: {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except DockerException as error:
        if "DOCKER_HOST" in os.environ or _DOCKER_SOCKET.exists():
            cannot_run(f"Docker does not answer: {error}")
        pytest.skip("no Docker on this machine: nothing of the image, of clusters and of cut networks is tested")
    remove_abandoned(client)
    yield client
    left_behind = remove_own(client)
    client.close()
    assert left_behind == [], "tests remove what they make"


def _made(make: Callable[[docker.DockerClient], str], client: docker.DockerClient) -> str:
    try:
        return make(client)
    except images.CannotBuildError as error:
        cannot_run(str(error))


@pytest.fixture(scope="session")
def nats_image(docker_client: docker.DockerClient) -> str:
    return images.nats_image(docker_client)


@pytest.fixture(scope="session")
def project_image(docker_client: docker.DockerClient) -> str:
    return _made(images.project_image, docker_client)


@pytest.fixture(scope="module")
def network(docker_client: docker.DockerClient) -> Iterator[ContainerNetwork]:
    """One network for all tests of a module, because Docker has addresses for about thirty."""
    with ContainerNetwork(docker_client) as network:
        yield network


@pytest.fixture(scope="module")
def node(network: ContainerNetwork, nats_image: str) -> NatsNode:
    """A running server with JetStream."""
    node = NatsNode(network, nats_image, "nats")
    node.start()
    return node


@pytest.fixture(scope="session")
def cuts() -> None:
    """Require the tools to cut networks."""
    if lacks := what_cutting_lacks():
        cannot_run(lacks)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(network: ContainerNetwork, nats_image: str, cuts: None) -> AsyncIterator[ContainerCluster]:
    """A cluster that accepts streams with three replicas."""
    async with ContainerCluster(network, nats_image) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def start_image(network: ContainerNetwork, project_image: str, tmp_path: Path) -> AsyncIterator[StartImage]:
    """Return a function that makes a connected host whose provider is a container of the image. All end with the test."""
    async with AsyncExitStack() as stack:

        async def make(family: HostFamily, server_url: str, **options: Any) -> ContainedHost:
            host = ContainedHost(family, server_url, tmp_path, image=project_image, network=network, **options)
            return await stack.enter_async_context(host)

        yield make


@pytest.fixture(scope="module")
def lattice_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The lattice's own server, which has no faults."""
    with NatsServer(tmp_path_factory.mktemp("lattice-server")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def host(lattice_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LatticeHost]:
    async with LatticeHost(RUST, lattice_server.url, tmp_path_factory.mktemp("host")) as host:
        await host.start_provider()
        yield host
