"""The wheel in a fresh environment: the command that pip, pipx and uv install works under a host."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.blackbox.host_families import FAMILIES, HostFamily
from tests.blackbox.lattice_host import PROJECT_FOLDER, LatticeHost
from tests.blackbox.nats.nats_server import NatsServer


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel. It uses the dependencies of this one, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT_FOLDER))
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    run(*pip, "--python", str(environment / "bin" / "python"), "install", "--no-deps", str(wheel))
    packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return environment


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_says_that_its_packages_have_types(environment: Path) -> None:
    packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    assert (packages / "provider" / "py.typed").is_file()
    assert (packages / "contracts" / "py.typed").is_file()


def test_the_installed_command_is_that_of_the_wheel_and_knows_its_version(environment: Path) -> None:
    python = str(environment / "bin" / "python")
    places = "import contracts, provider; print(contracts.__path__[0], provider.__path__[0])"
    assert all(place.startswith(str(environment)) for place in run(python, "-c", places).split())
    version = run(str(environment / "bin" / "keyvalue-nats"), "--version").strip()
    assert f'version = "{version}"' in (PROJECT_FOLDER / "provider.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_a_host_starts_the_command_with_no_environment(
    environment: Path, nats_server: NatsServer, tmp_path: Path, family: HostFamily
) -> None:
    command = [str(environment / "bin" / "keyvalue-nats")]
    async with LatticeHost(family, nats_server.url, tmp_path, command=command) as host:
        actor = host.actor()
        await host.start_provider([host.link(actor)])
        await host.set(actor, "k", "v")
        assert await host.get(actor, "k") == "v"
        await host.shutdown()
        assert await host.provider.exited() == 0
