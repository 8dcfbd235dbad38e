"""Labels of containers and networks that name the run which made them, so that the next run removes those of a dead one.

This module is imported before testcontainers, whose own reaper is an image that would have to be pulled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")

OWNER_LABEL = "wasmcloud-keyvalue-nats.tests.owner"


def owner() -> str:
    """Return a unique name of this process: boot id, process id and start time."""
    return f"{_boot()}/{os.getpid()}/{_started(os.getpid())}"


def is_alive(name: str) -> bool:
    """Return whether the process that an owner label names still runs."""
    boot, _, rest = name.partition("/")
    pid, _, started = rest.partition("/")
    return boot == _boot() and pid.isdigit() and started == _started(int(pid)) != ""


def labels() -> dict[str, str]:
    """Return the labels of all containers and networks of this run."""
    return {OWNER_LABEL: owner()}


def remove_abandoned(client: docker.DockerClient) -> list[str]:
    """Remove the containers and networks of runs that are over, and return their names."""
    return _remove(client, lambda name: not is_alive(name))


def remove_own(client: docker.DockerClient) -> list[str]:
    """Remove the remaining containers and networks of this run, and return their names."""
    own = owner()
    return _remove(client, lambda name: name == own)


def _remove(client: docker.DockerClient, is_due: Callable[[str], bool]) -> list[str]:
    removed = []
    with_label = {"label": OWNER_LABEL}
    for container in client.containers.list(all=True, filters=with_label, ignore_removed=True):
        if is_due(container.labels[OWNER_LABEL]):
            with contextlib.suppress(NotFound, APIError):  # another run removes it as well
                container.remove(force=True, v=True)
                removed.append(container.name)
    for network in client.networks.list(filters=with_label):
        if is_due(network.attrs["Labels"][OWNER_LABEL]):
            with contextlib.suppress(NotFound, APIError):
                network.remove()
                removed.append(network.name)
    return removed


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _started(pid: int) -> str:
    """Return the start time of a process in ticks since the boot, or "" if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(") ")[2].split()[19]
