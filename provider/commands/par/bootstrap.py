"""The first code that runs in an archive's executable: finds or creates the unpacked folder, and starts the provider.

It is copied into the executable alone and runs before anything else can be imported. So it imports only the standard
library, and as little of it as possible. A host may start several instances concurrently, from the same file or from
copies. The environment may be empty, and every folder except the executable's own may be read-only.

The unpacked folder is named after the hash of its content. It is written under another name and renamed when it is
complete, so no process sees half of it. A folder that belongs to another user, or that others can write to, is not
trusted: in a shared temporary folder, anyone can create it. A folder whose content differs, as after a loss of power or a
clean-up of the temporary folder, is replaced.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import zipimport
from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec

BUILD_NAME = "build"
"""File beside this module with the digest and the measure of the payload, and the version of Python."""

PAYLOAD_NAME = "payload.tar"
NATIVE_NAME = "native"
SITE_NAME = "site.zip"
FOLDER_PREFIX = ".keyvalue-nats-"
_PARTIAL = ".partial-"
_ATTEMPTS = 10
"""Each attempt fails only if another process replaced the folder at the same moment."""

_STALE_SECONDS = 3600
"""Unpacking takes seconds: an older partial folder belongs to a process that was killed."""

_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""The certificate authorities of Debian, Fedora, SUSE and Alpine."""


class UnpackError(Exception):
    """No folder can be unpacked to; the text lists the folders that were tried."""


class Build:
    """The content of the build file.

    Args:
        text: The content.
        is_inside: Whether the file is in the unpacked folder.
    """

    def __init__(self, text: str, *, is_inside: bool = False) -> None:
        self.text = text if is_inside else ""
        digest, files, size, checksum, self.python = text.split()
        self.folder_name = FOLDER_PREFIX + digest[:16]
        self.measure = int(files), int(size), int(checksum)


def run_zipapp() -> int:
    """Start from a zip archive with this module as its main module, under any Python of the right version."""
    here = os.path.dirname(__file__)
    build = Build(zipimport.zipimporter(here).get_data(os.path.join(here, BUILD_NAME)).decode("ascii"))
    if build.python != f"{sys.version_info.major}.{sys.version_info.minor}":
        return _fail(f"needs Python {build.python}, {sys.executable} is {sys.version.split()[0]}")
    executable = os.path.realpath(sys.argv[0])
    try:
        folder = unpacked(build, _parents(executable), lambda partial: _unpack_zip(executable, partial))
    except UnpackError as error:
        return _fail(str(error))
    return _start_provider(executable, folder)


def run_bundled() -> int:
    """Start under the Python that the shell script of `bundled.py` unpacked together with this module.

    Arguments: the path of the executable; the final path of this module's folder, or "" if it is already there; then the
    arguments of the command.
    """
    executable, final, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    here = os.path.dirname(os.path.abspath(__file__))
    if final:
        with open(os.path.join(here, BUILD_NAME), encoding="ascii") as file:
            build = Build(file.read(), is_inside=True)
        try:
            put_in_place(here, final, build)
        except OSError as error:
            _remove(here)
            return _fail(f"cannot unpack to {final}: {error.strerror}")
        python = os.path.join(final, os.path.relpath(sys.executable, here))
        library_path = os.environ.get("LD_LIBRARY_PATH", "").replace(here, final)
        environment = os.environ | {"LD_LIBRARY_PATH": library_path}
        start = os.path.join(final, os.path.basename(__file__))
        os.execve(python, [python, "-IS", start, executable, "", *arguments], environment)
    sys.path.insert(0, os.path.join(here, SITE_NAME))
    sys.argv = [executable, *arguments]
    if "SSL_CERT_FILE" not in os.environ:  # OpenSSL would use the path of the build machine
        for path in _AUTHORITIES:
            if os.path.exists(path):
                os.environ["SSL_CERT_FILE"] = path
                break
    return _start_provider(executable, os.path.join(here, NATIVE_NAME))


def unpacked(build: Build, parents: list[str], unpack: Callable[[str], None]) -> str:
    """Return the unpacked folder. Unpack it first if no parent has it.

    Args:
        build: Expected content of the folder.
        parents: Parent folders, best first: the executable's own, then folders that only this user can write to.
        unpack: Function that fills a folder.

    Raises:
        UnpackError: No parent can be used.
    """
    for parent in parents:
        folder = os.path.join(parent, build.folder_name)
        is_trusted = parent == parents[0] or is_own(parent)
        if is_trusted and is_own(folder) and is_whole(folder, build):
            return folder
    tried = []
    for parent in parents:
        folder = os.path.join(parent, build.folder_name)
        try:
            _prepare(parent, is_first=parent == parents[0])
            partial = _private_folder(folder)
            try:
                unpack(partial)
                put_in_place(partial, folder, build)
            except BaseException:
                _remove(partial)
                raise
        except OSError as error:
            tried.append(f"{parent}: {error.strerror or error}")
        else:
            return folder
    raise UnpackError(f"cannot unpack: {'; '.join(tried)}")


def put_in_place(partial: str, folder: str, build: Build) -> None:
    """Rename a complete folder to its final name. If another process was faster, keep its folder unless it is damaged.

    Raises:
        OSError: The folder is not complete, or the final name belongs to another user.
    """
    if not is_whole(partial, build):
        raise OSError(0, "the unpacked folder is not complete")
    for _ in range(_ATTEMPTS):
        try:
            os.rename(partial, folder)
        except OSError:
            if _is_taken(folder):
                raise
        else:
            return
        if is_whole(folder, build):
            _remove(partial)
            return
        aside = _private_folder(folder)
        with contextlib.suppress(OSError):  # another process has just done so
            os.rename(folder, aside)
        _remove(aside)
    raise OSError(0, "other processes keep replacing the folder")


def is_own(folder: str) -> bool:
    """Return whether a path is a folder, not a symbolic link, that only this user can write to."""
    try:
        return _belongs_here(os.lstat(folder))
    except OSError:
        return False


def _is_taken(folder: str) -> bool:
    """Return whether the path exists but is not a folder that only this user can write to."""
    try:
        return not _belongs_here(os.lstat(folder))
    except FileNotFoundError:
        return False


def _belongs_here(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def is_whole(folder: str, build: Build) -> bool:
    """Return whether a folder has exactly the build's content, and only this user can change any of it."""
    try:
        return _is_closed(folder) and measure(folder) == build.measure and _build_text(folder) == build.text
    except OSError:
        return False


def _build_text(folder: str) -> str:
    """Return the content of a folder's build file, or "" if it has none."""
    try:
        with open(os.path.join(folder, BUILD_NAME), encoding="latin-1") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _is_closed(folder: str) -> bool:
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return False
                if entry.is_dir():
                    folders.append(entry.path)
    return True


def measure(folder: str) -> tuple[int, int, int]:
    """Return the number of files below a folder, their size in bytes, and a checksum of their names and contents.

    The checksum is for accidents, and so the fastest that Python has: every start computes it. The file of the build,
    which the checksum stands in, is left out.

    Raises:
        OSError: The folder cannot be read.
    """
    import zlib

    size, checksum = 0, 1
    paths = sorted(os.path.relpath(entry.path, folder) for entry in _entries(folder))
    paths = [path for path in paths if path != BUILD_NAME]
    for path in paths:
        with open(os.path.join(folder, path), "rb") as file:
            content = file.read()
        size += len(content)
        checksum = zlib.adler32(content, zlib.adler32(f"{path} {len(content)} ".encode(), checksum))
    return len(paths), size, checksum


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry


def _parents(executable: str) -> list[str]:
    """Return the folders to unpack to: the executable's own, then this user's folder in each temporary folder."""
    temporary = [os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"]
    own = f"keyvalue-nats-{os.geteuid()}"
    return [os.path.dirname(executable), *(os.path.join(path, own) for path in temporary if path.startswith("/"))]


def _prepare(parent: str, *, is_first: bool) -> None:
    """Create the parent unless it is the executable's own folder, and remove stale partial folders from it."""
    if not is_first:
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent, 0o700)
        if not is_own(parent):
            raise OSError(0, "belongs to another user")
    import time

    with os.scandir(parent) as entries:
        for entry in entries:
            is_partial = entry.name.startswith(FOLDER_PREFIX) and _PARTIAL in entry.name
            with contextlib.suppress(FileNotFoundError):  # its process has just renamed it
                if is_partial and is_own(entry.path) and entry.stat().st_mtime < time.time() - _STALE_SECONDS:
                    _remove(entry.path)


def _private_folder(folder: str) -> str:
    """Create a folder with a unique name that only this user can enter."""
    import tempfile

    return tempfile.mkdtemp(prefix=f"{os.path.basename(folder)}{_PARTIAL}", dir=os.path.dirname(folder))


def _unpack_zip(executable: str, folder: str) -> None:
    import tarfile
    import zipfile

    try:
        with (
            zipfile.ZipFile(executable) as archive,
            archive.open(PAYLOAD_NAME) as payload,
            tarfile.open(fileobj=payload, mode="r|") as tar,
        ):
            for member in tar:
                path = os.path.join(folder, member.name)
                content = tar.extractfile(member)
                if content is None:
                    os.mkdir(path, 0o700)
                else:
                    with open(path, "xb", opener=_private_file) as file:
                        file.write(content.read())
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise OSError(0, f"{executable} is damaged: {error}") from None


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


class CompiledModules:
    """A finder for compiled modules in a folder. Their packages are in a zip archive, which is searched for sources only."""

    def __init__(self, folder: str) -> None:
        self._files: dict[str, str] = {}
        for entry in _entries(folder):
            for suffix in EXTENSION_SUFFIXES:
                if entry.name.endswith(suffix):
                    path = os.path.relpath(entry.path, folder).removesuffix(suffix)
                    self._files.setdefault(path.replace(os.sep, "."), entry.path)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        file = self._files.get(name)
        return ModuleSpec(name, ExtensionFileLoader(name, file), origin=file) if file else None


def _start_provider(executable: str, native: str) -> int:
    sys.dont_write_bytecode = True  # new files would change the measure of the folder
    sys.path.insert(0, native)
    sys.meta_path.append(CompiledModules(native))
    sys.frozen_by = sys.executable  # type: ignore[attr-defined]  # the Python, for processes of the provider's own
    sys.executable = executable
    sys.frozen = True  # type: ignore[attr-defined]  # the customary mark of an executable that contains its program
    from importlib import import_module

    exit_code: int = import_module("provider.__main__").main()  # by name: the bootstrap is not part of the packages
    return exit_code


def _fail(text: str) -> int:
    sys.stderr.write(f"keyvalue-nats: {text}\n")
    return 1


if __name__ == "__main__":
    sys.exit(run_zipapp() if os.path.isfile(os.path.dirname(__file__)) else run_bundled())
