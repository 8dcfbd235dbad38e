"""The unix socket as a file: it replaces a stale file, never a live one, and always leads to a listening socket.

It is there from the first moment of the process to the last. A client that finds no file takes that for the absence of
the key that it reads. So this module imports little: it runs before the rest of the connector is loaded.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from types import TracebackType

from provider.state_proxy.variables import SOCKET

TYPE_CHECKING = False
"""As in `typing`, which takes longer to load than all of the above."""

if TYPE_CHECKING:
    from typing import Self

    from provider.errors import StartupError

BACKLOG = 256
"""Clients that wait for the connector to load: as many as may be connected later. Further ones wait in `connect`."""

_MODE_FOR_OTHERS = 0o666
"""The actor's process runs as another user."""

_MAX_PATH_BYTES = 107
"""A client cannot connect to a longer path. Source: unix(7)."""


class SocketFile:
    """A listening socket and its file, as a context manager.

    Leaving the context removes the file. After an exception it stays: clients are then refused, rather than told that
    there is no file, until the connector is started again and replaces it.

    Args:
        path: Path of the file.

    Attributes:
        listener: The socket.
    """

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self._path = path
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Listen on a temporary name and move that to the path, over a stale file, so that no client is refused.

        Raises:
            StartupError: The file cannot be created, or the path is in use.
        """
        hidden = os.path.join(os.path.dirname(self._path), f".{os.urandom(8).hex()}")
        try:
            _check_free(self._path)
            _bind(self.listener, hidden)
            os.chmod(hidden, _MODE_FOR_OTHERS)
            self.listener.listen(BACKLOG)
            os.rename(hidden, self._path)
            self._identity = _identity(self._path)
        except OSError as error:
            raise _startup_error(error.strerror or str(error)) from None
        finally:
            if self._identity is None:
                self.listener.close()
                with contextlib.suppress(OSError):  # on a read-only file system it was never made
                    _remove(hidden)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file, unless another process has replaced it."""
        if error is None and _identity(self._path) == self._identity:
            _remove(self._path)
        self.listener.close()


def _startup_error(reason: str) -> StartupError:
    from provider.errors import StartupError

    return StartupError(f"{SOCKET}: {reason}")


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _bind(listener: socket.socket, path: str) -> None:
    """Bind to a path that may be too long for `bind`, through a descriptor of its folder."""
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


def _check_free(path: str) -> None:
    """Check that the path is short enough, and free or taken only by a stale socket or an empty file.

    Raises:
        StartupError: The path is too long, a process listens there, or it holds data.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise _startup_error(f"path is over {_MAX_PATH_BYTES} bytes long")
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise _startup_error("the path exists and is not a socket") from None
        return
    if stat.S_ISSOCK(found.st_mode):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                return
            except BlockingIOError:
                pass  # a process listens, but its backlog is full
        raise _startup_error("another process is listening there")
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        raise _startup_error("the path exists and is not a socket")
