"""A cluster of three nats-servers in containers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Self

from tests.blackbox.nats.cluster import SIZE, ClusterMembers
from tests.blackbox.nats.raft import cluster_client
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork

_ROUTE_PORT = 6222


class ContainerCluster(ClusterMembers[NatsNode]):
    """A cluster of `tests.blackbox.nats.cluster.Nodes` in containers. An async context manager.

    Methods that change nodes block for some tenths of a second, the time that Docker takes. A test with callers that must
    continue meanwhile calls them in a thread.

    Args:
        network: Network of the nodes, which are removed with it.
        image: Image of nats-server.
        config: Text that is added to the configuration of each server.
    """

    def __init__(self, network: ContainerNetwork, image: str, config: str = "") -> None:
        names = [f"node{number}" for number in range(SIZE)]
        super().__init__()
        for name in names:
            routes = ", ".join(f'"nats-route://{other}:{_ROUTE_PORT}"' for other in names if other != name)
            own = f'cluster {{ name: c, listen: "0.0.0.0:{_ROUTE_PORT}", routes: [ {routes} ] }}'
            self.members[name] = NatsNode(network, image, name, f"{own}\n{config}")

    async def __aenter__(self) -> Self:
        with ThreadPoolExecutor(SIZE) as threads:
            list(threads.map(NatsNode.start, self.members.values()))
        urls = [node.url for node in self.members.values()]
        self._client = await self._stack.enter_async_context(cluster_client(urls, SIZE))
        return self

    def stop(self, name: str) -> None:
        """Stop a node as an operator does."""
        self.members[name].stop()

    def cut(self, sender: str, receiver: str, *, is_one_way: bool = False) -> None:
        self.members[receiver].cut_from(self.members[sender], is_one_way=is_one_way)

    def cut_off(self, name: str) -> None:
        """Cut a node off from all others. Clients still reach it."""
        self.members[name].cut_from(*(node for node in self.members.values() if node.name != name))

    def rejoin(self, name: str) -> None:
        """Undo the cuts of a node."""
        self.members[name].mend()

    def heal(self) -> None:
        for name in self.names:
            self.rejoin(name)
