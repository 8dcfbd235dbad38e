"""Which distributions the provider needs, taken from the environment that runs this, in the versions that it runs.

What is installed is what has been tested, and needs no network; so pure Python is copied from here. Only what has
compiled parts for another target, or is not installed, is fetched with pip.
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
from provider.commands.par.targets import native_target, wheel_platforms

PROJECT = "wasmcloud-keyvalue-nats"
EXTRAS = frozenset({"otel"})
"""Host mode exports traces and metrics with these."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_SKIPPED_INFO = frozenset({"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h", ".typed"})
_SKIPPED_FOLDERS = frozenset({"__pycache__", "tests", "include"})


@dataclass(frozen=True)
class Needed:
    """What there is to put together.

    Attributes:
        installed: Distributions other than this project's own, by normalized name.
        missing: Requirements of the extras that are not installed, as pip reads them.
    """

    installed: dict[str, Distribution]
    missing: list[str]


def needed_distributions() -> Needed:
    """Follow the requirements of this project.

    A requirement that is not installed and stands under no extra of ours is one whose marker excludes it here.

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
    """Put everything that is needed into a folder for `sys.path`.

    Raises:
        BuildError: Something cannot be found or fetched.
    """
    fetched = []
    for name, found in sorted(needed.installed.items()):
        if target == native_target() or _is_pure(found):
            copy_installed(found, folder)
        else:
            fetched.append(f"{name}=={found.version}")
    if fetched:
        _fetch(fetched, target, folder, ["--no-deps"])
    if needed.missing:
        pins = [f"{name}=={found.version}" for name, found in needed.installed.items()]
        _fetch(needed.missing, target, folder, [], pins)


def copy_installed(found: Distribution, folder: Path) -> None:
    """Copy what a distribution installed, but for what nothing reads at run time.

    Raises:
        BuildError: It does not say what it installed, or that is gone.
    """
    if not found.files:
        raise BuildError(f"{found.metadata['Name']} does not say which files it has; install it with pip")
    for file in found.files:
        if is_wanted(Path(file)):
            copy = folder / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(str(file.locate()), copy)
            except OSError as error:
                raise BuildError(f"{found.metadata['Name']} is not whole: {error}") from None


def is_wanted(path: Path) -> bool:
    """Tell, of a path below `sys.path`, whether anything reads it at run time. Licences and metadata stay."""
    if path.is_absolute() or ".." in path.parts or not _SKIPPED_FOLDERS.isdisjoint(path.parts):
        return False
    if path.parts[0].endswith(".dist-info"):
        return path.name not in _SKIPPED_INFO
    return path.suffix not in _SKIPPED_SUFFIXES and path.parts[0] != "bin"


def _fetch(
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
            last = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            raise BuildError(f"cannot fetch {', '.join(requirements)} for {target}: {last[0]}")
        for path in sorted(fetched.rglob("*")):
            relative = path.relative_to(fetched)
            if path.is_file() and is_wanted(relative) and not (folder / relative).exists():
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / relative)


def _pip() -> list[str]:
    """Return the command of this environment's pip, else of any for it: environments of pipx and uv have none of their own.

    Raises:
        BuildError: There is none.
    """
    try:
        distribution("pip")
    except PackageNotFoundError:
        found = shutil.which("pip") or shutil.which("pip3")
        if found is None:
            hint = f"install pip, or for this machine's target '{PROJECT}[otel]'"
            raise BuildError(f"there is no pip to fetch dependencies with: {hint}") from None
        return [found, "--python", sys.executable]
    return [sys.executable, "-m", "pip"]


def _without_python_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _is_pure(found: Distribution) -> bool:
    return "Root-Is-Purelib: true" in (found.read_text("WHEEL") or "")


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
