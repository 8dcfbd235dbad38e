"""The executables of provider archives, extracted and started as by a host: one line on standard input, no arguments, an
empty environment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nats.errors
import pytest

from tests.blackbox.host_families import OTP, RUST, HostFamily
from tests.blackbox.lattice_host import PROJECT_FOLDER, LatticeHost, gather_outcomes
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.process.commands.executables import COMMAND, FOLDERS, KINDS, Archive, confined, make_archive, read_archive
from tests.process.conftest import Hosts

BUILD_SECONDS = 180
CONFORMANCE_SECONDS = 400
STARTS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(BUILD_SECONDS)]

Extract = Callable[..., Path]


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Archive]:
    folder = tmp_path_factory.mktemp("archives")
    return {kind: make_archive(folder, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def archive(archives: dict[str, Archive], kind: str) -> Archive:
    return archives[kind]


@pytest.fixture
def executable(archive: Archive, tmp_path: Path) -> Path:
    """A freshly extracted executable."""
    return archive.extract(tmp_path)


def unpacked(executable: Path) -> list[Path]:
    return list(executable.parent.glob(FOLDERS))


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")


def replace_files(executable: Path) -> None:
    """Overwrite an executable, and remove its compiled modules."""
    executable.write_bytes(b"replaced")
    for file in unpacked(executable)[0].glob("native/**/*.so"):
        file.unlink()


def program(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def mapped_files(pid: int) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/" in line}


@pytest.mark.parametrize("family", [RUST, OTP], ids=lambda family: family.name)
async def test_a_host_starts_it_and_stops_it(hosts: Hosts, executable: Path, family: HostFamily) -> None:
    command = ["/bin/sh", "-c", f"exec {executable}"] if family is OTP else [str(executable)]
    host = await hosts(family, command=command)
    actor = host.actor()
    provider = await host.start_provider([host.link(actor)], {"signature_processes": 0})
    await host.set(actor, "k", "v")
    assert await host.get(actor, "k") == "v"
    assert (await host.health()).is_healthy
    assert children(provider.pid) == "", "the process that the host knows must be the provider"
    await host.shutdown()
    assert await provider.exited() == 0
    assert provider.stderr.count("Traceback") == 0
    assert len(unpacked(executable)) == 1


async def test_it_can_export_traces(hosts: Hosts, executable: Path) -> None:
    host = await hosts(RUST, command=[str(executable)])
    otel = {"traces_exporter": "otlp", "exporter_otlp_endpoint": "http://127.0.0.1:9"}
    provider = await host.start_provider([], otel_config=otel)
    assert "telemetry_off" not in provider.stderr


async def test_sigterm_stops_it_and_so_does_the_end_of_standard_input_under_otp(hosts: Hosts, executable: Path) -> None:
    host = await hosts(RUST, command=[str(executable)])
    provider = await host.start_provider()
    provider.signal(signal.SIGTERM)
    assert await provider.exited() == 0
    assert "stopping" in provider.stderr
    host = await hosts(OTP, command=[str(executable)])
    provider = await host.start_provider()
    provider.close_stdin()
    assert await provider.exited() == 0


async def test_its_helpers_run_under_its_own_python_also_when_its_files_were_replaced(
    hosts: Hosts, executable: Path
) -> None:
    host = await hosts(RUST, command=[str(executable)])
    actor = host.actor()
    provider = await host.start_provider([host.link(actor)], {"signature_processes": 1})

    def helper_besides(others: set[str]) -> str:
        started = provider.stderr.count("signature_process_started")
        return children(provider.pid).strip() if started > len(others) else ""

    first = await eventually(lambda: helper_besides(set()), "a helper")
    assert program(int(first)) == program(provider.pid)
    replace_files(executable)
    os.kill(int(first), signal.SIGKILL)
    second = await eventually(lambda: helper_besides({first}), "another helper")
    assert second != first
    assert sorted(await gather_outcomes([host.increment(actor, "k") for _ in range(50)])) == list(range(1, 51))


async def test_killing_the_process_that_the_host_started_leaves_nothing_behind(hosts: Hosts, executable: Path) -> None:
    host = await hosts(RUST, command=[str(executable)])
    provider = await host.start_provider()
    before = unpacked(executable)
    provider.signal(signal.SIGKILL)
    assert await provider.exited() == -signal.SIGKILL
    with pytest.raises(nats.errors.NoRespondersError):
        await host.client.request(host.subject, b"", timeout=2)
    assert unpacked(executable) == before


async def test_the_death_of_its_host_ends_it(hosts: Hosts, executable: Path, tmp_path: Path) -> None:
    host = await hosts(RUST)
    line = tmp_path / "line"
    line.write_bytes(host.family.encode_line(host.host_data()))
    script = f"{executable} <{line} >/dev/null 2>&1 & wait"
    parent = subprocess.Popen(["/bin/sh", "-c", script], env={})  # noqa: ASYNC220  (returns at once)
    try:

        async def is_served() -> bool:
            try:
                await host.client.request(host.subject, b"", timeout=2)
            except nats.errors.NoRespondersError:
                return False
            return True

        async def is_gone() -> bool:
            return not await is_served()

        await eventually(is_served, "the provider's first answer")
        parent.kill()
        await eventually(is_gone, "the end of the provider", 5)
    finally:
        parent.kill()
        parent.wait()


async def test_a_failed_start_passes_on_its_exit_code_and_message(hosts: Hosts, executable: Path) -> None:
    host = await hosts(RUST, command=[str(executable)])
    provider = host.launch(b"nonsense\n")
    assert await provider.exited() == 1
    assert provider.stderr.startswith("keyvalue-nats: malformed host data")


async def test_concurrent_starts_share_one_unpacked_folder(hosts: Hosts, archive: Archive, tmp_path: Path) -> None:
    first, second = archive.extract(tmp_path, "one"), archive.extract(tmp_path, "two")
    starting = [await hosts(RUST, command=[str(path)]) for path in (first, second, first, second)]
    await asyncio.gather(*(host.start_provider() for host in starting))
    assert len(unpacked(first)) == 1
    for host in starting:
        await host.shutdown()
        assert await host.provider.exited() == 0


async def test_an_unpacked_folder_is_used_again_unless_it_is_damaged(hosts: Hosts, executable: Path) -> None:
    async def start_and_stop() -> None:
        host = await hosts(RUST, command=[str(executable)])
        await host.start_provider()
        await host.shutdown()
        assert await host.provider.exited() == 0

    await start_and_stop()
    (folder,) = unpacked(executable)
    inode = folder.stat().st_ino
    await start_and_stop()
    assert folder.stat().st_ino == inode
    files = sorted(path for path in folder.rglob("*.so*") if path.is_file())
    files[0].unlink()
    await start_and_stop()
    assert files[0].is_file()
    assert unpacked(executable) == [folder]


def start(executable: Path, **variables: str) -> str:
    """Start an executable without a host, and return its message: the provider's own, if it came that far."""
    done = subprocess.run([executable], input=b"\n", capture_output=True, env=variables, timeout=60, check=False)
    return done.stderr.decode(errors="replace")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def alter(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("damage", [empty, zero, alter])
def test_an_unpacked_folder_with_any_damaged_file_is_replaced(executable: Path, damage: Callable[[Path], None]) -> None:
    assert "host data" in start(executable)
    (folder,) = unpacked(executable)
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    kinds = {path.suffix: path for path in files}  # of each kind the largest
    assert ".so" in kinds
    for file in kinds.values():
        content = file.read_bytes()
        damage(file)
        assert "host data" in start(executable), file
        assert file.read_bytes() == content
        assert unpacked(executable) == [folder]


@pytest.mark.parametrize("writable", ["", "native"], ids=["the folder", "one below it"])
def test_an_unpacked_folder_that_others_may_write_to_is_not_used(
    executable: Path, tmp_path: Path, writable: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert "host data" in start(executable)
    (folder,) = unpacked(executable)
    below = next(path for path in folder.iterdir() if path.is_dir())
    (below if writable else folder).chmod(0o777)
    inode = folder.stat().st_ino
    assert "host data" in start(executable, TMPDIR=str(temporary))
    if writable:
        assert folder.stat().st_ino != inode, "it was replaced"
    else:
        assert len(list(temporary.glob(f"*/{FOLDERS}"))) == 1


@pytest.mark.parametrize("name", ["a;b", "a:b", "a b", "$(exit 1)", "`exit`", "-n", "a\nb", "ä"])
def test_it_starts_below_a_folder_of_any_name(archive: Archive, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    executable = folder / "executable"
    executable.write_bytes(archive.executable)
    executable.chmod(0o755)
    temporary = tmp_path / "tmp"  # for the bundled one, where `:` and `;` separate paths
    temporary.mkdir()
    assert "host data" in start(executable, TMPDIR=str(temporary))
    assert unpacked(executable) or list(temporary.glob(f"*/{FOLDERS}"))


@pytest.mark.parametrize("writable", ["", "/tmp"], ids=["beside it", "the temporary folder"])
async def test_it_needs_one_writable_folder(hosts: Hosts, executable: Path, tmp_path: Path, writable: str) -> None:
    host = await hosts(RUST, command=confined(executable, tmp_path / "root", writable=writable))
    actor = host.actor()
    await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    await host.shutdown()
    assert await host.provider.exited() == 0


async def test_a_bundled_executable_needs_no_python(hosts: Hosts, archives: dict[str, Archive], tmp_path: Path) -> None:
    executable = archives["bundled"].extract(tmp_path)
    host = await hosts(RUST, command=confined(executable, tmp_path / "root", hides_python=True))
    actor = host.actor()
    provider = await host.start_provider([host.link(actor)])
    await host.set(actor, "k", "v")
    (folder,) = unpacked(executable)
    mapped = mapped_files(provider.pid)
    assert [path for path in mapped if "python" in path and FOLDERS[:-1] not in path] == []
    assert any(str(folder.name) in path for path in mapped)
    await host.shutdown()
    assert await provider.exited() == 0


async def test_an_executable_without_python_reports_the_missing_python(
    archives: dict[str, Archive], tmp_path: Path
) -> None:
    executable = archives["zipapp"].extract(tmp_path)
    command = confined(executable, tmp_path / "root", hides_python=True)
    if command == [str(executable)] or executable.read_bytes()[:10] != b"#!/bin/sh\n":
        return  # Python cannot be hidden here
    done = subprocess.run(command, env={}, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # noqa: ASYNC221
    assert done.returncode == 127
    assert done.stderr.count("\n") == 1
    assert "no Python 3." in done.stderr


@pytest.mark.timeout(CONFORMANCE_SECONDS)
def test_it_keeps_every_promise_about_operations(executable: Path) -> None:
    pytest_command = [sys.executable, "-m", "pytest", "tests/conformance", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_command, "--provider-command", str(executable)],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


async def test_it_answers_within_twice_the_time_of_the_installed_command(
    archive: Archive, nats_server: NatsServer, tmp_path: Path, kind: str
) -> None:
    async def start_seconds(path: str) -> float:
        async with LatticeHost(RUST, nats_server.url, tmp_path, command=[path]) as host:
            began = time.perf_counter()
            await host.start_provider()
            seconds = time.perf_counter() - began
            await host.shutdown()
            await host.provider.exited()
            return seconds

    executable = str(archive.extract(tmp_path))
    first = await start_seconds(executable)
    pairs = [(await start_seconds(executable), await start_seconds(COMMAND)) for _ in range(STARTS)]
    own, installed = (min(column) for column in zip(*pairs, strict=True))
    print(
        f"{kind}: start {own:.2f} s, the first {first:.2f} s, installed {installed:.2f} s, ratio {own / installed:.2f}"
    )
    assert own / installed < 2


def run_from(folder: Path) -> tuple[str, ...]:
    """Return the command that runs the packages of a folder, with the dependencies of this environment."""
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); import provider.__main__ as p; "
    script += f"assert p.__file__.startswith({str(folder)!r}); sys.argv[0] = 'keyvalue-nats'; sys.exit(p.main())"
    return (sys.executable, "-c", script)


def test_the_archive_of_an_installed_wheel_equals_that_of_its_source_to_the_byte(tmp_path: Path) -> None:
    """The same inputs give the same bytes, in another folder, another process, at another time."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(PROJECT_FOLDER, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([*pip, *wheel], check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), str(built)], check=True)
    hashes = []
    for folder in (source, installed):
        scratch = tmp_path / f"from-{folder.name}"
        scratch.mkdir()
        made = make_archive(scratch, "zipapp", command=run_from(folder))
        hashes.append(made.claims["wascap"]["target_hashes"])
    assert hashes[0] == hashes[1]


# --- the command


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "par", *map(str, arguments)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_inspect_shows_a_valid_archive(archive: Archive) -> None:
    done = run("inspect", archive.path)
    assert done.returncode == 0, done.stderr
    for text in (archive.claims["sub"], archive.claims["iss"], "wasmcloud:keyvalue", "0.1.0", archive.target):
        assert text in done.stdout
    answer = json.loads(run("inspect", archive.path, "--json").stdout)
    assert answer["problems"] == []
    assert answer["entries"][archive.target]["bytes"] == len(archive.executable)
    assert answer["cached_folder"] == f"wasmcloudcache/{archive.claims['sub']}/{archive.claims['iat']}"


def test_inspect_reports_an_invalid_archive_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.par.gz").write_bytes(b"\x1f\x8bnonsense")
    (tmp_path / "text.par").write_bytes(b"nonsense" * 100)
    for name in ("a.par.gz", "text.par", "none.par"):
        done = run("inspect", tmp_path / name)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count(str(tmp_path / name)) == 1


def test_a_build_that_cannot_succeed_is_refused_before_a_key_is_generated(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for arguments in (("--target", "sparc-solaris"), ("--revision", "0"), ("--python", "python3")):
        done = run("--out", tmp_path / "a.par.gz", *arguments, WASH_KEYS=str(keys))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    out = tmp_path / "none" / "a.par.gz"
    assert (
        run("--out", out, WASH_KEYS=str(keys)).stderr == f"error: cannot make {out}: there is no folder {out.parent}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_keys_are_generated_once_and_never_shown_and_a_release_has_a_revision(tmp_path: Path) -> None:
    out, keys = tmp_path / "a.par", tmp_path / "keys"
    first = run("--out", out, "--revision", "5", WASH_KEYS=str(keys), USER="me", LOGNAME="me")
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in keys.iterdir()) == ["keyvalue-nats_service.nk", "me_account.nk"]
    archive = read_archive(out)
    assert archive.claims["wascap"]["rev"] == 5
    assert not any(path.read_text() in first.stdout + first.stderr for path in keys.iterdir())
    toml = tmp_path / "provider.toml"
    toml.write_text((PROJECT_FOLDER / "provider.toml").read_text().replace("revision = 1", "revision = 5"))
    given = ("--issuer", keys / "me_account.nk", "--subject", keys / "keyvalue-nats_service.nk")
    second = run("--out", out, "--release", "--provider-toml", toml, "--python", "/opt/python3.11", *given)
    assert second.returncode == 0, second.stderr
    again = read_archive(out)
    assert again.claims["wascap"]["rev"] == 5
    assert (again.claims["iss"], again.claims["sub"]) == (archive.claims["iss"], archive.claims["sub"])
    assert again.executable.startswith(b"#!/opt/python3.11 -IS\n")
    assert "same revision and other content" in second.stderr
