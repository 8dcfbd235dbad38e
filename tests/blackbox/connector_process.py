"""A state-proxy connector as a child process, and a standard HTTP client for its socket. Imports nothing of the project."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.blackbox.child_process import EXIT_SECONDS, ChildProcess
from tests.blackbox.waiting import eventually_blocking

COMMAND = (str(Path(sys.executable).parent / "keyvalue-nats"), "state-proxy")

CLIENT_SECONDS = 40.0
"""Time limit of a client's step, far over the connector's own limits."""


START_SECONDS = 20.0
"""Time limit of a start, on a machine that is busy with other tests."""


class Reply(NamedTuple):
    """An HTTP response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """The status and the code of an error, which must have a message as well."""
        body = self.json
        assert set(body) == {"error", "message"}
        assert body["message"]
        return self.status, body["error"]


class UnixConnection(http.client.HTTPConnection):
    """Python's own HTTP client over a unix socket. It reconnects after the server has closed the connection."""

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
        """Send a request and return the response.

        Args:
            method: HTTP method.
            target: Path and query.
            body: Bytes, or an iterable of bytes that is sent chunked.
            **headers: Headers, with `_` for `-` in their names.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        is_chunked = body is not None and not isinstance(body, bytes)
        self.request(method, target, body, named, encode_chunked=is_chunked)
        return self.answer()

    def answer(self) -> Reply:
        """Return the response to the request that was sent."""
        answer = self.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


class ConnectorProcess(ChildProcess):
    """A started connector, as a context manager that kills it.

    Args:
        folder: Folder for its output, and for its socket unless the environment has a path.
        environment: Variables on top of those of the tests; `None` removes one.
        is_ready: Whether to wait until its bucket is open.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str | None], *, is_ready: bool = True) -> None:
        wanted = {**os.environ, "CONNECTOR_SOCKET": str(folder / "connector.sock"), **environment}
        variables = {name: value for name, value in wanted.items() if value is not None}
        self.socket_path = Path(variables.get("CONNECTOR_SOCKET", folder / "connector.sock"))
        super().__init__(COMMAND, folder, variables, stdin=subprocess.DEVNULL)
        if is_ready:
            eventually_blocking(lambda: self._is_healthy or self.exit_code is not None, "an open bucket", START_SECONDS)
            assert self.exit_code is None, self.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def _is_healthy(self) -> bool:
        try:
            with self.connection() as connection:
                return connection.ask("GET", "/healthz").status == 200
        except OSError:
            return False

    def connection(self) -> UnixConnection:
        return UnixConnection(self.socket_path)

    def raw(self) -> socket.socket:
        """Connect a plain socket, for bytes that no HTTP client would send."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(CLIENT_SECONDS)
        connection.connect(str(self.socket_path))
        return connection

    def exited(self) -> int:
        """Wait for the end of the process and return the exit code."""
        return self._process.wait(EXIT_SECONDS)
