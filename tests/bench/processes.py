"""What the operating system says about a process: its CPU time and its memory."""

from __future__ import annotations

from pathlib import Path


def cpu_microseconds(pid: int) -> float:
    """Return the CPU time of all threads of a process so far."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # the thread has just ended
            continue
    return total_ns / 1000


def resident_megabytes(pid: int) -> float:
    """Return the memory of a process that is in RAM, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
