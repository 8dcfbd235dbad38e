"""The number of processors that this process may use, and that of helper processes that follows from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MOST_BY_DEFAULT = 3
"""The provider's own process is busy with the rest of the calls when three helpers check their signatures."""

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def default_processes(cores: int) -> int:
    """Return the number of helper processes for a number of usable cores: one core is for the provider itself."""
    return min(max(cores - 1, 0), MOST_BY_DEFAULT)


def usable_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of whole cores that affinity and control groups allow, at least 1.

    Args:
        cgroups: Folder of the control groups.
        membership: File that names the groups of this process.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min(affinity, *(int(cores) for cores in _quotas(cgroups, membership))))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the quota of each control group that this process is in, in cores; the groups above it bind it too."""
    yield float(2**31)  # without any group
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        is_second_version = not controllers
        if not is_second_version and "cpu" not in controllers.split(","):
            continue
        top = cgroups if is_second_version else cgroups / "cpu"
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == top.parent:
                break
            yield from _second_version(folder) if is_second_version else _first_version(folder)


def _second_version(folder: Path) -> Iterator[float]:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():  # "max" is no limit
        yield int(words[0]) / int(words[1])


def _first_version(folder: Path) -> Iterator[float]:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit():  # -1 is no limit
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    """Return the text of a file; "" if it cannot be read. In a container, the path of a group may not exist."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
