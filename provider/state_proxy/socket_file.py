"""The unix socket as a file: a stale one is taken away, a living one is not, and who connects finds somebody listening."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from provider.errors import StartupError
from provider.state_proxy.settings import SOCKET

_MODE_FOR_OTHERS = 0o666
"""The actor's process runs as another user."""

_MAX_PATH_BYTES = 107
"""Longer ones cannot be connected to. Source: unix(7)."""


class SocketFile:
    """A bound socket, as a context manager; its file appears with `show` and goes with `hide`, at the latest at the end.

    Args:
        path: Where the file is to be.

    Attributes:
        listener: To be listened on before `show`.
    """

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self._path = Path(path)
        self._hidden = self._path.with_name(f".{secrets.token_hex(8)}")
        self._identity: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Bind.

        Raises:
            StartupError: The file cannot be made, or something else is there.
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
        """Let the file appear, in place of a stale one."""
        self._hidden.rename(self._path)
        self._identity = _identity(self._path)

    def hide(self) -> None:
        """Take the file away, unless somebody else has put another in its place."""
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
    """Bind to a path that may be longer than a socket's own: by way of its folder, open."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _check_free(path: Path) -> None:
    """Refuse a place where nobody can connect, where somebody listens, or where something lies that could be missed."""
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
                pass  # somebody has more to do than to answer
        raise StartupError(f"{SOCKET}: somebody is listening there")
    if not path.is_file() or path.stat().st_size:
        raise StartupError(f"{SOCKET}: something is there that is not a socket")
