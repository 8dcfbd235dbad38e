"""A network of containers in which each container keeps its address until it is removed, across restarts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import docker
from docker.types import IPAMConfig, IPAMPool
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.containers.ownership import labels

_FIRST_ADDRESS = 10  # the first addresses belong to the gateway and to Docker


class ContainerNetwork:
    """A network, as a context manager that removes it with all of its containers."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._network: Network | None = None
        self._addresses: Iterator[object] = iter(())

    @property
    def name(self) -> str:
        assert self._network is not None, "the network has not been made"
        return self._network.name

    def __enter__(self) -> Self:
        # Docker accepts a fixed address only in a subnet that was given. So a first network finds a free subnet.
        with Network(docker_network_kw={"labels": labels()}) as chosen:
            subnet = self._client.networks.get(chosen.name).attrs["IPAM"]["Config"][0]["Subnet"]
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        self._network = Network(docker_network_kw={"labels": labels(), "ipam": ipam}).create()
        self._addresses = iter(list(ipaddress.ip_network(subnet).hosts())[_FIRST_ADDRESS:250])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._network is not None
        for container in self._client.containers.list(all=True, filters={"network": self.name}, ignore_removed=True):
            container.remove(force=True, v=True)
        self._network.remove()

    def free_address(self) -> str:
        """Return an address that no container of the network has used."""
        return str(next(self._addresses))

    def container(self, image: str, name: str, address: str, **options: Any) -> DockerContainer:
        """Prepare a container with a fixed address, and a name by which others in the network find it."""
        endpoint = self._client.api.create_endpoint_config(aliases=[name], ipv4_address=address)
        return DockerContainer(image).with_kwargs(
            labels=labels(), network=self.name, networking_config={self.name: endpoint}, **options
        )
