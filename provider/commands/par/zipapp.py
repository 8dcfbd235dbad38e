"""An executable that needs a Python of this version, and nothing else, on the machine where it is started.

A zip archive behind a first line that the system understands, as `zipapp` of the standard library makes them. shiv and
pex unpack compiled parts to the home folder and find Python by PATH; hosts give neither. So the code that unpacks is
`bootstrap.py`, and the header a shell script that looks for Python where systems have it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from provider.commands.errors import BuildError
from provider.commands.par import bootstrap, compiled, payload
from provider.commands.par.targets import native_target

_SHEBANG_MAX_BYTES = 255
_PYTHON_OPTIONS = "-IS"
"""No variables, no user's and no machine's site-packages: everything comes from the archive. One word, as `#!` demands."""

_HEADER = """#!/bin/sh
# keyvalue-nats, a wasmCloud capability provider: a zip archive that Python {version} runs. PATH may be unset.
PATH=${{PATH:+$PATH:}}/usr/local/bin:/usr/bin:/bin
for python in /usr/bin/python{version} /usr/local/bin/python{version} /opt/python/bin/python{version} \\
    "$(command -v python{version})"; do
    if [ -x "$python" ]; then
        exec "$python" {options} "$0" "$@"
    fi
done
for python in python3 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != ({tuple}))' </dev/null 2>/dev/null; then
        exec "$python" {options} "$0" "$@"
    fi
done
echo "keyvalue-nats: no Python {version} on this machine; install it, or take an archive built with --bundled" >&2
exit 127
"""


def header(python: str | None) -> bytes:
    """Return the first lines.

    Args:
        python: Absolute path of the interpreter on the machines that will run it; `None`: look for one.

    Raises:
        BuildError: The path cannot stand in a first line.
    """
    if python is None:
        major, minor = sys.version_info[:2]
        numbers = {"version": f"{major}.{minor}", "tuple": f"{major}, {minor}"}
        return _HEADER.format(options=_PYTHON_OPTIONS, **numbers).encode()
    line = f"#!{python} {_PYTHON_OPTIONS}\n".encode()
    if not python.startswith("/") or any(char.isspace() for char in python):
        raise BuildError(f"--python {python!r} must be an absolute path without white space")
    if len(line) > _SHEBANG_MAX_BYTES:
        raise BuildError(f"--python makes a first line of {len(line)} bytes, the maximum is {_SHEBANG_MAX_BYTES}")
    return line


def write_zipapp(path: Path, target: str, python: str | None, provider_toml: str) -> None:
    """Write the executable.

    Args:
        path: Of the executable.
        target: For which.
        python: As in `header`.
        provider_toml: Text of the file that is to travel along.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        site, native = Path(temporary, "site"), Path(temporary, "native")
        payload.build_site(site, target, provider_toml)
        payload.take_native(site, native)
        if target == native_target():
            compiled.strip_symbols(native)
        built = payload.measured(native)
        with path.open("wb") as file:
            file.write(header(python))
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr(payload.zip_entry("__main__.pyc"), compiled_bootstrap(Path(temporary)))
                archive.writestr(payload.zip_entry(bootstrap.BUILD_NAME), build_text(built))
                with archive.open(payload.zip_entry(bootstrap.PAYLOAD_NAME), "w", force_zip64=True) as tar:
                    payload.write_tar(built, tar)
                payload.write_modules(archive, site)
    path.chmod(0o755)


def build_text(built: payload.Payload, *, counts_itself: bool = False) -> str:
    """Return what the bootstrap is to know of a payload; with `counts_itself`, of one that this text is put into."""
    files, size = (1, bootstrap.BUILD_BYTES) if counts_itself else (0, 0)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = f"{built.digest} {built.files + files} {built.size + size} {version}"
    return text.ljust(bootstrap.BUILD_BYTES - 1) + "\n"


def bootstrap_source() -> Path:
    """Return the file of `bootstrap.py`.

    Raises:
        BuildError: There is none where this runs from an archive.
    """
    source = Path(bootstrap.__file__)
    if source.suffix != ".py":
        raise BuildError("an archive cannot be made from within an archive: install the package")
    return source


def compiled_bootstrap(scratch: Path) -> bytes:
    """Return the code of `bootstrap.py`."""
    folder = scratch / "bootstrap"
    folder.mkdir()
    shutil.copyfile(bootstrap_source(), folder / "bootstrap.py")
    payload.compile_all(folder, "keyvalue-nats")
    return (folder / "bootstrap.pyc").read_bytes()
