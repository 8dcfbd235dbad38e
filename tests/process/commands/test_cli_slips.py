"""Slips of people at the keyboard end in one line, and never in a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.nats.nats_server import NatsServer

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")

SEED = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("server")) as server:
        for words, value in (("add b", None), ("put b k", "caf\u00e9 \u4e16"), ("put b long", "x" * 300_000)):
            command = [COMMAND, "kv", *words.split()]
            subprocess.run(command, input=value, env=environment(server), check=True, capture_output=True, text=True)
        yield server


def environment(server: NatsServer | None = None, **variables: str) -> dict[str, str]:
    return os.environ | variables | ({"NATS_URL": server.url} if server else {})


def one_line(stderr: str) -> str:
    assert "Traceback" not in stderr
    assert "Exception ignored" not in stderr
    assert len(stderr.splitlines()) == 1, stderr
    return stderr.strip()


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), ("kv", "--help"), ("call", "--help"), ("kv", "get", "b", "k"), ("kv", "ls")],
)
def test_output_to_a_full_disk_is_one_line(server: NatsServer, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(server), check=False
        )
    assert ended.returncode == 1
    assert one_line(ended.stderr) == "error: standard output cannot be written: no space left on device"


@pytest.mark.parametrize("words", [("kv", "get", "b", "missing"), ("kv", "bogus"), ("--bogus",)])
def test_an_error_to_a_full_disk_keeps_its_exit_code(server: NatsServer, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            [COMMAND, *words], stderr=full, capture_output=False, env=environment(server), check=False
        )
    assert ended.returncode in (1, 2)


@pytest.mark.parametrize(
    "words", [("--help",), ("kv", "--help"), ("kv", "get", "b", "long"), ("kv", "history", "b", "long")]
)
def test_a_closed_pipe_ends_a_command_silently(server: NatsServer, words: tuple[str, ...]) -> None:
    running = subprocess.Popen(
        [COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(server)
    )
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == b""
    running.stderr.close()
    running.wait(timeout=30)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_that_the_terminals_encoding_lacks_is_escaped(server: NatsServer, encoding: str) -> None:
    ended = subprocess.run(
        [COMMAND, "kv", "history", "b", "k"],
        capture_output=True,
        env=environment(server, PYTHONIOENCODING=encoding),
        check=True,
    )
    assert b"\\u4e16" in ended.stdout
    assert ended.stderr == b""


@pytest.mark.parametrize(
    "words",
    [
        "par --issuer SEED",
        "par --subject SEED",
        "par --provider-toml SEED",
        "par --python SEED",
        "par --out SEED/x",
        "par inspect SEED",
        "call Get k --lattice SEED",
        "call SEED k",
        "kv SEED",
        "kv get b k --nkey SEED",
        "kv get b k --creds SEED",
        "kv get b k --server SEED",
        "kv get SEED. k",
        "dev --data-dir /proc/SEED",
        "dev SEED",
        "SEED",
    ],
)
def test_a_seed_in_the_place_of_a_file_or_a_name_is_not_shown(words: str, tmp_path: Path) -> None:
    command = [COMMAND, *words.replace("SEED", SEED).split()]
    variables = environment(NATS_URL="nats://127.0.0.1:1", WASH_KEYS=str(tmp_path))
    ended = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode in (1, 2)
    assert SEED not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_arguments_are_read_as_utf8_in_any_locale(server: NatsServer) -> None:
    variables = environment(server, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    command = [COMMAND.encode(), b"kv", b"put", b"b", "s\u00fcr\u00fc".encode(), "\u4e16".encode()]
    ended = subprocess.run(command, env=variables, capture_output=True, check=True)
    assert ended.stdout == "\u4e16\n".encode()


@pytest.mark.parametrize("words", [("--help",), ("kv", "ls"), ("call", "Get", "k"), ("dev",), ("demo",)])
def test_an_interrupt_while_a_command_starts_leaves_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The interrupt comes while the modules of the command are being imported, at several moments of that."""
    for seconds in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        running = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "provider", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path)),
        )
        assert running.stderr is not None
        for line in running.stderr:  # from here on, and not from the first moment of Python, interrupts are ours
            if "provider.interrupts" in line:
                break
        timer = threading.Timer(seconds, running.send_signal, (signal.SIGINT,))
        timer.start()
        output, errors = running.communicate(timeout=30)
        timer.cancel()
        assert "Traceback" not in output + errors


@pytest.mark.slow
def test_an_interrupt_while_an_archive_is_built_leaves_no_traceback(tmp_path: Path) -> None:
    """A terminal sends the interrupt to all processes of the command."""
    for seconds in (1.0, 1.5, 2.0, 2.5):
        running = subprocess.Popen(
            [COMMAND, "par", "--out", str(tmp_path / "x.par.gz")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(WASH_KEYS=str(tmp_path / "keys")),
            start_new_session=True,
        )
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=60)
        assert "Traceback" not in output
    assert list(tmp_path.glob("*.par.gz*")) == [] or (tmp_path / "x.par.gz").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("call", "SetMany", "a=1", "--ttl=60"), "there is no option --ttl; the options are --expires, "),
        (("call", "Gett", "k"), "did you mean Get?"),
        (("call", "Set", "k", "v", "--expire", "60"), "--expires"),
        (("call", "Get", "k", "--jsn"), "--json"),
        (("call", "Get", "-k"), "there is no option -k"),
        (("kv", "put", "b", "k", "v", "--tll", "60"), "--ttl"),
        (("kv", "put", "b", "k", "-v"), "there is no option -v"),
    ],
)
def test_an_option_that_does_not_exist_is_an_error_with_the_nearest_one(words: tuple[str, ...], text: str) -> None:
    ended = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("k", "-5"),
        ("k", "-1.5"),
        ("k", "-.5"),
        ("k", "-1e3"),
        ("k", "-1_000"),
        ("--", "k", "--ttl=60"),
        ("--", "--key", "-v"),
        ("k", "-"),
    ],
)
def test_negative_numbers_and_words_after_two_dashes_are_values(server: NatsServer, words: tuple[str, ...]) -> None:
    subprocess.run([COMMAND, "kv", "add", "numbers"], env=environment(server), capture_output=True, check=False)
    put = [COMMAND, "kv", "put", "numbers"]
    ended = subprocess.run([*put, *words], env=environment(server), capture_output=True, text=True, check=True)
    assert ended.stdout == words[-1] + "\n"
