"""Faults of a container's network, made from the host in its namespace: the image needs no tools, but the host needs root."""

from __future__ import annotations

import os
import shutil
import subprocess

from docker.models.containers import Container


def cut(container: Container, *addresses: str, is_one_way: bool = False) -> None:
    """Drop all packets between a container and some addresses.

    Args:
        container: Running container, with which the rules end.
        addresses: Addresses of the others.
        is_one_way: Whether only incoming packets are dropped.
    """
    for address in addresses:
        _filter(container, "-A", "INPUT", "-s", address, "-j", "DROP")
        if not is_one_way:
            _filter(container, "-A", "OUTPUT", "-d", address, "-j", "DROP")


def lose(container: Container, probability: float) -> None:
    """Drop a share of all incoming TCP packets."""
    chance = ("-m", "statistic", "--mode", "random", "--probability", str(probability))
    _filter(container, "-A", "INPUT", "-p", "tcp", *chance, "-j", "DROP")


def mend(container: Container) -> None:
    """Undo cuts and losses."""
    _filter(container, "-F")


def what_cutting_lacks() -> str:
    """Return the tools that this machine lacks to cut networks, or "" if it has all."""
    if os.geteuid() != 0:
        return "only root may cut the network of a container"
    missing = {"nsenter": "util-linux", "iptables": "iptables"}
    packages = [package for command, package in missing.items() if shutil.which(command) is None]
    return f"the network of a container cannot be cut: apt-get install {' '.join(packages)}" if packages else ""


def _filter(container: Container, *arguments: str) -> None:
    container.reload()
    pid = str(container.attrs["State"]["Pid"])
    assert pid != "0", f"{container.name} does not run"
    subprocess.run(["nsenter", "-t", pid, "-n", "iptables", "-w", *arguments], check=True, capture_output=True)
