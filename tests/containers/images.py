"""The images of the tier: nats-server alone, a Python base, and the project's own. None of them must be pulled.

The tag of an image is a hash of its inputs, so that it is built once for all runs on a machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from tests.blackbox.nats.nats_server import find_binary

PROJECT_FOLDER = Path(__file__).parent.parent.parent
DEFAULT_BASE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
"""The Python that runs the tests collects the wheels, so the base needs the same version."""

_LOCK = Path(tempfile.gettempdir()) / "wasmcloud-keyvalue-nats-images.lock"
_NATS_DOCKERFILE = """\
FROM scratch
COPY nats-server /nats-server
VOLUME /data
ENTRYPOINT ["/nats-server"]
"""
_WHEELS_DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY wheelhouse /wheelhouse
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheelhouse
"""
_SUITE = "bookworm"  # whose Python is 3.11
_PACKAGES = "python3,python3-venv,ca-certificates,netbase,tzdata,coreutils,bash,dash,base-files,base-passwd"
_HOOKS = (  # no maintainer script has run
    'cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"',
    'cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"',
    'ln -s python3 "$1/usr/bin/python"',
)
_SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "provider.toml", "README.md", "LICENSE")
_SOURCE_FOLDERS = ("contracts", "image", "provider")


class CannotBuildError(Exception):
    """This machine lacks a tool. The text names the package to install."""


def nats_image(client: docker.DockerClient) -> str:
    """Return an image with the nats-server of the test dependencies, or with the one that the environment names."""
    binary = Path(find_binary())
    tag = f"local/nats-server:{_digest(_NATS_DOCKERFILE.encode(), binary.read_bytes())}"
    with _making(client, tag) as is_wanted:
        if is_wanted:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(binary, Path(folder) / "nats-server")
                _build(client, Path(folder), tag, _NATS_DOCKERFILE)
    return tag


def python_base(client: docker.DockerClient) -> str:
    """Return the base of the project's image: the default, if it can be pulled, or else one built from Debian's packages.

    Raises:
        CannotBuildError: The default cannot be pulled, and none can be built.
    """
    if _has(client, DEFAULT_BASE):
        return DEFAULT_BASE
    made = f"local/python-base:{_digest(_SUITE.encode(), _PACKAGES.encode(), *map(str.encode, _HOOKS))}"
    with _making(client, made) as is_wanted:
        if not is_wanted:
            return made
        try:
            client.images.pull(DEFAULT_BASE)
        except DockerException as error:
            _make_base(client, made, f"{DEFAULT_BASE} cannot be pulled ({error})")
            return made
    return DEFAULT_BASE


def build_image(client: docker.DockerClient) -> str:
    """Return the base with the wheels of all dependencies, so that builds need no network.

    Raises:
        CannotBuildError: There is no base.
    """
    base = python_base(client)
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["otel"],
    ]
    tag = (
        f"local/python-wheels:{_digest(_identity(client, base), _WHEELS_DOCKERFILE.encode(), *map(str.encode, wanted))}"
    )
    with _making(client, tag) as is_wanted:
        if is_wanted:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", f"{folder}/wheelhouse"]
                subprocess.run([*command, *wanted], check=True)
                _build(client, Path(folder), tag, _WHEELS_DOCKERFILE, BASE_IMAGE=base)
    return tag


def project_image(client: docker.DockerClient, target: str = "") -> str:
    """Return the project's image, or that of another target, built from this checkout.

    Raises:
        CannotBuildError: There is no base.
    """
    base, build = python_base(client), build_image(client)
    sources = [PROJECT_FOLDER / name for name in _SOURCES]
    for folder in _SOURCE_FOLDERS:
        sources += sorted(path for path in (PROJECT_FOLDER / folder).rglob("*") if path.suffix not in {".pyc", ""})
    name = "-".join(filter(None, ("wasmcloud-keyvalue-nats", target)))
    tag = f"local/{name}:{_digest(_identity(client, build), *(path.read_bytes() for path in sources))}"
    with _making(client, tag) as is_wanted:
        if is_wanted:
            _build(client, PROJECT_FOLDER, tag, None, target, BASE_IMAGE=base, BUILD_IMAGE=build)
    return tag


@contextlib.contextmanager
def _making(client: docker.DockerClient, tag: str) -> Iterator[bool]:
    """Hold the lock of the machine, and yield whether the image must still be built."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not _has(client, tag)


def _has(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True


def _identity(client: docker.DockerClient, tag: str) -> bytes:
    identity: str = client.images.get(tag).id
    return identity.encode()


def _build(
    client: docker.DockerClient, folder: Path, tag: str, dockerfile: str | None, target: str = "", **arguments: str
) -> None:
    if dockerfile is not None:
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    try:
        client.images.build(path=str(folder), tag=tag, target=target, buildargs=arguments, rm=True, forcerm=True)
    except BuildError as error:
        output = "".join(line.get("stream", "") for line in error.build_log)
        raise AssertionError(f"{tag} does not build: {error}\n{output[-2000:]}") from None


def _make_base(client: docker.DockerClient, tag: str, why: str) -> None:
    if shutil.which("mmdebstrap") is None or platform.system() != "Linux":
        raise CannotBuildError(f"{why}, and there is no mmdebstrap to make a base with: apt-get install mmdebstrap")
    hooks = [f"--extract-hook={hook}" for hook in _HOOKS]
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/base.tar"
        options = ["--quiet", "--variant=extract", f"--include={_PACKAGES}", *hooks]
        made = subprocess.run(["mmdebstrap", *options, _SUITE, archive], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise CannotBuildError(f"{why}, and mmdebstrap fails: {made.stderr.strip()}")
        repository, _, version = tag.partition(":")
        try:
            client.api.import_image_from_file(
                archive, repository, version, changes=["ENV PATH=/usr/local/bin:/usr/bin:/bin"]
            )
        except APIError as error:
            raise CannotBuildError(f"{why}, and Docker does not import a base: {error}") from None


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
