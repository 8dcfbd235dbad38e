"""A whole development lattice: nats-server, one host per provider instance, one linked actor."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from contracts.keyvalue import CONTRACT_ID
from contracts.lattice import LinkDefinition
from provider.commands.dev_lattice.actor import Actor, Link
from provider.commands.dev_lattice.client import connected
from provider.commands.dev_lattice.host import Host, HostSettings, LogEvent
from provider.commands.dev_lattice.keys import KeyKind, make_cluster_seed, make_public_key
from provider.commands.dev_lattice.nats_server import NatsServer
from provider.keyvalue.link_config import canonical_values


@dataclass(frozen=True)
class LatticeSettings:
    """What a person may choose.

    Attributes:
        nats_url: A running nats-server; `None`: start one.
        data_folder: Where the started nats-server keeps its files; `None`: temporary.
        port: Of the started nats-server; 0: a free one.
        instances: How many provider processes share the invocations.
        log_level: `debug` brings one event per invocation.
        config: The providers' `config_json`.
    """

    lattice: str = "default"
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
        """The bucket that the provider makes for this link when the link values name none."""
        return self.link_value("BUCKET") or re.sub(r"[^A-Za-z0-9_-]", "_", f"{self.lattice}_{self.link_name}")

    @property
    def is_cache(self) -> bool:
        """Whether the link has a cache, and so no bucket."""
        return self.link_value("BACKEND").lower() == "cache"

    def link_value(self, name: str) -> str:
        """Return what the link says under a canonical name, in whatever way it was written; "": nothing."""
        return canonical_values(self.link_values)[0].get(name, "")


@dataclass(frozen=True)
class DevLattice:
    """A running one. `server` is `None` when somebody else's nats-server is used."""

    settings: LatticeSettings
    link: Link
    nats_url: str
    server: NatsServer | None
    connection: Client
    hosts: list[Host]
    actor: Actor

    @property
    def provider_pids(self) -> list[int]:
        return [host.provider.pid for host in self.hosts]


def make_link(lattice: str, link_name: str) -> Link:
    """Make the identities of a lattice that did not exist before."""
    return Link(
        lattice=lattice,
        host_id=make_public_key(KeyKind.SERVER),
        provider_key=make_public_key(KeyKind.SERVICE),
        actor_id=make_public_key(KeyKind.MODULE),
        link_name=link_name,
        cluster_seed=make_cluster_seed(),
    )


def link_definition(link: Link, values: dict[str, str]) -> LinkDefinition:
    return LinkDefinition(
        actor_id=link.actor_id,
        provider_id=link.provider_key,
        link_name=link.link_name,
        contract_id=CONTRACT_ID,
        values=values,
    )


@contextlib.asynccontextmanager
async def running(
    settings: LatticeSettings, on_event: Callable[[LogEvent], None] = lambda _: None
) -> AsyncIterator[DevLattice]:
    """Start a lattice and stop it again: providers asked to shut down first, nats-server last.

    Raises:
        NatsServerError: No nats-server, none to be reached at `nats_url`, or the data folder is in use.
        ProviderExitError: A provider that does not come up; the text shows why.
    """
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if settings.nats_url is None:
            server = await stack.enter_async_context(NatsServer(settings.data_folder, port=settings.port))
        nats_url = settings.nats_url or (server.url if server else "")
        connection = await stack.enter_async_context(connected(nats_url))
        link = make_link(settings.lattice, settings.link_name)
        hosts = await asyncio.gather(
            *(
                start_host(stack, connection, _host_settings(settings, link, nats_url), on_event)
                for _ in range(settings.instances)
            )
        )
        yield DevLattice(settings, link, nats_url, server, connection, list(hosts), Actor(connection, link))


def _host_settings(settings: LatticeSettings, link: Link, nats_url: str) -> HostSettings:
    """Return the settings of one more host: each has its own id, as each instance has in a real lattice."""
    return HostSettings(
        link=replace(link, host_id=make_public_key(KeyKind.SERVER)),
        nats_url=nats_url,
        link_definitions=[link_definition(link, settings.link_values)],
        log_level=settings.log_level,
        config=settings.config,
    )


async def start_host(
    stack: contextlib.AsyncExitStack,
    connection: Client,
    settings: HostSettings,
    on_event: Callable[[LogEvent], None] = lambda _: None,
) -> Host:
    """Start a host with a provider that serves its links; the stack shuts it down."""
    host = Host(connection, settings, on_event)
    await stack.enter_async_context(host.provider)
    stack.push_async_callback(host.shut_down)
    await host.provider.wait_for("ready")
    await host.provider.wait_for("link_opened", "link_failed")
    return host
