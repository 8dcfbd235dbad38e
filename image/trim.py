"""A step of the build of the image: remove files that are never used, and compile the modules of a start.

Sources of extensions, tests and debugging information are a third of the size of the wheels. The base image has no
compiled standard library, and the image's user may not write files. So every start would compile it again.
"""

from __future__ import annotations

import importlib
import py_compile
import shutil
import struct
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

NOT_RUN = (".pyx", ".pxd", ".pxi", ".pyi", ".c", ".h")
TESTS = frozenset({"test", "tests", "testdata"})
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence")
STARTED = (
    "asyncio.unix_events",
    "encodings.idna",
    "provider.__main__",
    "provider.host_mode",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.metrics.export",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.trace.propagation.tracecontext",
)
"""The modules that a start by a lattice host loads, with telemetry."""

_ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def main() -> None:
    """Trim the virtual environment of this interpreter."""
    packages = Path(sysconfig.get_path("platlib"))
    for name in INSTALLERS:
        for path in [*packages.glob(f"{name}*"), *Path(sysconfig.get_path("scripts")).glob(f"{name}*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(packages.rglob("*")):
        if path.is_dir() and path.name in TESTS:
            shutil.rmtree(path)
        elif path.suffix in NOT_RUN:
            path.unlink()
        elif path.suffix == ".so" or ".so." in path.name:
            drop_symbols(path)
    compile_what_loads(STARTED)


def compile_what_loads(names: Sequence[str]) -> None:
    """Import modules, and compile them and everything that they import, for this interpreter's level of optimization."""
    for name in names:
        importlib.import_module(name)
    for module in list(sys.modules.values()):
        source, compiled = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        if source and compiled and source.endswith(".py") and Path(source).exists():
            # Not checked by the source's time, because copying a layer may round it to another second.
            py_compile.compile(source, compiled, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def drop_symbols(path: Path) -> None:
    """Cut off everything after the last loaded segment of a shared object: section table, symbols, debugging information.

    `strip` does the same, but slim images do not have it. The loader reads only segments.

    Source: ELF-64 object file format, version 1.5.
    """
    data = bytearray(path.read_bytes())
    if not data.startswith(_ELF_64_LITTLE_ENDIAN):
        return
    fields = list(_HEADER.unpack_from(data))
    segments_at, segment_size, segments = fields[5], fields[9], fields[10]
    end = segments_at + segment_size * segments
    for number in range(segments):
        _, _, offset, _, _, size, _, _ = _SEGMENT.unpack_from(data, segments_at + number * segment_size)
        end = max(end, offset + size)
    fields[6], fields[12], fields[13] = 0, 0, 0  # section table: offset, count, index of the names
    _HEADER.pack_into(data, 0, *fields)
    path.write_bytes(data[:end])


if __name__ == "__main__":
    main()
