"""Provider processes, one for each server of a cluster, and buckets that all of them serve."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.nats.cluster import Nodes
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor

ANSWER_SECONDS = 2.2
"""Time limit of a call."""


class Served(NamedTuple):
    """A bucket, and an actor linked to it for each server, by the name of the server that its provider is connected to."""

    bucket: str
    actors: dict[str, Actor]


class Providers:
    """A provider for each server of a cluster, on a lattice of its own. An async context manager.

    Args:
        nodes: The cluster.
        lattice_url: URL of a server that has no faults.
        folder: Folder for the output of the providers.
    """

    def __init__(self, nodes: Nodes, lattice_url: str, folder: Path) -> None:
        self.nodes = nodes
        self._lattice_url = lattice_url
        self._folder = folder
        self._hosts: dict[str, LatticeHost] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack as stack:
            for name in self.nodes.names:
                host = LatticeHost(RUST, self._lattice_url, self._folder / f"provider-of-{name}")
                self._hosts[name] = await stack.enter_async_context(host)
                await host.start_provider()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logs = [host.provider.stderr for host in self._hosts.values()]
        await self._stack.aclose()
        if error is None:
            assert not [log for log in logs if "Traceback" in log], logs

    @asynccontextmanager
    async def serving(self, **values: str) -> AsyncIterator[Served]:
        """Link an actor of each provider to a new bucket of three replicas, each over its own server, for the length of a block.

        Args:
            **values: Further link values.
        """
        bucket = f"own-{uuid.uuid4().hex[:12]}"
        async with AsyncExitStack() as stack:
            actors = {}
            for name, host in self._hosts.items():
                url = self.nodes.url(name)
                link = host.link(host.actor(), {"BUCKET": bucket, "REPLICAS": "3", "URL": url} | values)
                stack.push_async_callback(host.delete_link, link)
                await host.put_link(link)
                actors[name] = Actor(host, link["actor_id"], bucket, ANSWER_SECONDS)
            await asyncio.gather(*(served(actor) for actor in actors.values()))
            await self.nodes.all_current(bucket)
            yield Served(bucket, actors)


async def served(actor: Actor) -> None:
    """Wait until a link is served."""

    async def is_served() -> bool:
        try:
            return await actor.increment("started") > 0
        except CallFailedError:
            return False

    await eventually(is_served, "a link that is served", 20)
