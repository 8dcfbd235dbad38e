"""The distributions that the provider needs, collected from this environment in their installed versions.

The installed versions are the tested ones and need no network, so pure Python is copied. pip downloads only
distributions with compiled modules for another target, and those that are not installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from provider.commands.errors import BuildError
from provider.commands.par.child_processes import failure_of
from provider.commands.par.targets import native_target, wheel_platforms

PROJECT = "wasmcloud-keyvalue-nats"
EXTRAS = frozenset({"otel"})
"""Host mode exports traces and metrics with the distributions of this extra."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_SKIPPED_INFO = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h", ".typed"})
_SKIPPED_FOLDERS = frozenset({"__pycache__", "tests", "include"})


@dataclass(frozen=True)
class Needed:
    """The dependencies of the provider.

    Attributes:
        installed: Installed distributions without this project's own, by normalized name.
        missing: Requirements of the extras that are not installed, in pip's form.
    """

    installed: dict[str, Distribution]
    missing: list[str]


def needed_distributions() -> Needed:
    """Return the direct and indirect requirements of this project.

    A requirement that is neither installed nor part of an extra has a marker that excludes this machine; it is skipped.

    Raises:
        BuildError: This project itself is not installed.
    """
    found: dict[str, Distribution] = {}
    missing: list[str] = []

    def follow(name: str, extras: frozenset[str]) -> None:
        own = distribution(name)
        found[_normalized(name)] = own
        for requirement in own.requires or ():
            extra = _EXTRA.search(requirement)
            if extra and extra[1] not in extras:
                continue
            match = _NAME.match(requirement)
            assert match is not None, requirement
            try:
                if _normalized(match[0]) not in found:
                    follow(match[0], frozenset())
            except PackageNotFoundError:
                if extra:
                    missing.append(requirement.partition(";")[0].strip())

    try:
        follow(PROJECT, EXTRAS)
    except PackageNotFoundError:
        raise BuildError(f"{PROJECT} is not installed in this environment: pip install {PROJECT}") from None
    del found[_normalized(PROJECT)]
    return Needed(found, missing)


def gather(needed: Needed, target: str, folder: Path) -> None:
    """Copy or download all dependencies for a target into a folder for `sys.path`.

    Raises:
        BuildError: A dependency cannot be found or downloaded.
    """
    downloads = []
    for name, found in sorted(needed.installed.items()):
        if target == native_target() or _is_pure(found):
            copy_installed(found, folder)
        else:
            downloads.append(f"{name}=={found.version}")
    if downloads:
        _download(downloads, target, folder, ["--no-deps"])
    if needed.missing:
        pins = [f"{name}=={found.version}" for name, found in needed.installed.items()]
        _download(needed.missing, target, folder, [], pins)


def copy_installed(found: Distribution, folder: Path) -> None:
    """Copy the files of a distribution that are used at run time.

    Raises:
        BuildError: The distribution does not list its files, or a file is missing.
    """
    if not found.files:
        raise BuildError(f"{found.metadata['Name']} does not list its files; install it with pip")
    for file in found.files:
        if is_wanted(Path(file)):
            copy = folder / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(str(file.locate()), copy)
            except OSError as error:
                raise BuildError(f"{found.metadata['Name']} is not complete: {error}") from None


def is_wanted(path: Path) -> bool:
    """Return whether a file below `sys.path` is needed at run time. Licences and metadata are kept."""
    if path.is_absolute() or ".." in path.parts or not _SKIPPED_FOLDERS.isdisjoint(path.parts):
        return False
    if path.parts[0].endswith(".dist-info"):
        return path.name not in _SKIPPED_INFO
    return path.suffix not in _SKIPPED_SUFFIXES and path.parts[0] != "bin"


def _download(
    requirements: Sequence[str], target: str, folder: Path, options: Sequence[str], pins: Iterable[str] = ()
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        constraints, fetched = Path(temporary, "constraints.txt"), Path(temporary, "fetched")
        constraints.write_text("\n".join(pins), encoding="ascii")
        if target != native_target():
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            options = [*options, "--python-version", version, "--implementation", "cp", "--only-binary", ":all:"]
            for platform in wheel_platforms(target):
                options += ["--platform", platform]
        command = [*_pip(), "install", "--quiet", "--no-compile", "--disable-pip-version-check", *options]
        command += ["--target", str(fetched), "--constraint", str(constraints), *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_without_python_variables())
        if done.returncode:
            reason = failure_of(done, otherwise="pip failed")
            raise BuildError(f"cannot download {', '.join(requirements)} for {target}: {reason}")
        for path in sorted(fetched.rglob("*")):
            relative = path.relative_to(fetched)
            if path.is_file() and is_wanted(relative) and not (folder / relative).exists():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / relative)


def _pip() -> list[str]:
    """Return the command of this environment's pip, else of a pip on PATH: environments of pipx and uv have no pip.

    Raises:
        BuildError: There is no pip.
    """
    try:
        distribution("pip")
    except PackageNotFoundError:
        found = shutil.which("pip") or shutil.which("pip3")
        if found is None:
            hint = f"install pip, or, for this machine's target, '{PROJECT}[otel]'"
            raise BuildError(f"there is no pip to download dependencies with: {hint}") from None
        return [found, "--python", sys.executable]
    return [sys.executable, "-m", "pip"]


def _without_python_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _is_pure(found: Distribution) -> bool:
    return "Root-Is-Purelib: true" in (found.read_text("WHEEL") or "")


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
