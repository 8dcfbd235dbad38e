"""The file format of provider archives: a tar, with or without gzip, with the claims and one executable per target.

The reader does not trust the file: it holds one block at a time, follows no links, writes no files, and limits every
size. It accepts the entries that hosts write and read, plain files with short names, and refuses everything else that a
tar can contain.

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

from contracts.archive import CLAIMS_NAME, CLAIMS_STEM, WORLD_NAME, entry_name
from provider.commands.errors import MalformedArchiveError

MAX_ENTRIES = 64
"""Hosts run on a handful of architectures and systems."""

MAX_ENTRY_BYTES = 1 << 30
"""Bundled executables have less than 100 MB, debug builds of Rust providers some hundred."""

MAX_CLAIMS_BYTES = 1 << 20
"""Claims have about 1 kB, and grow by less than 100 bytes per target."""

_BLOCK_BYTES = 512
"""Unit of a tar: every header and every content is padded to it."""

_PIECE_BYTES = 1 << 20
"""Memory for reading an executable of any size."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_LEVEL = 6
"""The default of gzip. Higher levels take much longer and save little."""

_PLAIN_FILE = b"0\0"
"""The two type flags of a plain file in a tar."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Executable:
    """One executable of an archive. `sha256` is in upper-case hexadecimal."""

    target: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """The contents of an archive, read but not verified."""

    token: str
    executables: tuple[Executable, ...]


def write_archive(path: Path, token: str, executables: Mapping[str, Path], modified: int) -> None:
    """Write an archive, gzipped if its name ends in `.gz`. An existing archive is replaced atomically at the end.

    Args:
        path: Path of the archive.
        token: Signed claims.
        executables: Path of the executable for each target.
        modified: Time stamp of all entries, in seconds since 1970. Hosts ignore it.
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
    """Return the hash of a file in the form of the claims."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().upper()


def read_archive(path: Path) -> Contents:
    """Read an archive and hash its executables.

    Raises:
        MalformedArchiveError: The file is not a valid archive; the text names it and the reason.
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
        MalformedArchiveError: The bytes are not a valid archive; the text says why.
    """
    token: str | None = None
    executables: dict[str, Executable] = {}
    for stem, size in _members(source):
        if stem == CLAIMS_STEM:
            if token is not None:
                raise MalformedArchiveError("it has two entries of claims")
            token = _claims(source, size)
        elif stem in executables:
            raise MalformedArchiveError(f"it has two entries for {_shown(stem)}")
        else:
            executables[stem] = Executable(stem, size, _hash(source, size))
        _exactly(source, -size % _BLOCK_BYTES)
        if len(executables) > MAX_ENTRIES:
            raise MalformedArchiveError(f"it has more than {MAX_ENTRIES} entries")
    if token is None:
        raise MalformedArchiveError(f"it has no {CLAIMS_NAME}: not a provider archive")
    return Contents(token, tuple(executables.values()))


def _members(source: Readable) -> Iterator[tuple[str, int]]:
    """Yield stem and size of each entry. The caller must read the content and its padding before the next one."""
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
        path = PurePosixPath(name)
        yield path.name if path.name == WORLD_NAME else path.stem, size


def _number(digits: bytes) -> int:
    """Return an octal number, or -1 for anything else, such as the binary form of sizes from 8 GiB."""
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
        raise MalformedArchiveError("its claims are not a token") from None


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
