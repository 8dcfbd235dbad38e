"""The unix socket as a file. It replaces a stale file, never a live one, and appears only when the server listens."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from provider.errors import StartupError
from provider.state_proxy.environment import SOCKET

_MODE_FOR_OTHERS = 0o666
"""The actor's process runs as another user."""

_MAX_PATH_BYTES = 107
"""A client cannot connect to a longer path. Source: unix(7)."""


class SocketFile:
    """A bound socket, as a context manager. `show` creates its file; `hide`, or leaving the context, removes it.

    Args:
        path: Path of the file.

    Attributes:
        listener: The bound socket. It must listen before `show`, so that no client is refused.
    """

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self._path = Path(path)
        self._hidden = self._path.with_name(f".{secrets.token_hex(8)}")
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Bind the socket to a temporary name.

        Raises:
            StartupError: The file cannot be created, or the path is in use.
        """
        try:
            _check_free(self._path)
            _bind(self.listener, self._hidden)
            self._hidden.chmod(_MODE_FOR_OTHERS)
        except OSError as error:
            self.listener.close()
            raise StartupError(f"{SOCKET}: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hide()
        self._hidden.unlink(missing_ok=True)
        self.listener.close()

    def show(self) -> None:
        """Move the file to its path, over a stale one."""
        self._hidden.rename(self._path)
        self._identity = _identity(self._path)

    def hide(self) -> None:
        """Remove the file, unless another process has replaced it."""
        if self._identity is not None and _identity(self._path) == self._identity:
            self._path.unlink()
        self._identity = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _bind(listener: socket.socket, path: Path) -> None:
    """Bind to a path that may be too long for `bind`, through a descriptor of its folder."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _check_free(path: Path) -> None:
    """Check that the path is short enough, and free or taken only by a stale socket or an empty file.

    Raises:
        StartupError: The path is too long, a process listens there, or it holds data.
    """
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise StartupError(f"{SOCKET}: path is over {_MAX_PATH_BYTES} bytes long")
    if not os.path.lexists(path):
        return
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return
            except BlockingIOError:
                pass  # a process listens, but its backlog is full
        raise StartupError(f"{SOCKET}: another process is listening there")
    if not path.is_file() or path.stat().st_size:
        raise StartupError(f"{SOCKET}: the path exists and is not a socket")
