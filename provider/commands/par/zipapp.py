"""An executable that needs only a Python of this version on the machine that starts it.

It is a zip archive after a header for the system, like those of the standard library's `zipapp`. shiv and pex unpack
compiled modules to the home folder and find Python through PATH; hosts provide neither. So `bootstrap.py` does the
unpacking, and the header is a shell script that searches for Python in its usual places.
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
"""The rest is cut off by Linux. Source: linux/binfmts.h, BINPRM_BUF_SIZE."""

_PYTHON_OPTIONS = "-IS"
"""Ignore environment variables and site-packages: everything comes from the archive. One word, as `#!` requires."""

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
    """Return the header that finds and starts Python.

    Args:
        python: Absolute path of Python on the machines that run the archive; None searches for it.

    Raises:
        BuildError: The path does not fit in a `#!` line.
    """
    if python is None:
        major, minor = sys.version_info[:2]
        numbers = {"version": f"{major}.{minor}", "tuple": f"{major}, {minor}"}
        return _HEADER.format(options=_PYTHON_OPTIONS, **numbers).encode()
    line = f"#!{python} {_PYTHON_OPTIONS}\n".encode()
    if not python.startswith("/") or any(char.isspace() for char in python):
        raise BuildError(f"--python {python!r} must be an absolute path without white space")
    if len(line) > _SHEBANG_MAX_BYTES:
        raise BuildError(f"--python needs a first line of {len(line)} bytes, the maximum is {_SHEBANG_MAX_BYTES}")
    return line


def write_zipapp(path: Path, target: str, python: str | None, provider_toml: str) -> None:
    """Write the executable.

    Args:
        path: Path of the executable.
        target: Target of the executable.
        python: Path of Python, as for `header`.
        provider_toml: Text of the provider.toml to include.
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


def build_text(built: payload.Payload) -> str:
    """Return the text that tells the bootstrap how to verify a payload."""
    files, size, checksum = built.measure
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{built.digest} {files} {size} {checksum} {version}\n"


def bootstrap_source() -> Path:
    """Return the path of `bootstrap.py`.

    Raises:
        BuildError: This code runs from an archive, which has no sources.
    """
    source = Path(bootstrap.__file__)
    if source.suffix != ".py":
        raise BuildError("an archive cannot build an archive: install the package")
    return source


def compiled_bootstrap(scratch: Path) -> bytes:
    """Return `bootstrap.py`, compiled."""
    folder = scratch / "bootstrap"
    folder.mkdir()
    shutil.copyfile(bootstrap_source(), folder / "bootstrap.py")
    payload.compile_all(folder, "keyvalue-nats")
    return (folder / "bootstrap.pyc").read_bytes()
