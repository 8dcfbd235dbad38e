"""The project's image as a lattice host runs it: the command is `docker run`, and it gets the host data."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import docker
from docker.models.containers import Container

from tests.blackbox.host_families import HostFamily
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import LatticeHost
from tests.containers.networks import ContainerNetwork
from tests.containers.ownership import labels

CONFINED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""The strictest confinement: the provider writes no file and needs no capability."""


class ContainedHost(LatticeHost):
    """A lattice host whose provider is a container of the image.

    Args:
        family: Kind of host.
        server_url: URL of the lattice's nats-server, for the host and the container.
        folder: Folder for the output of the provider.
        image: Image of the project.
        network: Network of the container, which is removed with it.
        mounted: Folder that is mounted read-only at the same path in the container.
        lattice: See `LatticeHost`.
        cluster: See `LatticeHost`.
    """

    def __init__(
        self,
        family: HostFamily,
        server_url: str,
        folder: Path,
        *,
        image: str,
        network: ContainerNetwork,
        mounted: Path | None = None,
        lattice: str | None = None,
        cluster: KeyPair | None = None,
    ) -> None:
        self._name = f"keyvalue-nats-{uuid.uuid4().hex[:12]}"
        options = ["--name", self._name, "--network", network.name, *CONFINED]
        for name, value in labels().items():
            options += ["--label", f"{name}={value}"]
        if mounted is not None:
            options += ["--volume", f"{mounted}:{mounted}:ro"]
        command = [docker_command(), "run", "--interactive", "--rm", *options, image]
        super().__init__(family, server_url, folder, lattice=lattice, cluster=cluster, command=command)

    def container(self, client: docker.DockerClient) -> Container:
        """Return the provider's container while it runs."""
        return client.containers.get(self._name)


def docker_command() -> str:
    """Return the path of the Docker command.

    Raises:
        FileNotFoundError: There is no such command.
    """
    found = shutil.which("docker")
    if found is None:
        raise FileNotFoundError("no docker command: apt-get install docker.io, or docker-cli")
    return found
