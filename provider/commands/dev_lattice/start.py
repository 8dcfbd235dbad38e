"""The whole development lattice, started and stopped: nats-server, one host per provider instance, one linked actor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from contracts.keyvalue import CONTRACT_ID
from contracts.lattice import LinkDefinition
from contracts.nkeys import KeyKind
from contracts.secret import Secret
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.lattice_connection import connected
from provider.commands.dev_lattice.lattice_host import Host, HostSettings
from provider.commands.dev_lattice.nats_server import NatsServer
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.minting import make_public_key, make_seed
from provider.commands.patience import patience
from provider.keyvalue.given_values import canonical_values


@dataclass(frozen=True)
class LatticeSettings:
    """The settings of a development lattice that a command offers as options.

    Attributes:
        nats_url: URL of a running nats-server; None starts one.
        data_folder: Folder for the files of the started nats-server; None means a temporary folder.
        port: Port of the started nats-server; 0 picks a free one.
        instances: Number of provider processes that share the invocations.
        dialect: Family of the hosts.
        log_level: Level of the provider's log; `debug` adds one event per invocation.
        config: Content of the providers' `config_json`.
    """

    lattice: str = "default"
    dialect: Dialect = Dialect.WASMBUS
    link_name: str = "default"
    link_values: dict[str, str] = field(default_factory=dict)
    nats_url: str | None = None
    data_folder: Path | None = None
    port: int = 0
    instances: int = 1
    log_level: str = "debug"
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def bucket(self) -> str:
        """Name of the link's bucket: from the link values, else the name that the provider derives."""
        return self.link_value("BUCKET") or re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.lattice}_{self.link_name}")

    @property
    def is_cache(self) -> bool:
        """True if the link uses the cache, and so has no bucket."""
        return self.link_value("BACKEND").lower() == "cache"

    def link_value(self, name: str) -> str:
        """Return a link value by its canonical name, whichever alias was used; "" if it is not given."""
        return canonical_values(self.link_values).known.get(name, "")


@dataclass(frozen=True)
class DevLattice:
    """A running development lattice. `server` is None if the lattice uses an existing nats-server."""

    settings: LatticeSettings
    identity: DevIdentity
    nats_url: str
    server: NatsServer | None
    connection: Client
    hosts: list[Host]

    @functools.cached_property
    def actor(self) -> Actor:
        """The linked actor of a lattice of 0.x."""
        return Actor(self.connection, self.identity)

    @property
    def provider_pids(self) -> list[int]:
        return [host.provider.pid for host in self.hosts]


def make_identity(lattice: str, link_name: str, dialect: Dialect = Dialect.WASMBUS) -> DevIdentity:
    """Create new random identities. The ids of 1.x are any texts that an operator chooses."""
    if dialect is Dialect.WASMCLOUD1:
        host_id = make_public_key(KeyKind.SERVER)
        return DevIdentity(lattice, host_id, "dev-keyvalue", "dev-component", link_name, Secret(""), dialect)
    return DevIdentity(
        lattice=lattice,
        host_id=make_public_key(KeyKind.SERVER),
        provider_key=make_public_key(KeyKind.SERVICE),
        actor_id=make_public_key(KeyKind.MODULE),
        link_name=link_name,
        cluster_seed=make_seed(KeyKind.CLUSTER).text,
    )


def link_definition(identity: DevIdentity, values: dict[str, str]) -> LinkDefinition:
    return LinkDefinition(
        actor_id=identity.actor_id,
        provider_id=identity.provider_key,
        link_name=identity.link_name,
        contract_id=CONTRACT_ID,
        values=values,
    )


@contextlib.asynccontextmanager
async def running(
    settings: LatticeSettings, on_event: Callable[[LogEvent], None] = lambda _: None
) -> AsyncIterator[DevLattice]:
    """Start a lattice, and stop it at the end: the providers shut down first, nats-server last.

    Raises:
        NatsServerError: nats-server is missing, did not start, or the data folder is in use.
        UnreachableError: No server accepted the connection at `nats_url`.
        ProviderExitError: A provider did not become ready; the text shows why.
    """
    async with contextlib.AsyncExitStack() as stack:
        async with patience("the lattice to start"):
            lattice = await _started(stack, settings, on_event)
        task = asyncio.current_task()
        # asyncio.wait_for of Python 3.11, in nats-py, may swallow a cancellation.
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        yield lattice


async def _started(
    stack: contextlib.AsyncExitStack, settings: LatticeSettings, on_event: Callable[[LogEvent], None]
) -> DevLattice:
    server = None
    if settings.nats_url is None:
        server = await stack.enter_async_context(NatsServer(settings.data_folder, port=settings.port))
    nats_url = settings.nats_url or (server.url if server else "")
    connection = await stack.enter_async_context(connected(nats_url))
    identity = make_identity(settings.lattice, settings.link_name, settings.dialect)
    hosts = await asyncio.gather(
        *(
            start_host(stack, connection, _host_settings(settings, identity, nats_url), _numbered(on_event, number))
            for number in range(1, settings.instances + 1)
        )
    )
    return DevLattice(settings, identity, nats_url, server, connection, list(hosts))


def _numbered(on_event: Callable[[LogEvent], None], number: int) -> Callable[[LogEvent], None]:
    """Return a callback that gives each event the number of its instance."""

    def note(event: LogEvent) -> None:
        event.fields["instance"] = number
        on_event(event)

    return note


def _host_settings(settings: LatticeSettings, identity: DevIdentity, nats_url: str) -> HostSettings:
    """Return the settings of one more host. Each has its own id, as in a real lattice."""
    return HostSettings(
        identity=replace(identity, host_id=make_public_key(KeyKind.SERVER)),
        nats_url=nats_url,
        link_definitions=[link_definition(identity, settings.link_values)],
        log_level=settings.log_level,
        config=settings.config,
    )


async def start_host(
    stack: contextlib.AsyncExitStack,
    connection: Client,
    settings: HostSettings,
    on_event: Callable[[LogEvent], None] = lambda _: None,
) -> Host:
    """Start a host and wait until its provider serves the links. Closing the stack shuts it down."""
    host = Host(connection, settings, on_event)
    await stack.enter_async_context(host.provider)
    stack.push_async_callback(host.shut_down)
    await host.provider.wait_for("ready")
    await host.provider.wait_for("link_opened", "link_failed")
    return host
