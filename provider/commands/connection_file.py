"""The file in which a running development lattice tells other commands how to reach it. One per lattice and user.

A lattice's name is unique per user, since `call` chooses the lattice by its name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from provider.commands.dev_lattice.dialect import Dialect
from provider.commands.dev_lattice.locks import LockedError, held, is_running
from provider.commands.errors import LatticeTakenError, NoLatticeError

if TYPE_CHECKING:  # `kv get` looks here for its server, in a few milliseconds
    from pathlib import Path

    from provider.commands.dev_lattice.identity import DevIdentity

DEFAULT_URL = "nats://127.0.0.1:4222"

_START_ONE = "start one with `keyvalue-nats dev` in another terminal"


class ConnectionFile(NamedTuple):
    """The content of the file. The seed signs invocations of this one development lattice."""

    pid: int
    nats_url: str
    lattice: str
    host_id: str
    provider_key: str
    actor_id: str
    link_name: str
    cluster_seed: str
    dialect: Dialect = Dialect.WASMBUS

    @property
    def identity(self) -> DevIdentity:
        from contracts.secret import Secret
        from provider.commands.dev_lattice.identity import DevIdentity

        seed = Secret(self.cluster_seed)
        return DevIdentity(
            self.lattice, self.host_id, self.provider_key, self.actor_id, self.link_name, seed, self.dialect
        )

    def __repr__(self) -> str:
        return f"ConnectionFile({self.lattice!r}, {self.nats_url!r}, pid {self.pid})"


def folder() -> str:
    """Return this user's runtime folder, which other users cannot read.

    Raises:
        NoLatticeError: The folder is a link or belongs to another user, or cannot be created.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    shared = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  (as any user may write there, its owner is checked)
    path = os.path.join(base, "keyvalue-nats") if base else os.path.join(shared, f"keyvalue-nats-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        # In a shared temporary folder another user may have put a link there, to a folder of this user.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise NoLatticeError(f"{path} belongs to another user")
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    except OSError as error:
        if os.path.islink(path):
            raise NoLatticeError(f"{path} is a link, which another user may have made; remove it") from None
        raise NoLatticeError(f"{path} cannot be made: {(error.strerror or 'error').lower()}") from None
    return path


@contextlib.contextmanager
def reserved(lattice: str) -> Iterator[None]:
    """Reserve a lattice name until the context ends.

    Raises:
        LatticeTakenError: A lattice of this name is running.
        NoLatticeError: The runtime folder cannot be used.
    """
    from pathlib import Path

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(Path(folder(), f"{_file_name(lattice)}.lock")))
        except LockedError as error:
            text = f"a lattice named {lattice!r} is running (pid {error.pid}): stop it, or name this one with --lattice NAME"
            raise LatticeTakenError(text) from None
        yield


@contextlib.contextmanager
def announced(identity: DevIdentity, nats_url: str) -> Iterator[Path]:
    """Write the connection file, and remove it at the end."""
    from pathlib import Path

    content = ConnectionFile(
        pid=os.getpid(),
        nats_url=nats_url,
        lattice=identity.lattice,
        host_id=identity.host_id,
        provider_key=identity.provider_key,
        actor_id=identity.actor_id,
        link_name=identity.link_name,
        cluster_seed=identity.cluster_seed.reveal(),
        dialect=identity.dialect,
    )
    path = Path(folder(), f"{_file_name(identity.lattice)}.json")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        fields = content._asdict() | {"dialect": content.dialect.value}
        file.write(json.dumps(fields, separators=(",", ":")).encode())
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def find(lattice: str | None = None) -> ConnectionFile:
    """Return the connection file of a running lattice; if several run, of the one started last.

    Args:
        lattice: Name of the lattice; None means any.

    Raises:
        NoLatticeError: No such lattice is running; the text says how to start one.
    """
    found = [running for running in all_running() if lattice in (None, running.lattice)]
    if not found:
        named = f" named {lattice!r}" if lattice else ""
        raise NoLatticeError(f"no development lattice{named} is running: {_START_ONE}")
    return found[0]


def found_url() -> str:
    """Return the URL of the server of a running lattice, the one started last; without one, of a server on this machine."""
    try:
        return find().nats_url
    except NoLatticeError:
        return DEFAULT_URL


def all_running() -> list[ConnectionFile]:
    """Return the connection files of the running lattices, the one started last first."""
    with os.scandir(folder()) as entries:
        paths = [entry.path for entry in entries if entry.name.endswith(".json")]
    return [found for path in sorted(paths, key=_written_ns, reverse=True) if (found := _read(path))]


def _read(path: str) -> ConnectionFile | None:
    """Read a connection file. Return None if it cannot be read; remove it if its command has ended."""
    try:
        with open(path, "rb") as file:
            found = _decoded(json.loads(file.read()))
    except (ValueError, TypeError, FileNotFoundError):
        return None
    if is_running(found.pid):
        return found
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # the command was killed before it could remove the file
    return None


def _decoded(fields: dict[str, Any]) -> ConnectionFile:
    """Return the connection file with these fields, of which other versions may have written more.

    Raises:
        TypeError, ValueError: One is missing or of another type.
    """
    known = {name: value for name, value in fields.items() if name in ConnectionFile._fields}
    found = ConnectionFile(**known)
    if not all(isinstance(value, int if name == "pid" else str) for name, value in known.items()):
        raise TypeError
    return found._replace(dialect=Dialect(found.dialect))


def _written_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _file_name(lattice: str) -> str:
    """Return a name for a lattice's files. Its own name may be too long for one, or contain a slash."""
    import hashlib

    return hashlib.sha256(lattice.encode()).hexdigest()[:16]
