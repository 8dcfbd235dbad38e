"""A nats-server in a container that tests kill, freeze, restart, and whose network they cut or make lossy."""

from __future__ import annotations

from collections.abc import Mapping

from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from tests.blackbox.nats_server import greets
from tests.blackbox.waiting import eventually_blocking
from tests.containers import cutting
from tests.containers.networks import ContainerNetwork

CLIENT_PORT = 4222
_CONFIG_PATH = "/etc/nats/nats.conf"
_START_SECONDS = 20.0


class NatsNode:
    """One server. Its address, its name and what it stores stay the same across restarts.

    Its methods have the names of `NatsServer`'s, which runs one as a process. They block: a test whose callers must go on
    meanwhile calls them in a thread.

    Args:
        network: Where it is found by its name and its address.
        image: With a nats-server as its entry point.
        name: The server's and the container's.
        config: Text added to its configuration.
        jetstream: What its JetStream is told besides where to store; `None`: it has none.
        files: Further files: path in the container, contents.
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
        """Put a file into the container before it is started."""
        self._prepared.with_copy_into_container(contents, path)

    def start(self) -> None:
        """Start it, and return once it greets whoever connects."""
        if self._container is None:
            self._container = self._prepared.start().get_wrapped_container()
        else:
            self._container.start()
        eventually_blocking(lambda: greets(self.address, CLIENT_PORT), f"the server {self.name}", _START_SECONDS)

    def stop(self) -> None:
        """End it as an operator does."""
        self._running.stop(timeout=10)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._running.kill()
        self._running.wait()

    def freeze(self) -> None:
        """Stop its clock: connections stay open and nothing answers."""
        self._running.pause()

    def thaw(self) -> None:
        self._running.unpause()

    def cut_from(self, *others: NatsNode, is_one_way: bool = False) -> None:
        """Drop all packets between it and others, until `mend`.

        Args:
            others: Not clients: they go on reaching it.
            is_one_way: Whether only what comes in is dropped.
        """
        cutting.cut(self._running, *(other.address for other in others), is_one_way=is_one_way)

    def lose(self, probability: float) -> None:
        """Drop this part of the TCP packets that come in, from anybody, until `mend`."""
        cutting.lose(self._running, probability)

    def mend(self) -> None:
        """Undo cuts and losses; a restart does that too."""
        self._running.reload()
        if self._running.status == "running":
            cutting.mend(self._running)

    @property
    def _running(self) -> Container:
        assert self._container is not None, "the server has not been started"
        return self._container
