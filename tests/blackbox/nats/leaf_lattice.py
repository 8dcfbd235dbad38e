"""A lattice over several nats-servers: a hub and leaf nodes, whose links can be cut, frozen and healed."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.nats.tcp_proxy import Proxy
from tests.blackbox.waiting import eventually

_PROBE_SUBJECT = "leaf-lattice.probe"
_RECONNECT = "50ms"
_JOIN_SECONDS = 10.0


class LeafLattice:
    """A hub, which is the first server, and leaf nodes, all without JetStream. An async context manager.

    Args:
        folder: Folder for the files of the servers.
        count: Number of servers, with the hub.
        config: Text that is added to the configuration of each server.
    """

    def __init__(self, folder: Path, count: int, config: str = "") -> None:
        self._folder = folder
        self._count = count
        self._config = config
        self._stack = AsyncExitStack()
        self._links: dict[int, Proxy] = {}
        self._probes: list[Client] = []
        self._received: set[tuple[int, bytes]] = set()
        self.servers: list[NatsServer] = []

    async def __aenter__(self) -> Self:
        async with self._stack as stack:
            leaf_port = free_port()
            # Not advertised, or leaf nodes would connect past the proxy that cuts their link.
            hub_config = f'{self._config}\nserver_name: "hub"\nleafnodes {{ listen: "127.0.0.1:{leaf_port}", no_advertise: true }}'
            self._start(stack, NatsServer(self._folder / "hub", hub_config, has_jetstream=False))
            for number in range(1, self._count):
                link = await stack.enter_async_context(Proxy(leaf_port))
                self._links[number] = link
                remote = f'remotes: [{{ url: "nats-leaf://127.0.0.1:{link.port}" }}], reconnect: "{_RECONNECT}"'
                config = f'{self._config}\nserver_name: "leaf{number}"\nleafnodes {{ {remote} }}'
                self._start(stack, NatsServer(self._folder / f"leaf{number}", config, has_jetstream=False))
            for number, server in enumerate(self.servers):
                self._probes.append(await self._probe(stack, number, server))
            await self.joined()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def cut(self, *numbers: int) -> None:
        """Close the links of some leaf nodes, by default of all, and refuse new ones."""
        for link in self._chosen(numbers):
            link.refuse()

    def freeze(self, *numbers: int) -> None:
        """Delay all messages on the links of some leaf nodes, by default of all. The links stay open."""
        for link in self._chosen(numbers):
            link.hold()

    def thaw(self, *numbers: int) -> None:
        """Deliver the delayed messages of frozen links."""
        for link in self._chosen(numbers):
            link.release()

    def mend(self, *numbers: int) -> None:
        """Undo cuts and freezes, without waiting for the links."""
        for link in self._chosen(numbers):
            link.admit()
            link.release()

    async def heal(self, *numbers: int) -> None:
        """Undo cuts and freezes, and wait until every server receives messages of every other."""
        self.mend(*numbers)
        await self.joined()

    async def joined(self) -> None:
        """Wait until a message of each server has arrived at every other."""
        numbers = range(self._count)
        await asyncio.gather(*(self._crosses(a, b, _JOIN_SECONDS) for a in numbers for b in numbers if a != b))

    async def is_connected(self, sender: int, receiver: int, seconds: float = 0.3) -> bool:
        """Return whether a message published at one server arrives at another in time."""
        try:
            await self._crosses(sender, receiver, seconds)
        except AssertionError:
            return False
        return True

    def _chosen(self, numbers: tuple[int, ...]) -> list[Proxy]:
        return [self._links[number] for number in numbers or self._links]

    def _start(self, stack: AsyncExitStack, server: NatsServer) -> None:
        server.start()
        stack.callback(server.kill)
        self.servers.append(server)

    async def _probe(self, stack: AsyncExitStack, number: int, server: NatsServer) -> Client:
        client = await patient_client(server.url)
        stack.push_async_callback(client.close)

        async def receive(message: Msg) -> None:
            self._received.add((number, message.data))

        await client.subscribe(_PROBE_SUBJECT, cb=receive)
        await client.flush()
        return client

    async def _crosses(self, sender: int, receiver: int, seconds: float) -> None:
        nonce = uuid.uuid4().bytes

        async def has_arrived() -> bool:
            client = self._probes[sender]
            if client.is_connected and (receiver, nonce) not in self._received:
                await client.publish(_PROBE_SUBJECT, nonce)
            return (receiver, nonce) in self._received

        await eventually(has_arrived, f"a message of server {sender} at server {receiver}", seconds)
