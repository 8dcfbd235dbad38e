"""A nats-server in a container of its own image: its statically linked binary on nothing. No image is pulled.

Where Docker runs, this tier runs; where it does not, it is skipped, unless this is CI.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider.dev.nats_server import find_binary

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its reaper's image would have to be pulled
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

IMAGE = "local/nats-server-of-the-tests"
LABEL = "wasmcloud-keyvalue-nats.tests"
DOCKERFILE = 'FROM scratch\nCOPY nats-server /nats-server\nENTRYPOINT ["/nats-server"]\n'


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        if os.environ.get("CI") and shutil.which("docker"):
            raise
        pytest.skip(f"no Docker: {error}")
    with_label = {"label": LABEL}
    for left_behind in client.containers.list(all=True, filters=with_label):
        left_behind.remove(force=True, v=True)
    yield client
    client.close()


@pytest.fixture(scope="session")
def nats_image(docker_client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("nats-image")
    shutil.copy(find_binary(), folder / "nats-server")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    docker_client.images.build(path=str(folder), tag=IMAGE, rm=True, forcerm=True)
    return IMAGE


@pytest.fixture
def nats_container(nats_image: str) -> Iterator[DockerContainer]:
    container = (
        DockerContainer(nats_image)
        .with_command("-js -sd /data -a 0.0.0.0")
        .with_exposed_ports(4222)
        .with_name(f"nats-{uuid.uuid4().hex[:12]}")
        .with_kwargs(labels={LABEL: "1"})
        .waiting_for(LogMessageWaitStrategy("Server is ready"))
    )
    with container:
        yield container
