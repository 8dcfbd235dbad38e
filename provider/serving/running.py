"""The part of a running provider that is the same under all hosts: its start, its links, its health, and an end in order."""

from __future__ import annotations

import asyncio
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from contracts.host import HostData, HostFamily
from contracts.statistics import SERVICE_PREFIX
from provider.config import ProviderConfig
from provider.instance import Instance
from provider.lattice.call_counts import CallCounts
from provider.lattice.protocol import LinkDeleted, LinkEvent, LinkPut
from provider.lattice.statistics import ServiceNames, ServiceStatistics
from provider.links import Links
from provider.nats.connection import Connection
from provider.serving.calls import Calls
from provider.tasks import TaskOwner
from provider.telemetry.export import Telemetry

_log = logging.getLogger(__name__)

_STORE_SHARE_OF_TIMEOUT = 0.8
"""The share of the caller's time-out that a store may use; the rest is for the messages there and back."""

_DRAIN_SECONDS = {
    HostFamily.OTP: 1.5,
    HostFamily.TEST_HARNESS: 1.5,
    HostFamily.RUST: 0.2,
    HostFamily.WASMCLOUD1: 0.12,
}
"""The time for calls in flight at shutdown: an OTP host waits 2000 ms for the acknowledgement, the others 300 ms. Under
1.x the answers are confirmed by their callers, for which there is some of that time too."""

_END_SECONDS = {
    HostFamily.OTP: 1.8,
    HostFamily.TEST_HARNESS: 1.8,
    HostFamily.RUST: 0.25,
    HostFamily.WASMCLOUD1: 0.22,
}
"""The time for all of the end: a store that does not close by then is left to the end of the process. Under 1.x the last
answers go out meanwhile."""

_LEAST_CLOSE_SECONDS = 0.02
"""The time for stores to close in any case: a healthy server takes a tenth of it."""


class RunningProvider(ABC):
    """The running provider; the lattice's subscriptions call its `on_...` methods. A subclass serves one family's calls.

    Args:
        config: Settings of the process.
        host_data: Host data.
        connection: Connection to the lattice.
        links: Stores of the links in force.
        tasks: Owner of the background tasks.
        telemetry: Export of calls and statistics.

    Attributes:
        operations: Names of the operations that are counted.
    """

    operations: ClassVar[Collection[str]]

    def __init__(
        self,
        config: ProviderConfig,
        host_data: HostData,
        connection: Connection,
        links: Links,
        tasks: TaskOwner,
        telemetry: Telemetry,
    ) -> None:
        self._config = config
        self._host_data = host_data
        self._connection = connection
        self._links = links
        self._tasks = tasks
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._budget_seconds = host_data.default_rpc_timeout_ms / 1000 * _STORE_SHARE_OF_TIMEOUT
        self._counts = CallCounts(self.operations)
        self._calls = Calls(config.limits, self._counts, telemetry)
        self._stopped = asyncio.Event()
        self._shutdown_reply = b""

    async def run(self) -> None:
        """Serve until the host, a signal or the host's death ends it."""
        await self._start()
        instance, subject, queue = self._instance()
        names = ServiceNames(
            name=SERVICE_PREFIX + re.sub(r"[^A-Za-z0-9_-]", "_", self._host_data.provider_key),
            instance_id=self._host_data.instance_id or self._host_data.host_id,
            version=self._config.identity.version,
            description=f"{self._config.identity.contract_id}, link {self._host_data.link_name}",
            subject=subject,
            queue=queue,
        )
        await ServiceStatistics(self._counts, instance.statistics, names).serve(self._connection)
        self._tasks.start(self._calls.answer_overdue(), "answer overdue calls")
        self._tasks.start(self._telemetry.follow(instance.statistics), "follow statistics")
        _log.info("ready", extra={"subject": subject, "links": len(self._links.items())})
        await self._stopped.wait()
        await self._finish()

    def stop(self, reason: str) -> None:
        """Begin to stop. May be called more than once."""
        if not self._stopped.is_set():
            _log.info("stopping", extra={"reason": reason})
            self._stopped.set()

    async def _finish(self) -> None:
        """Finish the calls in flight within the host's patience, close the stores, then acknowledge."""
        family, began = self._host_data.family, self._loop.time()
        await self._stop_calls()
        await self._drain(_DRAIN_SECONDS[family])
        self._telemetry.snapshot()
        await self._tasks.close()
        closing = asyncio.ensure_future(self._links.close())
        left_seconds = began + _END_SECONDS[family] - self._loop.time()
        await asyncio.wait({closing}, timeout=max(left_seconds, _LEAST_CLOSE_SECONDS))
        await self._acknowledge_shutdown(self._shutdown_reply)
        _log.info("stopped")

    async def _drain(self, patience_seconds: float) -> None:
        """Finish the calls in flight, or fail them after that time."""
        await self._calls.drain(patience_seconds)

    # --- the part of one family

    @abstractmethod
    async def _start(self) -> None:
        """Subscribe in the lattice, apply the links of the host data, and follow the lattice's records."""

    @abstractmethod
    def _instance(self) -> tuple[Instance, str, str]:
        """Return the statistics of this process, and the subject and the queue group of calls."""

    @abstractmethod
    async def _stop_calls(self) -> None:
        """Have the server send calls to other instances."""

    @abstractmethod
    async def _acknowledge_shutdown(self, reply: bytes) -> None:
        """Send the last message, unless the reply subject is b""."""

    # --- events of the lattice

    def on_link(self, event: LinkEvent) -> None:
        match event:
            case LinkPut():
                self._counts.begin_link(event.key)
            case LinkDeleted():
                self._counts.end_link(event.key)
        self._links.apply(event)

    def unhealthy(self) -> str | None:
        return self._links.unhealthy()

    def notice(self) -> str | None:
        return self._links.notice()

    def health(self) -> tuple[bool, str]:
        """Tell whether health is well, with the message of it."""
        unhealthy = self.unhealthy()
        return unhealthy is None, "; ".join(text for text in (unhealthy, self.notice()) if text)

    def on_shutdown(self, reply: bytes) -> None:
        self._shutdown_reply = reply
        self.stop("the host asked for it")
