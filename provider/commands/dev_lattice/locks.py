"""Locks between commands: on a file, and gone with the processes that hold them, however those end. Knows no lattice."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_MAX_PID_DIGITS = 20


class LockedError(Exception):
    """Another process holds the lock. `pid` is the one that took it; 0: it has not said so yet."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"locked by process {pid}")
        self.pid = pid


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock of a file, which is made and at the end removed.

    Yields:
        Its descriptor: a child that inherits it holds the lock too.

    Raises:
        LockedError: Another process holds it.
        OSError: The file cannot be made or locked.
    """
    descriptor = _take(path)
    try:
        yield descriptor
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path) -> int:
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
        os.close(descriptor)  # its holder has removed it since it was opened


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
