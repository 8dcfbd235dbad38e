"""The next run removes the containers and networks of a killed run, and no others."""

from __future__ import annotations

import os
import subprocess
import sys

import docker

from tests.blackbox.waiting import eventually_blocking
from tests.containers.ownership import is_alive, labels, owner, remove_abandoned

KILLED_RUN = """
import os, signal, sys
import docker
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork
with ContainerNetwork(docker.from_env()) as network:
    NatsNode(network, sys.argv[1], "left-behind").start()
    print(network.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_owner_is_alive_while_its_process_runs_and_a_process_id_alone_is_not_an_owner() -> None:
    boot, pid, started = owner().split("/")
    assert is_alive(owner())
    assert not is_alive(f"{boot}/{pid}/{int(started) + 1}")
    assert not is_alive(f"another-boot/{pid}/{started}")
    assert not is_alive("")


def test_containers_of_a_killed_run_are_removed_at_the_start_of_the_next(
    docker_client: docker.DockerClient, nats_image: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, nats_image], capture_output=True, text=True, check=False, env=os.environ
    )
    name = killed.stdout.strip()
    assert name, killed.stderr
    network = docker_client.networks.get(name)
    assert len(network.attrs["Containers"]) == 1
    mine = docker_client.networks.create("wasmcloud-keyvalue-nats-mine", labels=labels())
    try:
        removed = remove_abandoned(docker_client)
        assert name in removed
        assert len(removed) == 2
        assert mine.name in {network.name for network in docker_client.networks.list()}
    finally:
        mine.remove()
    eventually_blocking(lambda: not docker_client.networks.list(names=[name]), "the removal of its network")
