"""Files as an actor of a state-proxy connector sees them. Imports nothing of the project."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from urllib.parse import quote, urlencode

from tests.blackbox.connector_process import ConnectorProcess, Reply


class FileConflictError(FileExistsError):
    """Another writer has changed the file since it was read."""


_ERRORS: dict[int, Callable[[str], Exception]] = {
    400: ValueError,
    403: PermissionError,
    404: FileNotFoundError,
    409: FileConflictError,
    413: lambda text: OSError(errno.EFBIG, text),
    503: ConnectionError,
    504: TimeoutError,
}
"""The exception that an actor's runtime raises for each status."""


class ActorFiles:
    """The files behind a connector. Each request has a connection of its own, as the actor's runtime makes it."""

    def __init__(self, connector: ConnectorProcess) -> None:
        self._connector = connector

    def open(self, name: str, mode: str = "r") -> io.BytesIO:
        """Open a file: `r` reads it now, `w` and `x` write it on close."""
        if mode == "r":
            return io.BytesIO(self._ask("GET", f"/keys/{quote(name)}").body)
        return _WrittenFile(self, name, is_exclusive=mode == "x")

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
        """List a folder, given with its trailing slash."""
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


class _WrittenFile(io.BytesIO):
    def __init__(self, files: ActorFiles, name: str, *, is_exclusive: bool) -> None:
        super().__init__()
        self._files = files
        self._name = name
        self._is_exclusive = is_exclusive

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._files.write(self._name, content, is_exclusive=self._is_exclusive)
