"""The payload of an executable: this project and its dependencies, compiled, in two folders.

Modules of pure Python are imported directly from a zip archive. Only compiled modules must be real files; a first start
unpacks only these, so that it answers sooner.

Same inputs give the same bytes: files are sorted and have one time stamp, and code is compiled in a separate process with
a fixed hash seed, under paths that do not depend on where this project is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import IO

import contracts
import provider
from provider.commands.errors import BuildError
from provider.commands.par import bootstrap, distributions
from provider.commands.par.child_processes import failure_of

_COMPILE = """
import os, py_compile, sys
root, prefix = sys.argv[1:]
for folder, folders, names in os.walk(root):
    folders.sort()
    for name in sorted(names):
        path = os.path.join(folder, name)
        if name.endswith(".py"):
            shown = os.path.join(prefix, os.path.relpath(path, root))
            try:
                py_compile.compile(path, path + "c", shown, True, 0, py_compile.PycInvalidationMode.UNCHECKED_HASH)
            except py_compile.PyCompileError:
                continue  # a template with placeholders, never imported
            os.remove(path)
"""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time stamp of a zip archive."""

_FILES_BY_PATH = frozenset({"certifi"})
"""Packages with data that OpenSSL opens by path."""

_IMPORTANT = ("provider/__main__.pyc", "provider/host_mode.pyc", "provider/provider.toml", "contracts/host.pyc")
"""Files whose absence means that the sources were not found."""


@dataclass(frozen=True)
class Payload:
    """A finished folder. `digest` covers every name, mode and byte; `measure` is that of the bootstrap."""

    folder: Path
    digest: str
    measure: tuple[int, int, int]


def build_site(folder: Path, target: str, provider_toml: str) -> None:
    """Create a folder for `sys.path` with the provider, the commands and all dependencies.

    Args:
        folder: Path of the folder, which must not exist yet.
        target: Target of the executable.
        provider_toml: Text of the provider.toml to include.

    Raises:
        BuildError: A file or a dependency cannot be found, downloaded or compiled.
    """
    folder.mkdir()
    distributions.gather(distributions.needed_distributions(), target, folder)
    for package in (contracts, provider):
        source = Path(str(package.__file__)).parent
        for path in sorted(source.rglob("*.py")):
            copy = folder / source.name / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (folder / "provider" / "provider.toml").write_text(provider_toml, encoding="utf-8")
    _copy_own_metadata(folder)
    compile_all(folder, "")
    for name in _IMPORTANT:
        if not (folder / name).is_file():
            raise BuildError(f"{name} is missing: build archives from a checkout or an installed wheel")


def take_native(site: Path, native: Path) -> None:
    """Move the files that cannot stay in a zip archive out of a finished `site`, with the same relative paths."""
    native.mkdir()
    for path in sorted(site.rglob("*")):
        relative = path.relative_to(site)
        if path.is_file() and (".so" in path.suffixes or relative.parts[0] in _FILES_BY_PATH):
            (native / relative).parent.mkdir(parents=True, exist_ok=True)
            path.rename(native / relative)


def compile_all(folder: Path, prefix: str) -> None:
    """Replace every source by its compiled code, which Python never compares with a source again.

    Args:
        folder: Folder with the sources, at any depth.
        prefix: Text before the path of a module in tracebacks.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-Ss", "-W", "ignore", "-c", _COMPILE, str(folder), prefix],
        env=environment | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"the modules cannot be compiled: {failure_of(done)}")


def measured(folder: Path) -> Payload:
    """Measure a finished folder."""
    digest = hashlib.sha256()
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{_mode(path):o}\0{content}\n".encode())
    return Payload(folder, digest.hexdigest(), bootstrap.measure(str(folder)))


def write_tar(payload: Payload, file: IO[bytes]) -> None:
    """Write a payload as a tar. It is not compressed: the provider archive compresses everything together."""
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(payload.folder.rglob("*")):
            member = tarfile.TarInfo(path.relative_to(payload.folder).as_posix())
            if path.is_dir():
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                member.size, member.mode = path.stat().st_size, _mode(path)
                with path.open("rb") as content:
                    tar.addfile(member, content)


def write_modules(archive: zipfile.ZipFile, folder: Path) -> None:
    """Add all files of a folder to a zip archive, with their relative paths.

    Folders have entries of their own: before 3.13, Python imports a package without `__init__.py` only by them.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            archive.writestr(zip_entry(f"{name}/"), b"")
        else:
            archive.writestr(zip_entry(name), path.read_bytes())


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Return the description of an entry in a zip archive. It is stored uncompressed, like the payload."""
    info = zipfile.ZipInfo(name, _ZIP_EPOCH)
    info.external_attr = 0o644 << 16
    return info


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _copy_own_metadata(folder: Path) -> None:
    """Write the metadata that `--version` reads, without anything that depends on the kind of installation."""
    own = distribution(distributions.PROJECT)
    info = folder / f"{distributions.PROJECT.replace('-', '_')}-{own.version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {distributions.PROJECT}\nVersion: {own.version}\n"
    (info / "METADATA").write_text(metadata, encoding="ascii")
