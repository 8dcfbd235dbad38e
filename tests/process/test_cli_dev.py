"""`keyvalue-nats dev` and `keyvalue-nats call` as two terminals see them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).parent / "keyvalue-nats")
READY = "Ctrl-C stops it."
DEADLINE_SECONDS = 20.0


class Dev:
    """The command in the foreground of another terminal."""

    def __init__(self, process: subprocess.Popen[str], runtime_folder: Path) -> None:
        self.process = process
        self.runtime_folder = runtime_folder
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> str:
        """Return the first line with the text, past or to come."""
        for line in self.lines:
            if text in line:
                return line
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (line_or_end := self._arrived.get(timeout=deadline - time.monotonic())) is not None:
            self.lines.append(line_or_end)
            if text in line_or_end:
                return line_or_end
        raise AssertionError(f"{text!r} never came; instead:\n{''.join(self.lines)}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        while (line := self._arrived.get_nowait()) is not None:
            self.lines.append(line)
        return code

    def children(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.runtime_folder, "call", *arguments)

    def said(self, *arguments: str) -> str:
        done = self.call(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(line)
        self._arrived.put(None)


def environment(runtime_folder: Path) -> dict[str, str]:
    return os.environ | {"XDG_RUNTIME_DIR": str(runtime_folder)}


def run(runtime_folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=environment(runtime_folder), capture_output=True, text=True, timeout=30, check=False
    )


@contextlib.contextmanager
def dev(runtime_folder: Path, *arguments: str) -> Iterator[Dev]:
    with subprocess.Popen(
        [COMMAND, "dev", *arguments],
        env=environment(runtime_folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        started = Dev(process, runtime_folder)
        try:
            started.wait_for(READY)
            yield started
        finally:
            if process.poll() is None:
                started.stop()


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("runtime")) as started:
        yield started


def test_a_value_set_from_another_terminal_is_read_back(lattice: Dev) -> None:
    assert lattice.said("Set", "user:1", "Ann", "--expires", "60") == "ok\n"
    assert lattice.said("get", "user:1") == "Ann\n"
    assert lattice.said("KeyValue.Contains", "user:1") == "true\n"


def test_negative_numbers_are_arguments(lattice: Dev) -> None:
    assert lattice.said("Increment", "negative", "-5") == "-5\n"
    assert lattice.said("ListAdd", "ends", "a") == "1\n"
    assert lattice.said("ListAdd", "ends", "b") == "2\n"
    assert lattice.said("ListRange", "ends", "-2", "-1") == "a\nb\n"


def test_a_missing_value_is_nothing_on_standard_output(lattice: Dev) -> None:
    done = lattice.call("Get", "missing")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "(no value)\n")


def test_json_is_one_object_for_results_and_for_errors(lattice: Dev) -> None:
    assert json.loads(lattice.said("Set", "for-json", "x", "--json")) == {"operation": "KeyValue.Set", "result": None}
    got = json.loads(lattice.said("Get", "for-json", "--json"))
    assert got == {"operation": "KeyValue.Get", "result": {"value": "x", "exists": True}}
    failed = lattice.call("SetAdd", "for-json", "m", "--json")
    assert failed.returncode == 1
    assert "for-json" in json.loads(failed.stdout)["error"]


def test_the_providers_error_goes_to_standard_error_with_exit_code_1(lattice: Dev) -> None:
    lattice.said("Set", "a-text", "x")
    done = lattice.call("ListAdd", "a-text", "y")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "a-text" in done.stderr


def test_wrong_arguments_are_a_usage_error_that_names_the_right_ones(lattice: Dev) -> None:
    done = lattice.call("ListRange", "l", "0")
    assert done.returncode == 2
    assert "ListRange takes KEY START STOP" in done.stderr


def test_every_invocation_is_a_line_that_shows_operation_key_size_and_time(lattice: Dev) -> None:
    lattice.said("Set", "shown", "secret-text")
    words = lattice.wait_for(" shown ").split()
    assert words[1:5] == ["Set", "shown", "0", "B"]
    assert words[6] == "µs"
    assert not any("secret-text" in line for line in lattice.lines)


def test_without_a_running_lattice_call_says_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "call", "Get", "k")
    assert done.returncode == 1
    assert "keyvalue-nats dev" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_that_was_started(tmp_path: Path, number: int) -> None:
    with dev(tmp_path) as started:
        children = started.children()
        assert len(children) == 2
        assert started.stop(number) == 0
    assert started.lines[-1] == "stopped\n"
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert list((tmp_path / "keyvalue-nats").iterdir()) == []


def test_a_data_folder_keeps_the_data_from_one_run_to_the_next(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    with dev(tmp_path, "--data-dir", folder) as first:
        first.said("Set", "kept", "still here")
    with dev(tmp_path, "--data-dir", folder) as second:
        assert second.said("Get", "kept") == "still here\n"


def test_several_instances_share_the_invocations_of_one_link(tmp_path: Path) -> None:
    with dev(tmp_path, "--instances", "3", "--quiet") as started:
        assert len(started.children()) == 4
        totals = [int(started.said("Increment", "shared", "1")) for _ in range(4)]
        assert started.stop() == 0
    assert totals == [1, 2, 3, 4]
    assert not any("Increment" in line for line in started.lines)


def test_a_link_value_reaches_the_provider(tmp_path: Path) -> None:
    with dev(tmp_path, "--link-value", "bucket=elsewhere") as started:
        started.said("Set", "k", "v")
        assert any("kv ls elsewhere" in line for line in started.lines)
        assert "store=elsewhere" in started.wait_for("link_opened")


def test_several_instances_replicate_the_cache_of_one_link(tmp_path: Path) -> None:
    with dev(tmp_path, "--backend", "cache", "--instances", "3", "--quiet") as started:
        assert len(started.children()) == 4
        assert "kv ls" not in "".join(started.lines), "there is no bucket to look at"
        for number in range(6):
            started.said("Increment", "shared", str(number))
        give_up = time.monotonic() + 10
        while [started.said("Get", "shared") for _ in range(6)] != ["15\n"] * 6:
            assert time.monotonic() < give_up
        assert started.stop() == 0


def test_a_provider_that_dies_ends_the_command_with_an_error(tmp_path: Path) -> None:
    with dev(tmp_path) as started:
        provider = next(pid for pid in started.children() if b"provider" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(provider, signal.SIGKILL)
        assert started.ended() == 1
    assert "every provider process has ended" in started.lines[-1]


def test_a_nats_server_that_is_not_there_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = run(tmp_path, "dev", "--nats", "nats://127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot connect to NATS at nats://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_nats_server_binary_is_answered_with_how_to_get_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "dev"],
        env=environment(tmp_path) | {"NATS_SERVER_BINARY": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "NATS_SERVER_BINARY" in done.stderr
