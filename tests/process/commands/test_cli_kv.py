"""`keyvalue-nats kv` with the command lines of `nats kv`. Source: docs.nats.io, Key/Value Store Walkthrough."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nkeys
import pytest

from provider.commands import connection_file
from provider.commands.dev_lattice.start import make_identity
from tests.blackbox.nats.certificates import Authority
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.operator_mode import SigningKey
from tests.blackbox.waiting import eventually_blocking

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")
SECONDS = 20.0

Finished = subprocess.CompletedProcess[str]


class Terminal:
    """A terminal with its own environment variables, independent of those of the machine."""

    def __init__(self, runtime_folder: Path, **variables: str) -> None:
        named_here = ("NATS_", "PYTHONUNBUFFERED")  # PYTHONUNBUFFERED lets a write stop halfway
        outside = {name: value for name, value in os.environ.items() if not name.startswith(named_here)}
        self.environment = outside | {"XDG_RUNTIME_DIR": str(runtime_folder)} | variables

    def kv(self, *arguments: str, typed: str = "") -> Finished:
        return subprocess.run(
            [COMMAND, "kv", *arguments],
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def shell(self, line: str) -> Finished:
        """Run a shell line in which `kv` is the command."""
        whole = f'kv() {{ {COMMAND} kv "$@"; }}\n{line}'
        return subprocess.run(
            ["sh", "-c", whole], env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def output(self, *arguments: str) -> str:
        done = self.kv(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, code: int = 1) -> str:
        """Run a command that must fail; return its one line on standard error."""
        done = self.kv(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()

    @contextmanager
    def watching(self, *arguments: str) -> Iterator[Watching]:
        with subprocess.Popen(
            [COMMAND, "kv", "watch", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield Watching(process)
            finally:
                process.kill()


class Watching:
    """`keyvalue-nats kv watch` in another terminal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self) -> str:
        return self._lines.get(timeout=SECONDS).rstrip("\n")

    def ended(self, number: int = 0) -> int:
        if number:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@pytest.fixture
def terminal(nats_server: NatsServer, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, NATS_URL=nats_server.url)


@pytest.mark.slow
def test_the_published_walkthrough_command_by_command(terminal: Terminal) -> None:
    added = terminal.output("add", "my-kv")
    for label, text in {
        "Bucket Name": "my-kv",
        "History Kept": "1",
        "Values Stored": "0",
        "Compressed": "false",
    }.items():
        assert f" {label}: {text}\n" in added
    assert " JetStream Stream: KV_my-kv\n" in added
    assert terminal.output("put", "my-kv", "Key1", "Value1") == "Value1\n"
    head, details, *value = terminal.output("get", "my-kv", "Key1").splitlines()
    assert re.fullmatch(r"my-kv > Key1 revision: 1 created @ \d\d \w{3} \d\d \d\d:\d\d .+", head)
    assert details.startswith("operation id: ")
    assert value == ["", "Value1", ""]
    assert terminal.output("del", "my-kv", "Key1") == ""
    assert terminal.output("create", "my-kv", "Semaphore1", "Value1") == "Value1\n"
    # "Only one create can succeed"
    assert terminal.refused("create", "my-kv", "Semaphore1", "Value1") == "error: wrong last sequence: 3: key exists"
    assert terminal.refused("update", "my-kv", "Semaphore1", "Value2", "0") == "error: wrong last sequence: 3"
    assert terminal.output("update", "my-kv", "Semaphore1", "Value2", "3") == "Value2\n"
    assert terminal.output("history", "my-kv", "Semaphore1").splitlines()[-1].split()[:3] == ["Semaphore1", "4", "PUT"]
    with terminal.watching("my-kv") as watch:
        assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] DEL my-kv > Key1", watch.line())
        assert watch.line().endswith("] PUT my-kv > Semaphore1: Value2")
        terminal.output("put", "my-kv", "Key1", "Value2")
        assert watch.line().endswith("] PUT my-kv > Key1: Value2")
        assert watch.ended(signal.SIGINT) == 0
    unanswered = terminal.kv("rm", "my-kv")
    assert (unanswered.returncode, unanswered.stdout) == (1, "")
    assert "--force" in unanswered.stderr
    assert terminal.kv("rm", "my-kv", typed="n\n").returncode == 0
    assert "my-kv\n" in terminal.output("ls", "--names")
    assert terminal.kv("rm", "my-kv", typed="y\n").returncode == 0
    assert terminal.refused("info", "my-kv") == "error: bucket not found: my-kv"


def test_a_watch_ends_with_an_error_when_its_bucket_is_removed_and_with_0_on_sigterm(terminal: Terminal) -> None:
    terminal.output("add", "short-lived")
    with terminal.watching("short-lived", "a.*", "--json") as first, terminal.watching("short-lived", "b.>") as second:
        terminal.output("put", "short-lived", "b.other", "x")
        assert second.line().endswith("b.other: x")
        assert second.ended(signal.SIGTERM) == 0
        terminal.output("put", "short-lived", "a.key", "two\nlines", "--ttl", "1h")
        update = json.loads(first.line())
        assert (update["key"], update["operation"], update["value"]) == ("a.key", "PUT", "two\nlines")
        assert update["expires_at"] > update["time"]
        assert terminal.output("rm", "short-lived", "--force") == ""
        assert first.line() == "error: bucket short-lived was removed"
        assert first.ended() == 1


def test_an_empty_name_is_invalid_and_an_empty_value_is_a_value(terminal: Terminal) -> None:
    terminal.output("add", "kept")
    for words in (["del", "kept", ""], ["rm", "kept", ""], ["rm", ""], ["purge", "kept", ""]):
        assert "invalid " in terminal.refused(*words, "--force", code=2)
    for words in (
        ["ls", ""],
        ["keys", "kept", ""],
        ["watch", "kept", ""],
        ["get", "kept", ""],
        ["put", "kept", "", "v"],
    ):
        assert "invalid " in terminal.refused(*words, code=2)
    assert terminal.output("put", "kept", "empty", "") == "\n"
    assert terminal.output("update", "kept", "empty", "", "1") == "\n"
    assert terminal.output("get", "kept", "empty", "--raw") == ""


def test_bytes_are_returned_unchanged_and_missing_keys_are_exit_code_1(terminal: Terminal) -> None:
    terminal.output("add", "bytes")
    stored = bytes(range(256))
    put = subprocess.run(
        [COMMAND, "kv", "put", "bytes", "all"], env=terminal.environment, input=stored, capture_output=True, check=True
    )
    assert put.stdout == stored + b"\n"
    got = subprocess.run(
        [COMMAND, "kv", "get", "bytes", "all", "--raw"], env=terminal.environment, capture_output=True, check=True
    )
    assert got.stdout == stored
    assert terminal.refused("get", "bytes", "none") == "error: key not found: none"
    assert terminal.refused("get", "bytes", "a b") == 'error: key not found: =_a=20b (actor\'s key: "a b")'
    assert "invalid key ''" in terminal.refused("put", "bytes", "", "x", code=2)


@pytest.mark.parametrize(
    ("number", "name", "stored"),
    [(1, "user:1", "=_user=3A1"), (2, ".a b", "=_.=_a=20b"), (3, "*", "=_=2A"), (4, "é..x", "=_=C3=A9.=_.x")],
)
def test_the_key_of_an_actor_is_used_under_the_actors_name_and_under_the_stored_one(
    terminal: Terminal, number: int, name: str, stored: str
) -> None:
    bucket = f"names-{number}"
    terminal.output("add", bucket, "--history", "3")
    assert terminal.output("put", bucket, name, "one") == "one\n"
    assert terminal.output("get", bucket, name, "--raw") == terminal.output("get", bucket, stored, "--raw") == "one"
    created = json.loads(terminal.output("update", bucket, name, "two", "1", "--json"))
    assert created == {"bucket": bucket, "key": stored, "actor_key": name, "revision": 2}
    assert terminal.output("ls", bucket) == f"{stored}\n"
    assert len(terminal.output("history", bucket, name).splitlines()) == 3
    terminal.output("revert", bucket, name, "1")
    with terminal.watching(bucket, name if name != "*" else stored) as watch:
        assert f"PUT {bucket} > {stored} (actor's key: {json.dumps(name, ensure_ascii=False)}): one" in watch.line()
    terminal.output("del", bucket, name)
    assert terminal.output("create", bucket, name, "three") == "three\n"
    terminal.output("purge", bucket, name)
    found = f"error: key not found: {stored} (actor's key: {json.dumps(name, ensure_ascii=False)})"
    assert terminal.refused("get", bucket, name) == terminal.refused("get", bucket, stored) == found


def test_a_pipe_closed_by_its_reader_is_not_an_error(terminal: Terminal) -> None:
    terminal.output("add", "piped")
    terminal.output("put", "piped", "one", "1")
    line = f"{COMMAND} kv watch piped --history | head -1"
    with subprocess.Popen(["sh", "-c", line], env=terminal.environment, stdout=-1, stderr=-1, text=True) as shell:
        terminal.output("put", "piped", "two", "2")
        terminal.output("put", "piped", "three", "3")
        out, err = shell.communicate(timeout=SECONDS)
    assert out.endswith("PUT piped > one: 1\n")
    assert err == ""


def test_every_command_ends_quietly_when_its_reader_is_gone(terminal: Terminal) -> None:
    terminal.output("add", "unread")
    for command in (
        "put unread k v",
        "get unread k",
        "get unread k --raw",
        "info unread",
        "ls",
        "ls unread -v",
        "keys unread",
        "history unread k",
        "watch unread",
    ):
        read, write = os.pipe()
        os.close(read)
        words = [COMMAND, "kv", *command.split()]
        done = subprocess.run(
            words, env=terminal.environment, stdout=write, stderr=subprocess.PIPE, timeout=SECONDS, check=False
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (0, b""), command


@pytest.mark.parametrize("command", ["put full k v", "get full k --raw", "info full", "keys full", "watch full"])
def test_unwritable_output_is_one_line_and_exit_code_1(terminal: Terminal, command: str) -> None:
    terminal.output("add", "full")
    terminal.output("put", "full", "k", "v")
    done = terminal.shell(f"kv {command} > /dev/full")
    assert done.stderr == "error: standard output cannot be written: no space left on device\n"
    assert done.returncode == 1


def test_closed_standard_streams_mean_no_input_and_no_output(terminal: Terminal) -> None:
    terminal.output("add", "closed")
    assert "closed\n" in terminal.shell("kv ls --names <&-").stdout
    assert terminal.shell("kv put closed k v <&-").stdout == "v\n"
    for line, code in (
        ("kv put closed other <&-", 2),
        ("kv rm closed <&-", 1),
        ("kv get closed k >&-", 0),
        ("kv get closed none 2>&-", 1),
        ("kv get closed k <&- >&- 2>&-", 0),
        (f"CONNECTOR_SOCKET=/tmp/unused NATS_KV_BUCKET=none {COMMAND} state-proxy <&-", 1),
    ):
        done = terminal.shell(line)
        assert done.returncode == code, (line, done.stderr)
        assert "Traceback" not in done.stderr, line
    assert terminal.kv("get", "closed", "other").returncode == 1, "nothing was put"
    hosted = terminal.shell(f"{COMMAND} <&- >&-")
    assert hosted.returncode == 1
    assert hosted.stderr.startswith("keyvalue-nats: malformed host data: nothing on standard input")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_that_is_blocked_by_a_full_pipe(terminal: Terminal, number: int) -> None:
    terminal.output("add", f"stuck-{number}")
    terminal.kv("put", f"stuck-{number}", "k", typed="x" * 200_000)
    read, write = os.pipe()
    arguments = [COMMAND, "kv", "watch", f"stuck-{number}"]
    with subprocess.Popen(arguments, env=terminal.environment, stdout=write, stderr=write) as process:
        try:
            os.close(write)
            eventually_blocking(lambda: _unread_bytes(read) >= 60_000, "a full pipe")
            process.send_signal(number)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
            os.close(read)


def _unread_bytes(descriptor: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_that_is_still_connecting(tmp_path: Path, number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        with Terminal(tmp_path, NATS_URL=url).watching("b") as watch:
            silent.settimeout(SECONDS)
            with silent.accept()[0]:
                assert watch.ended(number) == 0


def test_a_watch_skips_a_subject_that_is_not_text(nats_server: NatsServer, terminal: Terminal) -> None:
    terminal.output("add", "raw")
    with socket.create_connection(("127.0.0.1", nats_server.port), SECONDS) as writer:
        writer.sendall(b"CONNECT {}\r\nPUB $KV.raw.b\xe9d 1\r\nx\r\nPING\r\n")
        eventually_blocking(lambda: b"PONG" in writer.recv(4096), "the server's answer")
    terminal.output("put", "raw", "good", "v")
    with terminal.watching("raw", "--history") as watch:
        assert watch.line().endswith("PUT raw > good: v")


def test_users_passwords_and_credentials_are_never_shown(tmp_path: Path) -> None:
    config = "authorization { user: ann, password: right }"
    with NatsServer(tmp_path / "server", config) as server:
        outside = Terminal(tmp_path, NATS_URL=server.url)
        assert "authorization violation" in outside.refused("ls").lower()
        wrong = Terminal(tmp_path, NATS_URL=server.url, NATS_USER="ann", NATS_PASSWORD="s3cret-wrong")
        message = wrong.refused("ls")
        assert "--user: authorization violation" in message.lower()
        assert "s3cret" not in message
        in_url = server.url.replace("//", "//ann:s3cret-wrong@")
        message = outside.refused("ls", "--server", in_url)
        assert server.url in message
        assert "s3cret" not in message
        right = Terminal(tmp_path, NATS_URL=server.url, NATS_USER="ann", NATS_PASSWORD="right")
        assert right.kv("ls").stderr == "No Key-Value buckets found\n"


def test_certificates_and_an_nkey_come_from_the_environment(tmp_path: Path) -> None:
    authority, key = Authority(tmp_path, "authority"), SigningKey(nkeys.PREFIX_BYTE_USER)
    server_files, client_files = authority.issue("server"), authority.issue("client")
    seed = tmp_path / "user.nk"
    seed.write_text(f"{key.seed}\n")
    tls = f'tls {{ cert_file: "{server_files[0]}", key_file: "{server_files[1]}", ca_file: "{authority.file}", verify: true }}'
    with NatsServer(tmp_path / "server", f"{tls}\nauthorization {{ users: [ {{ nkey: {key.public} }} ] }}") as server:
        variables = {"NATS_URL": server.url, "NATS_CA": str(authority.file), "NATS_NKEY": str(seed)}
        variables |= {"NATS_CERT": str(client_files[0]), "NATS_KEY": str(client_files[1])}
        assert Terminal(tmp_path, **variables).kv("ls").stderr == "No Key-Value buckets found\n"
        assert "certificate" in Terminal(tmp_path, **variables | {"NATS_CA": ""}).refused("ls").lower()


def test_the_default_server_is_that_of_a_running_development_lattice(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    bare = Terminal(tmp_path)
    Terminal(tmp_path, NATS_URL=nats_server.url).output("add", "of-the-lattice")
    with connection_file.announced(make_identity("default", "default"), nats_server.url):
        assert "of-the-lattice\n" in bare.output("ls", "--names")
    assert "of-the-lattice" not in bare.kv("ls", "--names").stdout


def test_a_value_of_many_messages_passes_through_in_the_memory_of_a_few(
    nats_server: NatsServer, terminal: Terminal, tmp_path: Path
) -> None:
    value = b"0123456789abcdef" * 2_500_000
    folder = tmp_path
    (folder / "value").write_bytes(value)
    terminal.output("add", "large")

    def peak_bytes(line: str) -> int:
        """Run a shell line and return the memory of its largest process; a child of this one would count it as its own."""
        measured = "import resource, subprocess, sys\nsubprocess.run(sys.argv[1:], check=True)\n"
        measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
        whole = ["sh", "-ec", f'kv() {{ {COMMAND} kv "$@"; }}\n{line}']
        return int(subprocess.check_output([sys.executable, "-c", measured, *whole], env=terminal.environment))

    small = peak_bytes("kv put large small v > /dev/null")
    assert peak_bytes(f"kv put large file < {folder}/value > {folder}/printed") - small < len(value)
    assert (folder / "printed").read_bytes() == b""
    assert peak_bytes(f"cat {folder}/value | kv create large pipe") - small < len(value)
    assert "key exists" in terminal.shell(f"kv create large pipe < {folder}/value").stderr
    for key in ("file", "pipe"):
        assert peak_bytes(f"kv get large {key} --raw > {folder}/read") - small < len(value)
        assert (folder / "read").read_bytes() == value
    assert peak_bytes(f"kv get large file > {folder}/read") - small < 3 * len(value)


def test_a_dead_and_a_frozen_server_are_one_line_in_time(tmp_path: Path) -> None:
    dead = Terminal(tmp_path, NATS_URL=f"nats://127.0.0.1:{free_port()}")
    assert "cannot connect to NATS at nats://127.0.0.1:" in dead.refused("get", "b", "k")
    with NatsServer(tmp_path / "server") as server:
        server.freeze()
        frozen = Terminal(tmp_path, NATS_URL=server.url, NATS_TIMEOUT="1s")
        began = time.monotonic()
        assert "cannot connect to NATS" in frozen.refused("get", "b", "k")
        assert time.monotonic() - began < 5
        server.thaw()


@pytest.mark.slow
def test_wrong_options_are_usage_errors(terminal: Terminal, tmp_path: Path) -> None:
    for arguments, option in (
        (("add", "b", "--ttl", "soon"), "--ttl"),
        (("add", "b", "--history", "65"), "--history"),
        (("put", "b", "k", "v", "--ttl", "1500ms"), "--ttl"),
        (("put", "b", "k", "v", "--ttl", "140y"), "--ttl"),
        (("add", "b", "--ttl", "300y"), "--ttl"),
        (("add", "b", "--marker-ttl", ""), "--marker-ttl"),
        (("add", "b", "--replicas", "6"), "--replicas"),
        (("add", "b", "--max-value-size", "2G"), "--max-value-size"),
        (("add", "b", "--max-bucket-size", "9000000T"), "--max-bucket-size"),
        (("get", "b", "k", "--revision", str(2**64)), "--revision"),
        (("watch", "b", "--revision", str(2**64)), "--revision"),
        (("update", "b", "k", "v", str(2**64)), "REVISION"),
        (("revert", "b", "k", str(2**64)), "REVISION"),
        *((("ls", option, str(tmp_path / "none")), option) for option in ("--creds", "--nkey", "--tlsca")),
        (("ls", "--creds", str(tmp_path)), "--creds"),
        (("watch", "b", "--history", "--updates"), "--history"),
    ):
        done = terminal.kv(*arguments)
        assert done.returncode == 2, arguments
        assert option in done.stderr
        assert "Traceback" not in done.stderr
