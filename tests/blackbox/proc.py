"""Facts about a process from Linux's /proc. Imports nothing of the project."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.blackbox.waiting import eventually_blocking


def freeze(pid: int) -> None:
    """Stop a process, and return once none of its threads runs. SIGCONT continues it."""
    os.kill(pid, signal.SIGSTOP)

    def is_stopped() -> bool:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(") ")[2].startswith("T") for task in tasks)

    eventually_blocking(is_stopped, "the stop of a process")


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    return bool(int(_status(pid, "SigCgt"), 16) >> (number - 1) & 1)


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM."""
    return int(_status(pid, "VmRSS")) * 1024


def forget_peak(pid: int) -> None:
    """Have the peak of a process's memory counted from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(pid: int) -> int:
    """Return the most memory in RAM that a process has had."""
    return int(_status(pid, "VmHWM")) * 1024


def cpu_microseconds(pid: int) -> float:
    """Return the CPU time that all threads of a process have used so far."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # the thread has just ended
            continue
    return total_ns / 1000


def children(pid: int) -> list[int]:
    """Return the child processes that the main thread of a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _status(pid: int, field: str) -> str:
    """Return the first word of a field of the process's status."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))
