"""A minimal lattice host: starts a provider process and exchanges links, health and shutdown with it over NATS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.client import Client

from contracts import lattice
from contracts.host import HostData
from contracts.lattice import HealthCheckResponse, LinkDefinition
from contracts.nkeys import parse_seed
from contracts.secret import Secret
from provider.commands.dev_lattice.actor import DevIdentity
from provider.commands.dev_lattice.provider_process import LogEvent, ProviderProcess
from provider.commands.errors import NoAnswerError

SHUTDOWN_TIMEOUT_SECONDS = 4.0
"""Hosts wait 0.3 s (Rust) or 2 s (OTP) before they kill the provider. A busy development machine gets twice the longer."""


@dataclass(frozen=True)
class HostSettings:
    """The settings that the host passes to the provider.

    Attributes:
        identity: Ids and keys of lattice, host, provider and actor.
        nats_url: URL of the lattice's NATS server.
        link_definitions: Links in force from the start.
        log_level: Level of the provider's log; `debug` adds one event per invocation.
        config: Content of `config_json`; empty means none.
    """

    identity: DevIdentity
    nats_url: str
    link_definitions: list[LinkDefinition] = field(default_factory=list)
    log_level: str = "debug"
    config: dict[str, Any] = field(default_factory=dict)

    def host_data(self) -> HostData:
        return HostData(
            host_id=self.identity.host_id,
            lattice_rpc_prefix=self.identity.lattice,
            link_name=self.identity.link_name,
            provider_key=self.identity.provider_key,
            invocation_seed=self.identity.cluster_seed,
            cluster_issuers=[parse_seed(self.identity.cluster_seed.reveal()).public_key],
            lattice_rpc_url=self.nats_url,
            instance_id=self.identity.host_id,
            link_definitions=self.link_definitions,
            structured_logging=True,
            log_level=self.log_level,
            config_json=Secret(json.dumps(self.config) if self.config else ""),
        )


class Host:
    """One lattice host with one provider process, on an open connection to the lattice."""

    def __init__(
        self, connection: Client, settings: HostSettings, on_event: Callable[[LogEvent], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self.subjects = settings.identity.subjects
        self.provider = ProviderProcess(settings.host_data(), on_event)

    async def put_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.put_link, lattice.encode_link_definition(link))
        await self._connection.flush()

    async def delete_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.delete_link, lattice.encode_link_definition(link))
        await self._connection.flush()

    async def unhealthy_reason(self) -> str | None:
        """Return the reason a link does not work, or None if all links work.

        Raises:
            NoAnswerError: The provider does not answer the health check.
        """
        try:
            health = await self.health()
        except nats.errors.Error as error:
            raise NoAnswerError(f"no answer to the health check: {error}") from None
        identity = self._settings.identity
        prefix = f"link {identity.link_name} of actor {identity.actor_id}: "
        return None if health.healthy else (health.message or "unknown").removeprefix(prefix)

    async def health(self, timeout_seconds: float = 2.0) -> HealthCheckResponse:
        reply = await self._connection.request(self.subjects.health, b"", timeout=timeout_seconds)
        return lattice.decode_health(reply.data)

    async def shut_down(self) -> int:
        """Ask the provider to stop, as a host does; return its exit code, negative if it had to be killed."""
        request = json.dumps({"host_id": self._settings.identity.host_id}).encode()
        try:
            if self._connection.is_connected:
                await self._connection.request(self.subjects.shutdown, request, timeout=SHUTDOWN_TIMEOUT_SECONDS)
            else:
                self.provider.terminate()
            return await asyncio.wait_for(self.provider.wait(), SHUTDOWN_TIMEOUT_SECONDS)
        except (nats.errors.Error, TimeoutError):
            await self.provider.kill()
            return await self.provider.wait()

    async def crash_and_restart(self) -> None:
        """Kill the provider, as a crash would, and start a new process with the same host data."""
        await self.provider.kill()
        await self.provider.start()
        await self.provider.wait_for("ready")
