"""Files as an actor of a state-proxy connector sees them, through the requests of its runtime. Imports nothing of the project.

As the runtime does, it escapes nothing, opens a connection for each operation, and has no time limit worth mentioning. A
missing socket is the same error as a missing file.
"""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable
from pathlib import Path

from tests.blackbox.connector_process import ConnectorProcess, Reply, UnixConnection


class FileConflictError(FileExistsError):
    """Another writer has changed the file since it was read."""


_ERRORS: dict[int, Callable[[str], Exception]] = {
    400: ValueError,
    403: PermissionError,
    404: FileNotFoundError,
    409: FileConflictError,
    412: FileConflictError,
    413: lambda text: OSError(errno.EFBIG, text),
    503: ConnectionError,
    504: TimeoutError,
}
"""The exception that an actor's runtime raises for each status."""


class ActorFiles:
    """The files behind a connector.

    Args:
        connector: The connector, or the path of its socket.
    """

    def __init__(self, connector: ConnectorProcess | Path) -> None:
        self._path = connector if isinstance(connector, Path) else connector.socket_path

    def open(self, name: str, mode: str = "r") -> io.BytesIO:
        """Open a file: `r` reads it now, `w` and `x` write it on close."""
        if mode == "r":
            return io.BytesIO(self._ask("GET", f"/keys/{name}").body)
        return _WrittenFile(self, name, is_exclusive=mode == "x")

    def stream(self, name: str) -> StreamedFile:
        """Open a file of a mount with `write=passthrough`."""
        return StreamedFile(UnixConnection(self._path), name)

    def write(self, name: str, content: bytes, *, is_exclusive: bool = False) -> None:
        headers = {"If_None_Match": "*"} if is_exclusive else {}
        self._ask("PUT", f"/keys/{name}", content, **headers)

    def exists(self, name: str) -> bool:
        """Do as `os.path.exists`, which takes every `OSError` for absence."""
        try:
            self._ask("HEAD", f"/keys/{name}")
        except OSError:
            return False
        return True

    def size(self, name: str) -> int:
        return int(self._ask("HEAD", f"/keys/{name}").headers["content-length"])

    def is_folder(self, name: str) -> bool:
        return self._ask("HEAD", f"/keys/{name}").headers["x-is-file"] == "false"

    def remove(self, name: str) -> None:
        self._ask("DELETE", f"/keys/{name}")

    def names(self, folder: str = "") -> list[str]:
        """List a folder, given with its trailing slash. A folder that is a file as well comes twice."""
        found = self._ask("GET", f"/keys/?prefix={folder}&delimiter=/").json
        return [name.removeprefix(folder).rstrip("/") for name in found["keys"] + found["prefixes"]]

    def attributes(self, name: str) -> list[str]:
        found: list[str] = self._ask("GET", f"/meta/{name}").json["attrs"]
        return found

    def attribute(self, name: str, attribute: str) -> str:
        text: str = self._ask("GET", f"/meta/{name}?attr={attribute}").json["value"]
        return text

    def set_attribute(self, name: str, attribute: str, value: str) -> None:
        self._ask("PUT", f"/meta/{name}?attr={attribute}", json.dumps({"value": value}).encode())

    def _ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        with UnixConnection(self._path) as connection:
            return checked(connection.ask(method, target, body, **headers))


def checked(reply: Reply) -> Reply:
    """Raise the exception of an answer that is an error."""
    if reply.status >= 400:
        raise _ERRORS.get(reply.status, OSError)(reply.json["message"] if reply.body else "")
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


class StreamedFile:
    """A file whose request begins when it is opened, grows by a chunk with each write, and ends when it is closed."""

    def __init__(self, connection: UnixConnection, name: str) -> None:
        self._connection = connection
        connection.putrequest("PUT", f"/keys/{name}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()

    def write(self, *parts: bytes) -> None:
        """Send a chunk for each part."""
        for part in parts:
            self._connection.send(b"%x\r\n%b\r\n" % (len(part), part))

    def close(self) -> None:
        """End the request and raise the error of its answer."""
        with self._connection as connection:
            connection.send(b"0\r\n\r\n")
            checked(connection.answer())

    def abandon(self) -> None:
        """Close the connection in the middle of the request, as the end of the actor's process does."""
        self._connection.close()
