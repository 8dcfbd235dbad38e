"""The connector's image as a sidecar: confined, small in memory, with a socket in a folder shared with the actor."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.blackbox.connector_process import UnixConnection
from tests.blackbox.nats.nats_buckets import make_bucket
from tests.blackbox.waiting import eventually_blocking
from tests.containers import images
from tests.containers.conftest import cannot_run
from tests.containers.nats_node import NatsNode
from tests.containers.ownership import labels
from tests.containers.provider_container import CONFINED, docker_command

BUCKET = "state"
LIMIT_BYTES = 32 * 1024 * 1024
REQUESTS = 4_000
START_SECONDS = 20.0


@pytest.fixture(scope="session")
def connector_image(docker_client: docker.DockerClient) -> str:
    try:
        return images.project_image(docker_client, "state-proxy")
    except images.CannotBuildError as error:
        cannot_run(str(error))


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """A path in a folder that another user may write to, like a pod's shared volume."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder / "connector.sock"


@pytest.fixture
def container(
    docker_client: docker.DockerClient, connector_image: str, node: NatsNode, socket_path: Path
) -> Iterator[Container]:
    """A connector on a bucket of its own, ready to serve."""
    bucket = f"state_{uuid.uuid4().hex[:8]}"
    make_bucket(node.url, bucket)
    name = f"state-proxy-{uuid.uuid4().hex[:12]}"
    options = ["--name", name, "--network", "host", *CONFINED, "--volume", f"{socket_path.parent}:/shared"]
    for label, value in labels().items():
        options += ["--label", f"{label}={value}"]
    for variable in ("CONNECTOR_SOCKET=/shared/connector.sock", f"NATS_URL={node.url}", f"NATS_KV_BUCKET={bucket}"):
        options += ["--env", variable]
    subprocess.run(
        [docker_command(), "run", "--detach", *options, connector_image], check=True, capture_output=True, text=True
    )
    started = docker_client.containers.get(name)
    try:
        eventually_blocking(socket_path.exists, "the socket", START_SECONDS)
        yield started
    finally:
        started.remove(force=True)


def resident_bytes(container: Container) -> int:
    top = container.top(ps_args="-o pid,rss")
    return int(top["Processes"][0][top["Titles"].index("RSS")]) * 1024


def test_the_image_starts_the_connector_as_a_numbered_user(
    docker_client: docker.DockerClient, connector_image: str
) -> None:
    config = docker_client.images.get(connector_image).attrs["Config"]
    assert config["Entrypoint"] == ["keyvalue-nats", "state-proxy"]
    assert int(config["User"].partition(":")[0]) > 0
    assert config["Labels"]["org.opencontainers.image.title"] == "asya-state-proxy-nats-kv-buffered-cas"


def test_a_start_compiles_nothing(connector_image: str) -> None:
    script = "import provider.__main__, provider.state_proxy.run, encodings.idna"
    command = [
        docker_command(),
        "run",
        "--rm",
        *CONFINED,
        "--entrypoint",
        "python",
        connector_image,
        "-v",
        "-c",
        script,
    ]
    stderr = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    loaded = [line for line in stderr.splitlines() if line.startswith("# code object from ")]
    assert len(loaded) > 100
    assert [line for line in loaded if line.endswith(".py")] == []


def test_the_connector_serves_the_shared_folder_within_its_memory_and_ends_in_order(
    container: Container, socket_path: Path
) -> None:
    with UnixConnection(socket_path) as client:
        assert client.ask("GET", "/healthz").json == {"status": "ready"}
        assert resident_bytes(container) <= LIMIT_BYTES
        for number in range(REQUESTS // 2):
            assert client.ask("PUT", f"/keys/{number}.json", b"x" * 500).status == 204
            assert client.ask("GET", f"/keys/{number}.json").body == b"x" * 500
        print(f"{resident_bytes(container) / 2**20:.1f} MiB after {REQUESTS} requests")
        assert resident_bytes(container) <= LIMIT_BYTES
    container.kill(signal.SIGINT)
    assert container.wait(timeout=10)["StatusCode"] == 0
    assert not socket_path.exists()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (["--tmpfs", "/tmp"], "NATS_KV_BUCKET: bucket 'absent' does not exist"),
        ([], "CONNECTOR_SOCKET: Read-only file system"),
    ],
    ids=["without its bucket", "without a folder for its socket"],
)
def test_the_connector_exits_with_an_error(
    connector_image: str, node: NatsNode, folder: list[str], reason: str
) -> None:
    variables = ["--env", "CONNECTOR_SOCKET=/tmp/s", "--env", f"NATS_URL={node.url}", "--env", "NATS_KV_BUCKET=absent"]
    done = subprocess.run(
        [docker_command(), "run", "--rm", "--network", "host", *CONFINED, *folder, *variables, connector_image],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == f"keyvalue-nats state-proxy: {reason}\n"
