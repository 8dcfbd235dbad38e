"""File locks between processes, released by the system however their holders end. Knows nothing about lattices."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `kv get` asks here whether a process runs
    from pathlib import Path

_MAX_PID_DIGITS = 20
"""More than any pid has: Linux allows 2**22."""


class LockedError(Exception):
    """Another process holds the lock. `pid` is the process that took it; 0 if it has not written its pid yet."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"locked by process {pid}")
        self.pid = pid


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock on a file. The file is created, and removed at the end.

    Yields:
        The file descriptor. A child process that inherits it holds the lock too.

    Raises:
        LockedError: Another process holds it.
        OSError: The file cannot be created or locked.
    """
    descriptor = _take(path)
    try:
        yield descriptor
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path) -> int:
    """Open and lock the file. Start over if its holder removed it in between: the lock of a removed file is worthless."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
        except BlockingIOError:
            pid = os.pread(descriptor, _MAX_PID_DIGITS, 0)
            os.close(descriptor)
            raise LockedError(int(pid) if pid.isdigit() else 0) from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_running(pid: int) -> bool:
    """Return whether a process exists, also if it belongs to another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
