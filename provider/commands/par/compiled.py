"""Compiled modules: what they need, and how small they can be. Knows shared libraries of Linux, not what is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from provider.commands.errors import BuildError

_GLIBC = re.compile(
    r"(ld-linux.*|libc|libm|libmvec|libdl|libpthread|librt|libutil|libresolv|libnsl|libnss_.*|libanl|libthread_db)[.-]"
)

_LOADED = """
import ctypes, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.so*")):
    ctypes.CDLL(str(path))
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def show(info, size, data):
    print(info.contents.name.decode())
    return 0
ctypes.CDLL(None).dl_iterate_phdr(show, None)
"""
"""Loads every compiled module and prints what is loaded then, under the names that were asked for: a real path would
have the file's version in it, which nothing asks for."""


def copy_shared_libraries(folder: Path, libraries: Path) -> None:
    """Copy the shared libraries that the files in a folder need, and no glibc has.

    Args:
        folder: Where compiled modules are, at any depth.
        libraries: Where the copies go.

    Raises:
        BuildError: A module cannot be loaded.
    """
    own = Path(sysconfig.get_path("stdlib")).resolve()
    for path in _loaded_with(folder):
        is_library = path.is_absolute() and ".so" in path.name and not _GLIBC.match(path.name)
        if is_library and not any(path.resolve().is_relative_to(there) for there in (folder.resolve(), own)):
            shutil.copyfile(path, libraries / path.name)


def strip_symbols(folder: Path) -> None:
    """Take debugging symbols out of a folder's compiled modules, where there is a `strip`: often most of their size.

    On a copy, which takes the folder's place if all of it can be loaded: what has been patched after it was linked, as
    wheels are, may not survive it.
    """
    strip = shutil.which("strip")
    if strip is None:
        return
    copy = folder.with_name(f"{folder.name}.stripped")
    shutil.copytree(folder, copy)
    for path in sorted(copy.rglob("*.so*")):
        subprocess.run([strip, "--strip-debug", "-D", str(path)], capture_output=True, check=False)
    try:
        _loaded_with(copy)
    except BuildError:
        shutil.rmtree(copy)
    else:
        shutil.rmtree(folder)
        copy.rename(folder)


def _loaded_with(folder: Path) -> list[Path]:
    command = [sys.executable, "-IS", "-c", _LOADED, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BuildError(f"a compiled module cannot be loaded: {last[0]}")
    return [Path(line) for line in done.stdout.splitlines()]
