"""The content of the page: the state of a development lattice as JSON objects. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from operator import itemgetter

import msgspec

from provider.commands.dev.ui.callers import VALUE_CHARACTERS, Caller, Object
from provider.commands.dev_lattice.provider_process import LogEvent
from provider.commands.dev_lattice.start import DevLattice
from provider.commands.errors import CommandError
from provider.commands.instances import Instances, RunningInstance
from provider.commands.output import plain_result
from provider.errors import NatsError
from provider.keyvalue.given_values import canonical_values
from provider.keyvalue.link_values import LINK_VALUES
from provider.plain_text import cut

_CALLS_KEPT = 200
"""Calls that a page shows when it is opened: more than fit on a screen."""

_WAIT_SECONDS = 0.5
"""Time for the statistics of all instances, which run on this machine."""

_INVOCATIONS = ("invocation_served", "invocation_failed", "invocation_denied", "invocation_refused")


class LatticeView:
    """A development lattice as its page shows it.

    Args:
        lattice: The running lattice.
        caller: The linked actor or component.
        instances: Asks its provider processes for their statistics.
    """

    def __init__(self, lattice: DevLattice, caller: Caller, instances: Instances) -> None:
        self._lattice = lattice
        self._caller = caller
        self._instances = instances
        self._calls: deque[Object] = deque(maxlen=_CALLS_KEPT)
        self._readers: set[asyncio.Queue[Object]] = set()

    def note(self, event: LogEvent) -> None:
        """Take an event of a provider's log. Pages that are open are sent the calls at once."""
        fields = event.fields
        if event.name not in _INVOCATIONS or fields.get("actor_id") != self._lattice.identity.actor_id:
            return
        key = fields.get("key")
        call = {
            "time_ms": round(time.time() * 1000),
            "operation": self._caller.shown_operation(str(fields.get("operation", ""))),
            "key": cut(", ".join(map(str, key)) if isinstance(key, list) else str(key or ""), VALUE_CHARACTERS),
            "microseconds": fields.get("microseconds"),
            "instance": fields.get("instance"),
            "error": str(fields.get("error") or fields.get("reason") or ""),
        }
        self._calls.append(call)
        for reader in self._readers:
            reader.put_nowait(call)

    async def calls(self) -> AsyncIterator[Object]:
        """Yield the latest calls, then every further one."""
        reader: asyncio.Queue[Object] = asyncio.Queue()
        for call in self._calls:
            reader.put_nowait(call)
        self._readers.add(reader)
        try:
            while True:
                yield await reader.get()
        finally:
            self._readers.discard(reader)

    async def state(self) -> Object:
        """Return the lattice, its link, and what its provider processes tell of themselves."""
        settings, identity = self._lattice.settings, self._lattice.identity
        try:
            found = await self._instances.gather(_WAIT_SECONDS)
        except NatsError:
            found = []
        numbers = {host.identity.host_id: number for number, host in enumerate(self._lattice.hosts, 1)}
        return {
            "lattice": identity.lattice,
            "link_name": identity.link_name,
            "caller": {"kind": self._caller.kind, "id": identity.actor_id, "knows_entries": self._caller.knows_entries},
            "values": {"BACKEND": "cache" if settings.is_cache else "bucket"} | _shown_values(settings.link_values),
            "instances": sorted((self._instance(one, numbers) for one in found), key=itemgetter("number")),
            "silent_instances": len(numbers) - len(found),
        }

    async def keys(self, prefix: str, cursor: str) -> Object:
        """Return one page of keys; see `Caller.keys`."""
        return await self._caller.keys(prefix, cursor)

    async def call(self, words: list[str], expires: int | None) -> Object:
        """Send an operation as the caller, and return its result or the error.

        Args:
            words: Name of the operation and its arguments, as `keyvalue-nats call` takes them.
            expires: Seconds until a written text expires; None: not given.
        """
        began = time.perf_counter()
        try:
            operation, result = await self._caller.call(words, expires)
        except CommandError as error:
            return {"error": str(error)}
        return {
            "operation": operation,
            "lines": plain_result(result),
            "result": msgspec.to_builtins(result),
            "microseconds": round((time.perf_counter() - began) * 1e6),
        }

    def _instance(self, found: RunningInstance, numbers: dict[str, int]) -> Object:
        """Return one provider process, with the calls of the caller but not those of the page."""
        data = found.data
        links = [link for link in data.links if link.actor_id == self._lattice.identity.actor_id]
        return {
            "number": numbers.get(data.host_id, 0),
            "version": found.version,
            "is_healthy": data.is_healthy,
            "message": data.message,
            "uptime_seconds": data.uptime_seconds,
            "succeeded": sum(sum(link.succeeded.values()) for link in links),
            "failed": sum(sum(link.failed.values()) for link in links) + sum(data.refused.values()),
            "seconds": sum(link.seconds for link in links),
            "caches": [msgspec.to_builtins(one) for one in data.caches],
        }


def _shown_values(values: dict[str, str]) -> dict[str, str]:
    """Return the link values by their names, without secrets."""
    known = canonical_values(values).known
    return {name: "(secret)" if LINK_VALUES[name].is_secret else text for name, text in known.items()}
