"""Provider processes that replicate one cache, each with a provider key of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contracts.nkeys import KeyKind
from provider.commands.dev_lattice.actor import Actor
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.lattice_host import Host, HostSettings
from provider.commands.dev_lattice.provider_process import LogEvent, ProviderProcess
from provider.commands.dev_lattice.start import DevLattice, link_definition
from provider.commands.minting import make_public_key


@dataclass(frozen=True)
class Instance:
    """A provider that replicates the cache. Only this provider serves calls over its link."""

    link: DevIdentity
    provider: ProviderProcess
    actor: Actor


@contextlib.asynccontextmanager
async def instance(
    lattice: DevLattice,
    *,
    values: Mapping[str, str] | None = None,
    config: dict[str, Any] | None = None,
    on_event: Callable[[LogEvent], None] = lambda _: None,
) -> AsyncIterator[Instance]:
    """Start one more instance, and stop it at the end as its host would.

    Args:
        lattice: Lattice whose name, link name and cluster all instances share, so that they hold the same cache.
        values: Link values beyond the backend.
        config: The provider's `config_json`.
        on_event: Called with every event of its log.

    Raises:
        ProviderExitError: The provider does not start.
    """
    key, host_id = make_public_key(KeyKind.SERVICE), make_public_key(KeyKind.SERVER)
    link = replace(lattice.identity, provider_key=key, host_id=host_id)
    settings = HostSettings(
        identity=link,
        nats_url=lattice.nats_url,
        link_definitions=[link_definition(link, {"BACKEND": "cache", **(values or {})})],
        log_level="info",
        config=config or {},
    )
    host = Host(lattice.connection, settings, on_event)
    async with host.provider:
        await host.provider.wait_for("ready")
        await host.provider.wait_for("cache_opened")
        try:
            yield Instance(link, host.provider, Actor(lattice.connection, link))
        finally:
            await host.shut_down()


@contextlib.asynccontextmanager
async def two_instances(
    lattice: DevLattice, *, values: Mapping[str, str] | None = None, config: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Instance, Instance]]:
    """Start two instances, and wait until they have heard of each other."""
    async with (
        instance(lattice, values=values, config=config) as first,
        instance(lattice, values=values, config=config) as second,
    ):
        await asyncio.gather(*(each.provider.wait_for("cache_replica_heard") for each in (first, second)))
        yield first, second
