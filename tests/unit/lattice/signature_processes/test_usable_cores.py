"""The number of cores, by the quotas of control groups of both versions, and the number of helpers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provider.lattice.signature_processes.usable_cores import default_processes, usable_cores

ALL = len(os.sched_getaffinity(0))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def cores(folder: Path, membership: str, files: dict[str, str]) -> int:
    write(folder / "cgroup", membership)
    for name, text in files.items():
        write(folder / "groups" / name, text)
    return usable_cores(folder / "groups", folder / "cgroup")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/pod/one\n", {"pod/cpu.max": "150000 100000\n", "pod/one/cpu.max": "max 100000\n"}, 1),
        ("0::/../elsewhere\n", {"cpu.max": "100000 100000\n"}, 1),
        (
            "4:cpu,cpuacct:/a\n3:memory:/b\n",
            {"cpu/a/cpu.cfs_quota_us": "100000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL),
        ("", {}, ALL),
        ("0::/\n", {"cpu.max": "garbage"}, ALL),
    ],
)
def test_quotas_of_this_group_and_of_those_above_it_count(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    assert cores(tmp_path, membership, files) == expected


def test_a_system_without_control_groups_has_the_cores_of_its_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "none") == ALL


def test_one_core_is_for_the_provider_and_no_more_than_three_for_helpers() -> None:
    assert [default_processes(cores) for cores in (1, 2, 3, 4, 5, 64)] == [0, 1, 2, 3, 3, 3]
