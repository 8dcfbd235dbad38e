"""The targets of an archive, as Rust's `std::env::consts` and therefore hosts name them, and what pip calls them."""

from __future__ import annotations

import platform
import sys

from provider.commands.errors import BuildError

TARGETS = {"x86_64-linux": "x86_64", "aarch64-linux": "aarch64"}
"""Target -> the architecture in the name of a wheel. Those for which wheels of every dependency are published."""

_GLIBC_MINORS = range(34, 16, -1)
"""Wheels for glibc 2.17 to 2.34, newest first: what Debian 12, Ubuntu 22.04 and RHEL 9 have."""


def native_target() -> str:
    """Return this machine's target, also one for which archives can only be made here."""
    system = {"darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{ {'arm64': 'aarch64', 'amd64': 'x86_64', 'armv7l': 'arm'}.get(machine, machine) }-{system}"


def check_target(target: str) -> None:
    """Refuse what is neither this machine's target nor one whose wheels can be fetched.

    Raises:
        BuildError: Names those that there are.
    """
    if target != native_target() and target not in TARGETS:
        raise BuildError(f"no target {target!r}; there are {', '.join(sorted({native_target(), *TARGETS}))}")


def wheel_platforms(target: str) -> list[str]:
    """Return the platforms of wheels that run there, for `pip --platform`."""
    architecture = TARGETS[target]
    return [*(f"manylinux_2_{minor}_{architecture}" for minor in _GLIBC_MINORS), f"manylinux2014_{architecture}"]
