"""A copy of the running Python as a relocatable folder.

Python finds its standard library relative to its own path, so a copy only needs its shared libraries beside it. The C
library and the libraries that belong to it are those of the target machine.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from provider.commands.errors import BuildError
from provider.commands.par import payload

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
EXECUTABLE = f"bin/python{VERSION}"
LIBRARIES = "lib"

_STANDARD_LIBRARY = f"lib/python{VERSION.replace('.', '')}.zip"
_COMPILED = f"lib/python{VERSION}"
_SKIPPED_FOLDERS = frozenset(
    {
        *("__pycache__", "site-packages", "dist-packages", "test", "tests", "ensurepip", "venv", "idlelib"),
        *("lib2to3", "pydoc_data", "sqlite3", "dbm", "curses", "tkinter", "turtledemo"),
    }
)
_SKIPPED_MODULES = re.compile(
    r"_tkinter|_test|_ctypes_test|_curses|_dbm|_gdbm|_sqlite3|_crypt|_xxtestfuzz|_xxsubinterpreters|xx|readline|nis|ossaudiodev|turtle"
)


def copy_interpreter(folder: Path) -> None:
    """Copy the interpreter and the standard library into a folder, without the parts that a provider never uses.

    Raises:
        BuildError: This Python cannot be copied, or this system is not Linux.
    """
    if not sys.platform.startswith("linux"):
        raise BuildError("--bundled works only on Linux")
    python = Path(sys.base_prefix, EXECUTABLE).resolve()
    if not python.is_file():
        raise BuildError(f"{python} does not exist: the Python of this environment cannot be copied")
    (folder / EXECUTABLE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(python, folder / EXECUTABLE)
    (folder / EXECUTABLE).chmod(0o755)
    source = Path(sysconfig.get_path("stdlib"))
    with tempfile.TemporaryDirectory() as temporary:
        modules = Path(temporary)
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_file() and _is_wanted(relative):
                copy = (folder / _COMPILED if path.suffix == ".so" else modules) / relative
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        payload.compile_all(modules, "")
        with zipfile.ZipFile(folder / _STANDARD_LIBRARY, "w") as archive:
            payload.write_modules(archive, modules)


def _is_wanted(path: Path) -> bool:
    if not _SKIPPED_FOLDERS.isdisjoint(path.parts) or path.parts[0].startswith("config-"):
        return False
    return not _SKIPPED_MODULES.match(path.name) and path.suffix in (".py", ".so")
