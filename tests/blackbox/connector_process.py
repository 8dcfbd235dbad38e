"""A state-proxy connector as a child process, an ordinary HTTP client for its socket, and files as an actor sees them.

Imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode

import nats
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

from tests.blackbox.provider_process import resident_bytes
from tests.blackbox.waiting import eventually_blocking

COMMAND = (str(Path(sys.executable).parent / "keyvalue-nats"), "state-proxy")
EXIT_SECONDS = 10.0
CLIENT_SECONDS = 20.0

T = TypeVar("T")


class Reply(NamedTuple):
    """An answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """The status and the code of an error; it has a message, too."""
        said = self.json
        assert set(said) == {"error", "message"}
        assert said["message"]
        return self.status, said["error"]


class UnixConnection(http.client.HTTPConnection):
    """Python's own HTTP client over a unix socket. The connection is kept, and made again when the server ends it."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CLIENT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CLIENT_SECONDS)
        self.sock.connect(str(self._path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        """Make a request; a body that is an iterable goes out in chunks. `_` in a header's name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        is_chunked = body is not None and not isinstance(body, bytes)
        self.request(method, target, body, named, encode_chunked=is_chunked)
        answer = self.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


class Connector:
    """A started connector.

    Args:
        folder: Where its socket and what it prints are kept.
        environment: Its variables, beside those of this process; `None` takes one away.
        is_ready: Whether to wait until its socket is there.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str | None], *, is_ready: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket_path = folder / "connector.sock"
        self._stderr = folder / "stderr"
        wanted = {**os.environ, "CONNECTOR_SOCKET": str(self.socket_path), **environment}
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={name: value for name, value in wanted.items() if value is not None},
            )
        if is_ready:
            eventually_blocking(lambda: self.socket_path.exists() or self.exit_code is not None, "the socket")
            assert self.exit_code is None, self.said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def said(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def connection(self) -> UnixConnection:
        return UnixConnection(self.socket_path)

    def raw(self) -> socket.socket:
        """Connect for what no HTTP client would do."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(CLIENT_SECONDS)
        connection.connect(str(self.socket_path))
        return connection

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exited(self) -> int:
        return self._process.wait(EXIT_SECONDS)


class ConflictError(FileExistsError):
    """Somebody else has changed the file since it was read."""


_ERRORS: dict[int, Callable[[str], Exception]] = {
    400: ValueError,
    403: PermissionError,
    404: FileNotFoundError,
    409: ConflictError,
    413: lambda text: OSError(errno.EFBIG, text),
    503: ConnectionError,
    504: TimeoutError,
}
"""What an actor's runtime makes of a status."""


class Files:
    """Files as an actor sees them, a connection for each request as its runtime makes one."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def open(self, name: str, mode: str = "r") -> io.BytesIO:
        """Open a file: `r` reads it now, `w` and `x` write it when it is closed."""
        if mode == "r":
            return io.BytesIO(self._ask("GET", f"/keys/{quote(name)}").body)
        return _Written(self, name, is_exclusive=mode == "x")

    def write(self, name: str, content: bytes, *, is_exclusive: bool = False) -> None:
        headers = {"If_None_Match": "*"} if is_exclusive else {}
        self._ask("PUT", f"/keys/{quote(name)}", content, **headers)

    def size(self, name: str) -> int:
        return int(self._ask("HEAD", f"/keys/{quote(name)}").headers["content-length"])

    def is_folder(self, name: str) -> bool:
        return self._ask("HEAD", f"/keys/{quote(name)}").headers["x-is-file"] == "false"

    def remove(self, name: str) -> None:
        self._ask("DELETE", f"/keys/{quote(name)}")

    def names(self, folder: str = "") -> list[str]:
        """List a folder, given with its slash."""
        found = self._ask("GET", "/keys/?" + urlencode({"prefix": folder, "delimiter": "/"})).json
        return [name.removeprefix(folder).rstrip("/") for name in found["keys"] + found["prefixes"]]

    def attribute(self, name: str, attribute: str) -> str:
        text: str = self._ask("GET", f"/meta/{quote(name)}?attr={attribute}").json["value"]
        return text

    def set_attribute(self, name: str, attribute: str, value: str) -> None:
        self._ask("PUT", f"/meta/{quote(name)}?attr={attribute}", json.dumps({"value": value}).encode())

    def _ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        with self._connector.connection() as connection:
            reply = connection.ask(method, target, body, **headers)
        if reply.status >= 400:
            text = reply.json["message"] if reply.body else target
            raise _ERRORS.get(reply.status, OSError)(text)
        return reply


class _Written(io.BytesIO):
    def __init__(self, files: Files, name: str, *, is_exclusive: bool) -> None:
        super().__init__()
        self._files = files
        self._name = name
        self._is_exclusive = is_exclusive

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._files.write(self._name, content, is_exclusive=self._is_exclusive)


def outside(url: str, act: Callable[[JetStreamContext], Awaitable[T]], creds: Path | None = None) -> T:
    """Do something to the server as anybody else would, with nats-py."""

    async def run() -> T:
        client = await nats.connect(url, user_credentials=creds)
        try:
            return await act(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(run())


def make_bucket(url: str, name: str, *, creds: Path | None = None, **config: Any) -> None:
    """Make a bucket as an operator does."""

    async def act(jetstream: JetStreamContext) -> None:
        await jetstream.create_key_value(bucket=name, **config)

    outside(url, act, creds)


def in_bucket(url: str, name: str, act: Callable[[KeyValue], Awaitable[T]]) -> T:
    """Do something to a bucket as anybody else would."""

    async def run(jetstream: JetStreamContext) -> T:
        return await act(await jetstream.key_value(name))

    return outside(url, run)
