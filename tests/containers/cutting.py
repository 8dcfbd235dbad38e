"""Faults of a container's network, made inside it from outside: the image needs no tool for them, the host needs root."""

from __future__ import annotations

import os
import shutil
import subprocess

from docker.models.containers import Container


def cut(container: Container, *addresses: str, is_one_way: bool = False) -> None:
    """Drop all packets between a container and some addresses.

    Args:
        container: A running one; its rules end with it.
        addresses: Who is not reached any more, and does not reach it.
        is_one_way: Whether only what comes in is dropped.
    """
    for address in addresses:
        _filter(container, "-A", "INPUT", "-s", address, "-j", "DROP")
        if not is_one_way:
            _filter(container, "-A", "OUTPUT", "-d", address, "-j", "DROP")


def lose(container: Container, probability: float) -> None:
    """Drop this part of the TCP packets that come in, from anybody."""
    chance = ("-m", "statistic", "--mode", "random", "--probability", str(probability))
    _filter(container, "-A", "INPUT", "-p", "tcp", *chance, "-j", "DROP")


def mend(container: Container) -> None:
    """Undo cuts and losses."""
    _filter(container, "-F")


def what_cutting_lacks() -> str:
    """Return what this machine lacks to cut networks, "" when nothing."""
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
