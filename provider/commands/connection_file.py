"""Where a running development lattice tells `keyvalue-nats call` how to reach it: one file per lattice, for one user.

Of one name there is one: it would not be told which of two a call is for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from contracts.secret import Secret
from provider.commands.dev_lattice.actor import Link
from provider.commands.dev_lattice.errors import LatticeTakenError, NoLatticeError
from provider.commands.dev_lattice.locks import LockedError, held

_START_ONE = "start one with `keyvalue-nats dev` in another terminal"


class ConnectionFile(msgspec.Struct, frozen=True):
    """What `call` needs. The seed signs invocations of this one development lattice."""

    pid: int
    nats_url: str
    lattice: str
    host_id: str
    provider_key: str
    actor_id: str
    link_name: str
    cluster_seed: str

    @property
    def link(self) -> Link:
        seed = Secret(self.cluster_seed)
        return Link(self.lattice, self.host_id, self.provider_key, self.actor_id, self.link_name, seed)

    def __repr__(self) -> str:
        return f"ConnectionFile({self.lattice!r}, {self.nats_url!r}, pid {self.pid})"


def folder() -> Path:
    """Return this user's runtime folder, which nobody else may read.

    Raises:
        NoLatticeError: Somebody else owns a folder of that name, or none can be made.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base, "keyvalue-nats") if base else Path(tempfile.gettempdir(), f"keyvalue-nats-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.getuid():
            raise NoLatticeError(f"{path} belongs to another user")
        path.chmod(0o700)
    except OSError as error:
        raise NoLatticeError(f"{path} cannot be made: {(error.strerror or 'error').lower()}") from None
    return path


@contextlib.contextmanager
def reserved(lattice: str) -> Iterator[None]:
    """Be the one lattice of this name.

    Raises:
        LatticeTakenError: Another one is running.
        NoLatticeError: There is nowhere to say so.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder() / f"{_file_name(lattice)}.lock"))
        except LockedError as error:
            text = (
                f"a lattice named {lattice!r} is running (pid {error.pid}): stop it, or give this one a --lattice NAME"
            )
            raise LatticeTakenError(text) from None
        yield


@contextlib.contextmanager
def announced(link: Link, nats_url: str) -> Iterator[Path]:
    """Keep a connection file as long as the lattice runs."""
    content = ConnectionFile(
        pid=os.getpid(),
        nats_url=nats_url,
        lattice=link.lattice,
        host_id=link.host_id,
        provider_key=link.provider_key,
        actor_id=link.actor_id,
        link_name=link.link_name,
        cluster_seed=link.cluster_seed.reveal(),
    )
    path = folder() / f"{_file_name(link.lattice)}.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(content))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def find(lattice: str | None = None) -> ConnectionFile:
    """Return the lattice that runs now; of several the one started last.

    Args:
        lattice: Only a lattice of this name; `None`: any.

    Raises:
        NoLatticeError: None runs; says what to do.
    """
    found = [running for running in all_running() if lattice in (None, running.lattice)]
    if not found:
        named = f" named {lattice!r}" if lattice else ""
        raise NoLatticeError(f"no development lattice{named} is running: {_START_ONE}")
    return found[0]


def all_running() -> list[ConnectionFile]:
    """Return the lattices that run now, the one started last first."""
    return [found for path in sorted(folder().glob("*.json"), key=_written_ns, reverse=True) if (found := _read(path))]


def _read(path: Path) -> ConnectionFile | None:
    """Read a connection file, or remove one that was left behind."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=ConnectionFile)
    except (msgspec.DecodeError, FileNotFoundError):
        return None
    if _is_alive(found.pid):
        return found
    path.unlink(missing_ok=True)  # its command was killed before it could
    return None


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _file_name(lattice: str) -> str:
    """Return a name for files: a lattice's may be too long for one, or have a slash in it."""
    return hashlib.sha256(lattice.encode()).hexdigest()[:16]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
