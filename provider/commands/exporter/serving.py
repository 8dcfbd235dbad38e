"""The exporter at work: one connection to NATS that is kept, and a scrape for each request over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from provider import errors
from provider.commands.connect import addresses
from provider.commands.errors import PortError
from provider.commands.exporter.scrape import families
from provider.commands.instances import Instances, RunningInstance
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings

_RETRY_SECONDS = 1.0
"""Pause between attempts to connect at the start. Afterwards the connection restores itself."""

_SCRAPE_RESERVE_SECONDS = 5.0
"""Time for a scrape beyond that for the answers: a busy machine must not turn it into an error."""


class Exporter(Collector):
    """The instances of a lattice as metrics.

    Args:
        settings: Servers and credentials.
        lattice: Lattice prefix; None: every lattice of the account.
        wait_seconds: Time for the answers of the instances.
        report: Function that tells the operator of each change of the connection.

    Attributes:
        settings: Servers and credentials.
        lattice: Lattice prefix; None: every lattice of the account.
        wait_seconds: Time for the answers of the instances.
        reason: Reason for which NATS cannot be asked; "" if it can.
    """

    def __init__(
        self, settings: ConnectionSettings, lattice: str | None, wait_seconds: float, report: Callable[[str], None]
    ) -> None:
        self.settings = settings
        self.lattice = lattice
        self.wait_seconds = wait_seconds
        self.reason = "not connected to NATS yet"
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._instances: Instances | None = None

    def collect(self) -> Iterable[Metric]:
        """Ask the instances, from a thread of the HTTP server, and return their metrics."""
        asked = asyncio.run_coroutine_threadsafe(self.scrape(), self._loop)
        return asked.result(self.wait_seconds + _SCRAPE_RESERVE_SECONDS)

    async def scrape(self) -> list[Metric]:
        """Ask the instances and return their metrics. Without NATS there are only those of the exporter itself."""
        began = time.perf_counter()
        found = await self.gather()
        seconds = time.perf_counter() - began
        return list(families(found, is_reachable=not self.reason, seconds=seconds))

    async def text(self) -> tuple[str, int]:
        """Return one scrape in the text format, and the number of instances that have answered."""
        scraped = await self.scrape()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Scraped(scraped))
        count = next(int(one.samples[0].value) for one in scraped if one.name.endswith("exporter_instances"))
        return generate_latest(registry).decode(), count

    async def gather(self) -> list[RunningInstance]:
        """Return the instances that answer; none if NATS cannot be asked, with the reason in `reason`."""
        if self._instances is None:
            return []
        try:
            found = await self._instances.gather(self.wait_seconds)
        except errors.NatsError as error:
            self._note(str(error))
            return []
        self._note("")
        return found

    @contextlib.asynccontextmanager
    async def connected(self, timeout_seconds: float) -> AsyncIterator[None]:
        """Connect, and close the connection at the end.

        Raises:
            errors.ConnectError: No server accepts the connection in time.
        """
        connection = Connection(self.settings, "keyvalue-nats exporter", timeout_seconds)
        async with connection:
            self._instances = Instances(connection, self.lattice)
            self._note("")
            try:
                yield
            finally:
                self._instances = None

    async def stay_connected(self, timeout_seconds: float) -> None:
        """Connect, try again for as long as that fails, and stay connected until cancelled."""
        while True:
            try:
                async with self.connected(timeout_seconds):
                    await asyncio.Event().wait()
            except errors.ConnectError as error:
                self._note(f"cannot connect to NATS at {addresses(self.settings.servers)}: {error.reason}")
            await asyncio.sleep(_RETRY_SECONDS)

    def _note(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            self._report(reason)


class _Scraped(Collector):
    """Metrics that were scraped already."""

    def __init__(self, scraped: list[Metric]) -> None:
        self._scraped = scraped

    def collect(self) -> Iterable[Metric]:
        return self._scraped


@contextlib.asynccontextmanager
async def serving(exporter: Exporter, address: str, port: int) -> AsyncIterator[int]:
    """Answer scrapes over HTTP, in threads of their own; yield the port.

    Raises:
        PortError: The address cannot be listened on.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise PortError(address, port, (error.strerror or str(error)).lower()) from None
    try:
        yield server.server_port
    finally:
        # A scrape under way waits for this loop, so the loop must not wait for the server's thread.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
