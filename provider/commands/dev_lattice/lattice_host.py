"""A minimal lattice host: starts a provider process and exchanges links, health and shutdown with it over NATS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.client import Client

from contracts import lattice, wasmcloud1
from contracts.host import HostData, HostFamily
from contracts.lattice import HealthCheckResponse, LinkDefinition
from contracts.nkeys import parse_seed
from contracts.secret import Secret
from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.identity import DevIdentity
from provider.commands.dev_lattice.provider_process import LogEvent, ProviderProcess
from provider.commands.errors import NoAnswerError
from provider.keyvalue.given_values import normal_name
from provider.keyvalue.link_values import LINK_VALUES, NAMES, SettingGroup

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

    @property
    def is_wasmcloud1(self) -> bool:
        return self.identity.dialect is Dialect.WASMCLOUD1

    @property
    def subjects(self) -> lattice.Subjects | wasmcloud1.ControlSubjects:
        identity = self.identity
        if self.is_wasmcloud1:
            return wasmcloud1.ControlSubjects(
                identity.lattice, identity.provider_key, wasmcloud1.DEFAULT_LINK_NAME, identity.provider_key
            )
        return identity.subjects

    def encode_link(self, link: LinkDefinition) -> bytes:
        if self.is_wasmcloud1:
            return wasmcloud1.encode_link(component_links(link)[0])
        return lattice.encode_link_definition(link)

    def host_data(self) -> HostData:
        if self.is_wasmcloud1:
            return self._host_data_of_wasmcloud1()
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

    def _host_data_of_wasmcloud1(self) -> HostData:
        links = [link for definition in self.link_definitions for link in component_links(definition)]
        return HostData(
            family=HostFamily.WASMCLOUD1,
            host_id=self.identity.host_id,
            lattice_rpc_prefix=self.identity.lattice,
            link_name=wasmcloud1.DEFAULT_LINK_NAME,
            provider_key=self.identity.provider_key,
            invocation_seed=Secret(""),
            cluster_issuers=[],
            lattice_rpc_url=self.nats_url,
            instance_id=self.identity.host_id,
            structured_logging=True,
            log_level=self.log_level,
            wasmcloud1=wasmcloud1.Wasmcloud1(
                links=links, config={name: str(value) for name, value in self.config.items()}
            ),
        )


def component_links(definition: LinkDefinition) -> list[wasmcloud1.Link]:
    """Return a link as links of 1.x: the one by which the component calls, and with WATCH the one by which it is called."""
    values = {name: str(value) for name, value in definition.values.items()}
    component, provider = definition.actor_id, definition.provider_id
    calls = wasmcloud1.Link(
        source_id=component,
        target=provider,
        name=definition.link_name,
        interfaces=["store", "atomics", "batch"],
        target_config=without_watch(values),
        wit_namespace=wasmcloud1.WIT_NAMESPACE,
        wit_package=wasmcloud1.WIT_PACKAGE,
    )
    if not any(canonical_name(name) == "WATCH" for name in values):
        return [calls]
    changes = wasmcloud1.Link(
        source_id=provider,
        target=component,
        name=definition.link_name,
        interfaces=[wasmcloud1.WATCHER_INTERFACE],
        source_config=values,
        wit_namespace=wasmcloud1.WIT_NAMESPACE,
        wit_package=wasmcloud1.WIT_PACKAGE,
    )
    return [calls, changes]


def without_watch(values: dict[str, str]) -> dict[str, str]:
    """Return link values without those of a watch, by which a provider calls an actor or a component."""
    watch = {value.name for value in LINK_VALUES.values() if value.group is SettingGroup.WATCH}
    return {name: value for name, value in values.items() if canonical_name(name) not in watch}


def canonical_name(name: str) -> str:
    return NAMES.get(normal_name(name), "")


class Host:
    """One lattice host with one provider process, on an open connection to the lattice."""

    def __init__(
        self, connection: Client, settings: HostSettings, on_event: Callable[[LogEvent], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self.subjects = settings.subjects
        self.provider = ProviderProcess(settings.host_data(), on_event)

    @property
    def identity(self) -> DevIdentity:
        return self._settings.identity

    async def put_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.put_link, self._settings.encode_link(link))
        await self._connection.flush()

    async def delete_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.delete_link, self._settings.encode_link(link))
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
        caller = "component" if self._settings.is_wasmcloud1 else "actor"
        prefix = f"link {identity.link_name} of {caller} {identity.actor_id}: "
        return None if health.healthy else (health.message or "unknown").removeprefix(prefix)

    async def health(self, timeout_seconds: float = 2.0) -> HealthCheckResponse:
        reply = await self._connection.request(self.subjects.health, b"", timeout=timeout_seconds)
        return lattice.decode_health(reply.data, is_json=self._settings.is_wasmcloud1)

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
