"""Three nats-servers in a cluster, whose routes go through proxies. They can be killed, frozen and cut off.

It needs neither root nor Docker. Clients connect to the servers directly, so a server that is cut off keeps its clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from nats.aio.client import Client

from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.raft import all_current, cluster_client, lagging, leader_of
from tests.blackbox.nats.tcp_proxy import Proxy

SIZE = 3


class Nodes(Protocol):
    """A running cluster that can have faults, wherever its servers run."""

    @property
    def names(self) -> Sequence[str]: ...

    def url(self, name: str) -> str:
        """Return the URL of a server for clients, which faults do not change."""
        ...

    async def leader(self, bucket: str) -> str:
        """Wait until a bucket's stream has a leader, and return its name."""
        ...

    async def all_current(self, bucket: str) -> None:
        """Wait until all replicas of a bucket have caught up."""
        ...

    async def step_down(self, bucket: str) -> None:
        """Ask a bucket's leader to hand over."""
        ...

    def kill(self, name: str) -> None:
        """End a server as a power cut does."""
        ...

    def start(self, name: str) -> None:
        """Start a server that was killed, with its store."""
        ...

    def freeze(self, name: str) -> None:
        """Stop the process of a server. Its connections stay open."""
        ...

    def thaw(self, name: str) -> None:
        """Continue the process of a frozen server."""
        ...

    def cut(self, sender: str, receiver: str, *, is_one_way: bool = False) -> None:
        """Drop all messages from one server to another, and those in the other direction unless it is one-way."""
        ...

    def heal(self) -> None:
        """Undo every cut."""
        ...


class Member(Protocol):
    """A server of a cluster."""

    @property
    def url(self) -> str: ...

    def kill(self) -> None: ...

    def start(self) -> object: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


AnyMember = TypeVar("AnyMember", bound=Member)


class ClusterMembers(Generic[AnyMember]):
    """The common part of all clusters; see `Nodes`.

    Attributes:
        members: Servers by name.
    """

    def __init__(self) -> None:
        self.members: dict[str, AnyMember] = {}
        self._stack = AsyncExitStack()
        self._client: Client | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def client(self) -> Client:
        """A connection to a living member."""
        assert self._client is not None, "the cluster is not running"
        return self._client

    @property
    def names(self) -> Sequence[str]:
        return list(self.members)

    def url(self, name: str) -> str:
        return self.members[name].url

    def urls(self, *without: str) -> str:
        """Return the URLs of members for clients, in the form of a link value."""
        return ",".join(self.url(name) for name in self.names if name not in without)

    async def leader(self, bucket: str) -> str:
        return await leader_of(self.client, bucket)

    async def all_current(self, bucket: str) -> None:
        await all_current(self.client, bucket, SIZE)

    async def step_down(self, bucket: str) -> None:
        await self.client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.KV_{bucket}", b"", timeout=5)

    def kill(self, name: str) -> None:
        self.members[name].kill()

    def start(self, name: str) -> None:
        self.members[name].start()

    def freeze(self, name: str) -> None:
        self.members[name].freeze()

    def thaw(self, name: str) -> None:
        self.members[name].thaw()


class Cluster(ClusterMembers[NatsServer]):
    """A cluster of server processes that accepts streams with three replicas; see `Nodes`. An async context manager.

    Args:
        folder: Folder for the files of the servers.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._routes: dict[tuple[str, str], Proxy] = {}

    async def __aenter__(self) -> Self:
        async with self._stack as stack:
            ports = {f"node{number}": free_port() for number in range(SIZE)}
            for name, port in ports.items():
                urls = []
                for other, other_port in ports.items():
                    if other != name:
                        route = self._routes[name, other] = await stack.enter_async_context(Proxy(other_port))
                        urls.append(route.url)
                # No server has the advertised address, so that none connects past the proxies.
                config = (
                    f"server_name: {name}\ncluster {{ name: c, listen: '127.0.0.1:{port}', advertise: '127.0.0.1:9', "
                    f"routes: [ {', '.join(urls)} ] }}"
                )
                self.members[name] = NatsServer(self._folder / name, config)
                stack.callback(self.members[name].kill)
            for server in self.members.values():
                server.start()
            urls = [server.url for server in self.members.values()]
            self._client = await stack.enter_async_context(cluster_client(urls, SIZE))
            self._stack = stack.pop_all()
        return self

    async def lagging(self, bucket: str) -> list[str]:
        """Return the servers whose replicas of a bucket have not caught up, as far as the leader knows."""
        return await lagging(self.client, bucket, SIZE) or []

    def cut(self, sender: str, receiver: str, *, is_one_way: bool = False) -> None:
        self._routes[sender, receiver].darken(replies=not is_one_way)
        self._routes[receiver, sender].darken(requests=not is_one_way)

    def cut_off(self, name: str) -> None:
        """Cut a server off from all others."""
        for other in self.names:
            if other != name:
                self.cut(name, other)

    def heal(self) -> None:
        for route in self._routes.values():
            route.lighten()
