"""Three nats-servers in a cluster, every route of which goes through a proxy: they are killed, frozen and cut apart.

Needs neither root nor Docker. Clients connect to the servers themselves, so a server that is cut off keeps its clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from nats.aio.client import Client

from tests.blackbox.nats_server import NatsServer, free_port
from tests.blackbox.proxy import Proxy
from tests.blackbox.raft import all_current, cluster_client, lagging, leader_of

SIZE = 3


class Nodes(Protocol):
    """A running cluster to which faults can be done, wherever its servers run."""

    @property
    def names(self) -> Sequence[str]: ...

    def url(self, name: str) -> str:
        """Return where clients reach a server; the same whatever is done to it."""
        ...

    async def leader(self, bucket: str) -> str:
        """Return which server leads a bucket's stream, as soon as one does."""
        ...

    async def all_current(self, bucket: str) -> None:
        """Wait until every replica of a bucket has caught up."""
        ...

    async def step_down(self, bucket: str) -> None:
        """Ask a bucket's leader to let another one lead."""
        ...

    def kill(self, name: str) -> None:
        """End a server as a power cut does."""
        ...

    def start(self, name: str) -> None:
        """Start a server that was killed, with what it stored."""
        ...

    def freeze(self, name: str) -> None:
        """Stop a server's clock; its connections stay open."""
        ...

    def thaw(self, name: str) -> None:
        """Let a frozen server go on."""
        ...

    def cut(self, sender: str, receiver: str, *, is_one_way: bool = False) -> None:
        """Drop what one server sends to another, and what it is sent by it."""
        ...

    def heal(self) -> None:
        """Undo every cut."""
        ...


class Member(Protocol):
    """One server of a cluster."""

    @property
    def url(self) -> str: ...

    def kill(self) -> None: ...

    def start(self) -> object: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


AnyMember = TypeVar("AnyMember", bound=Member)


class Members(Generic[AnyMember]):
    """What a cluster does alike wherever its servers run; see `Nodes`.

    Attributes:
        members: By name.
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
        """A connection to whichever member lives."""
        assert self._client is not None, "the cluster is not running"
        return self._client

    @property
    def names(self) -> Sequence[str]:
        return list(self.members)

    def url(self, name: str) -> str:
        return self.members[name].url

    def urls(self, *without: str) -> str:
        """Return where clients reach the members, as link values have it."""
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


class Cluster(Members[NatsServer]):
    """A cluster of server processes; see `Nodes`. An async context manager, ready for streams of three replicas.

    Args:
        folder: Where the servers keep what they write.
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
                # The advertised address is one that nobody has, so that no server goes past the proxies.
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
        """Return the servers whose replicas of a bucket have not caught up, as far as somebody says."""
        return await lagging(self.client, bucket, SIZE) or []

    def cut(self, sender: str, receiver: str, *, is_one_way: bool = False) -> None:
        self._routes[sender, receiver].darken(replies=not is_one_way)
        self._routes[receiver, sender].darken(requests=not is_one_way)

    def cut_off(self, name: str) -> None:
        """Cut one server off from all others."""
        for other in self.names:
            if other != name:
                self.cut(name, other)

    def heal(self) -> None:
        for route in self._routes.values():
            route.lighten()
