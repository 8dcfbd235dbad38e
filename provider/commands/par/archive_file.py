"""The file format of provider archives: a tar, with or without gzip, of claims and one executable per target.

Reading trusts nothing: it holds one block at a time, follows no link, writes no file, and every size has a limit. It
takes what hosts write and read, plain files under short names, and refuses the rest of what a tar may hold.

Source: wasmCloud v0.82.0 crates/provider-archive/src/archive.rs; POSIX.1-1988 ustar.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from contracts.archive import CLAIMS_NAME, CLAIMS_STEM, entry_name
from provider.commands.errors import MalformedArchiveError

MAX_ENTRIES = 64
MAX_ENTRY_BYTES = 1 << 30
MAX_CLAIMS_BYTES = 1 << 20

_BLOCK_BYTES = 512
_PIECE_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_LEVEL = 6
_PLAIN_FILE = b"0\0"
"""The two ways in which a tar says that an entry is a plain file."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Entry:
    """One executable. `sha256` is in upper-case hexadecimal."""

    target: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What an archive holds; nothing of it has been checked against anything."""

    token: str
    entries: tuple[Entry, ...]


def write_archive(path: Path, token: str, executables: Mapping[str, Path], modified: int) -> None:
    """Write an archive, gzipped when its name ends in `.gz`. What was there before is replaced at the end, at once.

    Args:
        path: The archive.
        token: The signed claims.
        executables: Target -> file.
        modified: Time of all entries, seconds since 1970. Hosts do not look at it.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=modified) as packed:
                    _write_tar(packed, token.encode(), executables, modified)
            else:
                _write_tar(raw, token.encode(), executables, modified)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_tar(file: gzip.GzipFile | BinaryIO, token: bytes, executables: Mapping[str, Path], modified: int) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(_member(CLAIMS_NAME, len(token), 0o644, modified), io.BytesIO(token))
        for target, executable in sorted(executables.items()):
            with executable.open("rb") as content:
                size = executable.stat().st_size
                tar.addfile(_member(entry_name(target), size, 0o755, modified), content)


def _member(name: str, size: int, mode: int, modified: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, mode, modified
    return member


def hash_file(path: Path) -> str:
    """Return a file's hash as claims hold it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().upper()


def read_archive(path: Path) -> Contents:
    """Read an archive and hash what is in it.

    Raises:
        MalformedArchiveError: Names the file and says what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] == _GZIP_MAGIC:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return parse_archive(unpacked)
            return parse_archive(file)
    except MalformedArchiveError as error:
        raise MalformedArchiveError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise MalformedArchiveError(f"{path} cannot be read: {reason}") from None


def parse_archive(source: Readable) -> Contents:
    """Do the same with the bytes of a tar.

    Raises:
        MalformedArchiveError: Says what is wrong with it.
    """
    token: str | None = None
    entries: dict[str, Entry] = {}
    for stem, size in _members(source):
        if stem == CLAIMS_STEM:
            if token is not None:
                raise MalformedArchiveError("it has two entries of claims")
            token = _claims(source, size)
        elif stem in entries:
            raise MalformedArchiveError(f"it has two entries for {_shown(stem)}")
        else:
            entries[stem] = Entry(stem, size, _hash(source, size))
        _exactly(source, -size % _BLOCK_BYTES)
        if len(entries) > MAX_ENTRIES:
            raise MalformedArchiveError(f"it has more than {MAX_ENTRIES} entries")
    if token is None:
        raise MalformedArchiveError(f"it has no {CLAIMS_NAME}: not a provider archive")
    return Contents(token, tuple(entries.values()))


def _members(source: Readable) -> Iterator[tuple[str, int]]:
    """Yield stem and size of each entry; the caller reads its content and padding before it goes on."""
    while header := source.read(_BLOCK_BYTES):
        header += _exactly(source, _BLOCK_BYTES - len(header))
        if not any(header):
            return
        if _number(header[148:156]) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
            raise MalformedArchiveError("it is neither a tar nor a gzipped one, or damaged")
        name = header[:100].partition(b"\0")[0].decode(errors="replace")
        if header[156:157] not in _PLAIN_FILE:
            raise MalformedArchiveError(f"its entry {_shown(name)} is not a plain file")
        size = _number(header[124:136])
        if not 0 <= size <= MAX_ENTRY_BYTES:
            raise MalformedArchiveError(f"the size of its entry {_shown(name)} is over the maximum, {MAX_ENTRY_BYTES}")
        yield PurePosixPath(name).stem, size


def _number(digits: bytes) -> int:
    """Read an octal number; -1 for anything else, as the binary form of sizes from 8 GiB on."""
    try:
        return int(digits.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _claims(source: Readable, size: int) -> str:
    if not 0 <= size <= MAX_CLAIMS_BYTES:
        raise MalformedArchiveError(f"its claims have {size} bytes, the maximum is {MAX_CLAIMS_BYTES}")
    try:
        return _exactly(source, size).decode("ascii").strip()
    except UnicodeDecodeError:
        raise MalformedArchiveError("its claims are no token") from None


def _hash(source: Readable, size: int) -> str:
    digest = hashlib.sha256()
    while size:
        piece = _exactly(source, min(size, _PIECE_BYTES))
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest().upper()


def _exactly(source: Readable, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = source.read(size - len(found))
        if not piece:
            raise MalformedArchiveError("it is cut short")
        found += piece
    return found


def _shown(name: str) -> str:
    return repr(name[:60])
