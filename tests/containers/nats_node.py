"""A nats-server in a container that tests kill, freeze and restart, and whose network they cut or make lossy."""

from __future__ import annotations

from collections.abc import Mapping

from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from tests.blackbox.nats.nats_server import greets
from tests.blackbox.waiting import eventually_blocking
from tests.containers import cutting
from tests.containers.networks import ContainerNetwork

CLIENT_PORT = 4222
_CONFIG_PATH = "/etc/nats/nats.conf"
_START_SECONDS = 20.0


class NatsNode:
    """A server. Its address, its name and its store survive restarts.

    It has the methods of `NatsServer`, which is a process. They block; a test with callers that must continue meanwhile
    calls them in a thread.

    Args:
        network: Network of the container.
        image: Image with nats-server as its entry point.
        name: Name of the server and of the container.
        config: Text that is added to its configuration.
        jetstream: Further JetStream settings; `None`: no JetStream.
        files: Contents of further files by their path in the container.
    """

    def __init__(
        self,
        network: ContainerNetwork,
        image: str,
        name: str,
        config: str = "",
        *,
        jetstream: str | None = "",
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.name = name
        self.address = network.free_address()
        lines = [f"server_name: {name}", f'listen: "0.0.0.0:{CLIENT_PORT}"']
        if jetstream is not None:
            lines.append(f'jetstream {{ store_dir: "/data", {jetstream} }}')
        self._prepared: DockerContainer = network.container(image, name, self.address)
        self._prepared.with_command(f"-c {_CONFIG_PATH}")
        for path, contents in {_CONFIG_PATH: "\n".join([*lines, config, ""]).encode(), **(files or {})}.items():
            self.add_file(path, contents)
        self._container: Container | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.address}:{CLIENT_PORT}"

    @property
    def log(self) -> str:
        text: str = self._running.logs().decode(errors="replace")
        return text

    def add_file(self, path: str, contents: bytes) -> None:
        """Copy a file into the container before its start."""
        self._prepared.with_copy_into_container(contents, path)

    def start(self) -> None:
        """Start, and return once the server greets new connections."""
        if self._container is None:
            self._container = self._prepared.start().get_wrapped_container()
        else:
            self._container.start()
        eventually_blocking(lambda: greets(self.address, CLIENT_PORT), f"the server {self.name}", _START_SECONDS)

    def stop(self) -> None:
        """Stop the server as an operator does."""
        self._running.stop(timeout=10)

    def kill(self) -> None:
        """End the server as a power cut does."""
        self._running.kill()
        self._running.wait()

    def freeze(self) -> None:
        """Stop the process. Its connections stay open, but it does not answer."""
        self._running.pause()

    def thaw(self) -> None:
        self._running.unpause()

    def cut_from(self, *others: NatsNode, is_one_way: bool = False) -> None:
        """Drop all packets between this node and others, until `mend`. Clients still reach it.

        Args:
            *others: Other nodes.
            is_one_way: Whether only incoming packets are dropped.
        """
        cutting.cut(self._running, *(other.address for other in others), is_one_way=is_one_way)

    def lose(self, probability: float) -> None:
        """Drop a share of all incoming TCP packets, until `mend`."""
        cutting.lose(self._running, probability)

    def mend(self) -> None:
        """Undo cuts and losses. A restart does the same."""
        self._running.reload()
        if self._running.status == "running":
            cutting.mend(self._running)

    @property
    def _running(self) -> Container:
        assert self._container is not None, "the server has not been started"
        return self._container
