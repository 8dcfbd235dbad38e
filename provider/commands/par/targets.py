"""The targets of an archive, in the words of hosts (Rust's `std::env::consts`) and in the words of pip."""

from __future__ import annotations

import platform
import sys

from provider.commands.errors import BuildError

TARGETS = {"x86_64-linux": "x86_64", "aarch64-linux": "aarch64"}
"""Target -> architecture in the name of a wheel, for targets with published wheels of all dependencies."""

_GLIBC_MINORS = range(34, 16, -1)
"""Wheels for glibc 2.17 to 2.34, newest first: Debian 12, Ubuntu 22.04, RHEL 9 and later systems run them."""


def native_target() -> str:
    """Return this machine's target. It need not be in TARGETS: its wheels are those installed here."""
    system = {"darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{ {'arm64': 'aarch64', 'amd64': 'x86_64', 'armv7l': 'arm'}.get(machine, machine) }-{system}"


def check_target(target: str) -> None:
    """Check that a target is this machine's or one whose wheels can be downloaded.

    Raises:
        BuildError: The target is neither; the text lists the possible targets.
    """
    if target != native_target() and target not in TARGETS:
        raise BuildError(
            f"there is no target {target!r}; the targets are {', '.join(sorted({native_target(), *TARGETS}))}"
        )


def wheel_platforms(target: str) -> list[str]:
    """Return the platforms of wheels that run on a target, for `pip --platform`."""
    architecture = TARGETS[target]
    return [*(f"manylinux_2_{minor}_{architecture}" for minor in _GLIBC_MINORS), f"manylinux2014_{architecture}"]
