"""Compiled modules on Linux: the shared libraries that they need, and their debugging symbols."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from provider.commands.errors import BuildError
from provider.commands.par.child_processes import failure_of

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
"""Loads every compiled module, then prints the paths of all loaded libraries. The names are those that were requested: a
resolved path would contain the file's version, and no module requests it by that name."""


def copy_shared_libraries(folder: Path, libraries: Path) -> None:
    """Copy the shared libraries that compiled modules need, except those of glibc.

    Args:
        folder: Folder with compiled modules, at any depth.
        libraries: Folder for the copies.

    Raises:
        BuildError: A module cannot be loaded.
    """
    own = Path(sysconfig.get_path("stdlib")).resolve()
    for path in _loaded_with(folder):
        is_library = path.is_absolute() and ".so" in path.name and not _GLIBC.match(path.name)
        if is_library and not any(path.resolve().is_relative_to(there) for there in (folder.resolve(), own)):
            shutil.copyfile(path, libraries / path.name)


def strip_symbols(folder: Path) -> None:
    """Remove debugging symbols, often most of the size, from a folder's compiled modules if `strip` is installed.

    `strip` may damage a library that was patched after linking, as those in wheels are. So it works on a copy, which
    replaces the folder only if all of its modules can be loaded.
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
        raise BuildError(f"a compiled module cannot be loaded: {failure_of(done)}")
    return [Path(line) for line in done.stdout.splitlines()]
