"""One lattice for the whole tier: a nats-server, a host and a provider. Each test has keys of its own."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import PATIENT, NatsServer
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.conformance.actor import Actor
from tests.conformance.component import Component
from tests.conformance.stored import StoredBucket

BACKENDS = ["bucket", "cache"]
FAMILIES = ["0.x", "1.x"]
"""The families of hosts. Tests with the mark `both_families` use only what components of 1.x have too, and run in both."""

MakeActor = Callable[..., Awaitable[Actor]]
MakeComponent = Callable[..., Awaitable[Component]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every test of the tier on the event loop of the shared lattice."""
    for item in items:
        if "tests/conformance/" in item.path.as_posix():
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "family" in metafunc.fixturenames:
        is_both = metafunc.definition.get_closest_marker("both_families") is not None
        metafunc.parametrize("family", FAMILIES if is_both else FAMILIES[:1], scope="session")


@pytest.fixture(scope="session")
def nats_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := pytestconfig.getoption("--nats-url"):
        yield given
        return
    with NatsServer(tmp_path_factory.mktemp("nats-server"), PATIENT) as server:
        yield server.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(
    nats_url: str, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LatticeHost]:
    given = pytestconfig.getoption("--provider-command")
    command = shlex.split(given) if given else None
    async with LatticeHost(RUST, nats_url, tmp_path_factory.mktemp("host"), command=command) as host:
        await host.start_provider()
        yield host


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def make_actor(host: LatticeHost) -> MakeActor:
    """Link a further actor, by default with a bucket of its own."""

    async def make(**values: Any) -> Actor:
        bucket = values.setdefault("BUCKET", f"own-{uuid.uuid4().hex[:12]}")
        public_key = host.actor()
        await host.put_link(host.link(public_key, values))
        return Actor(host, public_key, bucket)

    return make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def component_host(
    nats_url: str, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Wasmcloud1Host]:
    given = pytestconfig.getoption("--provider-command")
    command = shlex.split(given) if given else None
    async with Wasmcloud1Host(nats_url, tmp_path_factory.mktemp("component-host"), command=command) as host:
        await host.start_provider([])
        yield host


@pytest.fixture(scope="session")
def make_component(component_host: Wasmcloud1Host) -> MakeComponent:
    """Link a further component, by default with a bucket of its own."""

    async def make(**values: str) -> Component:
        bucket = values.setdefault("BUCKET", f"own-{uuid.uuid4().hex[:12]}")
        component_id = f"component-{uuid.uuid4().hex[:12]}"
        await component_host.put_link(component_host.link(component_id, values))
        return Component(component_host, await component_host.component(component_id), bucket)

    return make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def actor(make_actor: MakeActor, make_component: MakeComponent, family: str, backend: str) -> Actor:
    """Return the actor, or component, that most tests share."""
    make = make_actor if family == "0.x" else make_component
    return await make(BACKEND=backend, BUCKET=f"shared-{backend}-{family.replace('.', '')}")


class NoBucket:
    """A substitute for the bucket of a link that has no bucket."""

    async def revision(self, key: str) -> int:
        return 0


@pytest.fixture
def stored(actor: Actor, host: LatticeHost, backend: str) -> StoredBucket | NoBucket:
    """Return the bucket of the shared actor, as other clients see it."""
    return StoredBucket(host.client, actor.bucket) if backend == "bucket" else NoBucket()
