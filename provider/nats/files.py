"""Files that settings name, read so that an odd one stops nothing: no pipe, no device, no huge file, no stalled mount.

A link definition is not signed, so the file may be anything on the machine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

_MAX_BYTES = 1024 * 1024
"""Limit of a file: several times the authorities of a whole operating system, far below what harms the process."""

_READ_SECONDS = 2.0
"""Time limit for all files of a connection: longer than a busy disk needs, within one attempt to connect."""

_MAX_THREADS = 16
"""Limit of threads that wait for files. A thread that waits for a stalled mount cannot be ended."""

_running: dict[tuple[str, ...], concurrent.futures.Future[object]] = {}
"""The reads that have not ended, by their paths. All connections of the process share it: there is one thread for the
same files, also when a link is opened again and again."""


class FileError(Exception):
    """A file cannot be read, or has not been read in time. The text has no path, in place of which a seed may be given."""


def read_file(path: str) -> bytes:
    """Return the content of a regular file of at most 1 MiB. `~` is the user's home.

    Raises:
        FileError: The file cannot be read, is not a regular file, or is too large.
    """
    try:
        expanded = Path(path).expanduser()
        # Opening a device may have an effect of its own, so its kind is checked before and, for a race, after.
        _check(expanded.stat())
        # Without O_NONBLOCK, opening a named pipe waits for its other end.
        descriptor = os.open(expanded, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _check(os.fstat(descriptor))
            content = file.read(_MAX_BYTES + 1) or b""  # a file of the kernel may have nothing to read yet
    except OSError as error:
        raise FileError(os.strerror(error.errno).lower() if error.errno else "error of the file system") from None
    except (ValueError, RuntimeError):  # a zero byte in the path; no such user in ~user
        raise FileError("no such file or directory") from None
    if len(content) > _MAX_BYTES:
        raise FileError(f"it is larger than {_MAX_BYTES} bytes")
    return content


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileError("it is not a regular file")
    if status.st_size > _MAX_BYTES:
        raise FileError(f"it has {status.st_size} bytes, more than {_MAX_BYTES}")


async def in_thread(paths: tuple[str, ...], function: Callable[[], _T]) -> _T:
    """Return the result of a function that reads files, run in a thread of its own.

    The event loop's own threads would be used up by files that cannot be read, and waited for at the end of the process.

    Raises:
        FileError: The function has not ended in time, or too many others have not.
    """
    running = _running.get(paths)
    if running is not None and not running.done():
        # It may have begun before a change of the files, so its result is not used.
        raise FileError("an earlier attempt is still waiting for the file system")
    if sum(not future.done() for future in _running.values()) >= _MAX_THREADS:
        raise FileError(f"{_MAX_THREADS} other files are still waiting for the file system")
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()
    _running[paths] = future  # type: ignore[assignment]  # only whether it is done is asked
    threading.Thread(target=_run, args=(function, future), name="read files", daemon=True).start()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise FileError("the file system does not answer in time") from None
    finally:
        if future.done():
            _running.pop(paths, None)


def _run(function: Callable[[], _T], future: concurrent.futures.Future[_T]) -> None:
    future.set_running_or_notify_cancel()
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  (the caller raises it)
        future.set_exception(error)
