"""A minimal lattice host: starts the real provider process and tells it about links, health and shutdown.

It behaves like the Rust family (cleared environment, standard input closed behind the line), because that one is harder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import nats.errors
from nats.aio.client import Client

import contracts
from contracts import lattice
from contracts.host import HostData, encode_host_data
from contracts.lattice import HealthCheckResponse, LinkDefinition
from provider.commands.dev_lattice.actor import Link
from provider.commands.dev_lattice.errors import NoAnswerError, ProviderExitError
from provider.commands.dev_lattice.keys import cluster_public_key
from provider.commands.dev_lattice.nats_server import die_with_parent

READY_TIMEOUT_SECONDS = 15.0
SHUTDOWN_TIMEOUT_SECONDS = 4.0
_EVENTS_KEPT = 1000
_FREQUENT_EVENTS = frozenset({"invocation_served", "invocation_failed", "invocation_denied", "invocation_refused"})


class LogEvent(msgspec.Struct, frozen=True):
    """One line of the provider's log. A line that is no event has the event name "" and its text in the fields."""

    name: str
    level: str
    fields: dict[str, Any]


def parse_log_line(line: bytes) -> LogEvent:
    try:
        fields = json.loads(line)
        return LogEvent(fields.pop("event"), fields.pop("level"), fields)
    except (ValueError, KeyError, AttributeError):
        return LogEvent("", "info", {"text": line.decode(errors="replace").rstrip()})


@dataclass(frozen=True)
class HostSettings:
    """What the host tells every provider that it starts.

    Attributes:
        link: Identity of lattice, host and provider.
        nats_url: The lattice's own NATS.
        link_definitions: Links given at start.
        log_level: `debug` brings one event per invocation.
        config: Becomes `config_json`; empty: none.
    """

    link: Link
    nats_url: str
    link_definitions: list[LinkDefinition] = field(default_factory=list)
    log_level: str = "debug"
    config: dict[str, Any] = field(default_factory=dict)

    def host_data(self) -> HostData:
        return HostData(
            host_id=self.link.host_id,
            lattice_rpc_prefix=self.link.lattice,
            link_name=self.link.link_name,
            provider_key=self.link.provider_key,
            invocation_seed=self.link.cluster_seed,
            cluster_issuers=[cluster_public_key(self.link.cluster_seed)],
            lattice_rpc_url=self.nats_url,
            instance_id=self.link.host_id,
            link_definitions=self.link_definitions,
            structured_logging=True,
            log_level=self.log_level,
            config_json=contracts.secret.Secret(json.dumps(self.config))
            if self.config
            else contracts.secret.Secret(""),
        )


class ProviderProcess:
    """One provider process and what it says on standard error; an async context manager."""

    def __init__(self, host_data: HostData, on_event: Callable[[LogEvent], None] = lambda _: None) -> None:
        self._host_data = host_data
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.events: deque[LogEvent] = deque(maxlen=_EVENTS_KEPT)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start the process and write its one line; it is not ready yet."""
        self._process = await asyncio.create_subprocess_exec(
            *provider_command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdin is not None
        self._reader = asyncio.ensure_future(self._read_log(self._process))
        self._process.stdin.write(encode_host_data(self._host_data))
        await self._process.stdin.drain()
        self._process.stdin.close()

    async def wait_for(self, *names: str, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> LogEvent:
        """Return the first event of one of these names, also one that has been already.

        Raises:
            ProviderExitError: The process ended first, or the time was over; shows the end of its log.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    for event in self.events:
                        if event.name in names:
                            return event
                    if self._process is None or self._process.returncode is not None:
                        raise ProviderExitError(f"the provider ended before {' or '.join(names)}{self._end_of_log()}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            said = self._end_of_log()
            raise ProviderExitError(
                f"no {' or '.join(names)} from the provider in {timeout_seconds:g} s{said}"
            ) from None

    async def kill(self) -> None:
        """End the process with SIGKILL, as a crash would, and forget its events."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.wait()
        self.events.clear()

    def terminate(self) -> None:
        """Let the process stop in order."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit code."""
        assert self._process is not None, "not started"
        code = await self._process.wait()
        if self._reader is not None:
            await self._reader
        return code

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            event = parse_log_line(line)
            if event.name not in _FREQUENT_EVENTS:
                self.events.append(event)
                self._changed.set()
            self._on_event(event)
        await process.wait()
        self._changed.set()

    def _end_of_log(self) -> str:
        lines = [f"\n  {event.name} {event.fields}" for event in list(self.events)[-5:]]
        return ":" + "".join(lines) if lines else ""


class Host:
    """One lattice host with one provider process, on an open connection of the lattice."""

    def __init__(
        self, connection: Client, settings: HostSettings, on_event: Callable[[LogEvent], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self.subjects = settings.link.subjects
        self.provider = ProviderProcess(settings.host_data(), on_event)

    async def put_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.put_link, lattice.encode_link_definition(link))
        await self._connection.flush()

    async def delete_link(self, link: LinkDefinition) -> None:
        await self._connection.publish(self.subjects.delete_link, lattice.encode_link_definition(link))
        await self._connection.flush()

    async def trouble(self) -> str | None:
        """Return why a link does not work; `None`: all do.

        Raises:
            NoAnswerError: The provider cannot be asked.
        """
        try:
            health = await self.health()
        except nats.errors.Error as error:
            raise NoAnswerError(f"no answer about health: {error}") from None
        link = self._settings.link
        said = (health.message or "unknown").removeprefix(f"link {link.link_name} of actor {link.actor_id}: ")
        return None if health.healthy else said

    async def health(self, timeout_seconds: float = 2.0) -> HealthCheckResponse:
        reply = await self._connection.request(self.subjects.health, b"", timeout=timeout_seconds)
        return lattice.decode_health(reply.data)

    async def shut_down(self) -> int:
        """Ask the provider to stop as a host does; return its exit code, which is negative if it had to be killed."""
        request = json.dumps({"host_id": self._settings.link.host_id}).encode()
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
        """Kill the provider as a crash would and start another one with the same host data."""
        await self.provider.kill()
        await self.provider.start()
        await self.provider.wait_for("ready")


def provider_command() -> tuple[str, ...]:
    """Return how to start the provider from here: an executable of an archive is started as it is."""
    return (sys.executable,) if getattr(sys, "frozen", False) else (sys.executable, "-m", "provider")


def _environment() -> dict[str, str]:
    """Return what a Rust host leaves of the environment, and where this project's packages are."""
    packages = str(Path(contracts.__file__).resolve().parent.parent)
    return {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": "", "PYTHONPATH": packages}
