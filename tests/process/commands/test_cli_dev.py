"""`keyvalue-nats dev` and `keyvalue-nats call`, run as in two terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.proc import freeze
from tests.blackbox.waiting import eventually_blocking
from tests.process.commands.dev_terminal import COMMAND, READY, Dev, dev, environment, run


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with dev(tmp_path_factory.mktemp("runtime")) as started:
        yield started


def test_a_value_set_from_another_terminal_is_read_back(lattice: Dev) -> None:
    assert lattice.output("Set", "user:1", "Ann", "--expires", "60") == "ok\n"
    assert lattice.output("get", "user:1") == "Ann\n"
    assert lattice.output("KeyValue.Contains", "user:1") == "true\n"


def test_a_value_longer_than_a_message_is_set_from_a_file_and_read_back(lattice: Dev, tmp_path: Path) -> None:
    text = "0123456789" * 200_000
    (tmp_path / "long").write_text(text)
    assert lattice.output("Set", "long", f"@{tmp_path / 'long'}") == "ok\n"
    assert lattice.output("Get", "long") == text + "\n"


def test_the_kv_commands_take_the_name_under_which_call_has_set_a_value(lattice: Dev) -> None:
    assert lattice.output("Set", "shop:1", "open") == "ok\n"
    (bucket,) = run(lattice.runtime_folder, "kv", "ls", "--names").stdout.split()
    assert run(lattice.runtime_folder, "kv", "get", bucket, "shop:1", "--raw").stdout == "open"
    assert run(lattice.runtime_folder, "kv", "put", bucket, "shop:1", "closed").returncode == 0
    assert lattice.output("Get", "shop:1") == "closed\n"


def test_negative_numbers_are_arguments(lattice: Dev) -> None:
    assert lattice.output("Increment", "negative", "-5") == "-5\n"
    assert lattice.output("ListAdd", "ends", "a") == "1\n"
    assert lattice.output("ListAdd", "ends", "b") == "2\n"
    assert lattice.output("ListRange", "ends", "-2", "-1") == "a\nb\n"


def test_a_missing_value_is_nothing_on_standard_output(lattice: Dev) -> None:
    done = lattice.call("Get", "missing")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "(no value)\n")


def test_json_is_one_object_for_results_and_for_errors(lattice: Dev) -> None:
    assert json.loads(lattice.output("Set", "for-json", "x", "--json")) == {"operation": "KeyValue.Set", "result": None}
    got = json.loads(lattice.output("Get", "for-json", "--json"))
    assert got == {"operation": "KeyValue.Get", "result": {"value": "x", "exists": True}}
    failed = lattice.call("SetAdd", "for-json", "m", "--json")
    assert failed.returncode == 1
    assert "for-json" in json.loads(failed.stdout)["error"]


def test_the_providers_error_goes_to_standard_error_with_exit_code_1(lattice: Dev) -> None:
    lattice.output("Set", "a-text", "x")
    done = lattice.call("ListAdd", "a-text", "y")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "a-text" in done.stderr


def test_wrong_arguments_are_a_usage_error_that_shows_the_correct_form(lattice: Dev) -> None:
    done = lattice.call("ListRange", "l", "0")
    assert done.returncode == 2
    assert "ListRange takes KEY START STOP" in done.stderr


def test_every_invocation_is_a_line_that_shows_operation_key_size_and_time(lattice: Dev) -> None:
    lattice.output("Set", "shown", "secret-text")
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


def test_a_data_folder_keeps_the_data_between_runs(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    with dev(tmp_path, "--data-dir", folder) as first:
        first.output("Set", "kept", "still here")
    with dev(tmp_path, "--data-dir", folder) as second:
        assert second.output("Get", "kept") == "still here\n"


def test_several_instances_share_the_invocations_of_one_link(tmp_path: Path) -> None:
    with dev(tmp_path, "--instances", "3", "--quiet") as started:
        assert len(started.children()) == 4
        totals = [int(started.output("Increment", "shared", "1")) for _ in range(4)]
        assert started.stop() == 0
    assert totals == [1, 2, 3, 4]
    assert not any("Increment" in line for line in started.lines)


def test_a_link_value_reaches_the_provider(tmp_path: Path) -> None:
    with dev(tmp_path, "--link-value", "bucket=elsewhere") as started:
        started.output("Set", "k", "v")
        assert any(line == "    keyvalue-nats kv ls elsewhere\n" for line in started.lines)
        assert "store=elsewhere" in started.wait_for("link_opened")


def test_the_changes_that_a_watching_actor_receives_are_shown(tmp_path: Path) -> None:
    with dev(tmp_path, "--link-value", "WATCH=orders.*") as started:
        for _ in range(3):  # the first write may precede the watch
            started.output("Set", "orders.1", "two apples")
        assert "put text 'two apples'" in started.wait_for("HandleChange")


def test_several_instances_replicate_the_cache_of_one_link(tmp_path: Path) -> None:
    with dev(tmp_path, "--backend", "cache", "--instances", "3", "--quiet") as started:
        assert len(started.children()) == 4
        assert "kv ls" not in "".join(started.lines), "there is no bucket to look at"
        for number in range(6):
            started.output("Increment", "shared", str(number))
        give_up = time.monotonic() + 10
        while [started.output("Get", "shared") for _ in range(6)] != ["15\n"] * 6:
            assert time.monotonic() < give_up
        assert started.stop() == 0


def test_a_provider_that_dies_ends_the_command_with_an_error(tmp_path: Path) -> None:
    with dev(tmp_path) as started:
        os.kill(started.child("provider"), signal.SIGKILL)
        assert started.ended() == 1
    assert "every provider process has ended" in started.lines[-1]


def test_an_unreachable_nats_server_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = run(tmp_path, "dev", "--nats", "nats://127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot connect to NATS at nats://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_error_for_a_missing_nats_server_binary_says_how_to_get_one(tmp_path: Path) -> None:
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


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the error of a failed command, which must be one line, without the usage before it."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_data_folder_that_a_running_dev_uses_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    with dev(tmp_path, "--data-dir", folder) as first:
        message = one_line(run(tmp_path, "dev", "--data-dir", folder, "--lattice", "second"), 1)
        assert message == f"error: {folder} is used by a running dev (pid {first.process.pid})"


def test_a_lattice_name_is_unique_and_call_says_which_of_several_lattices_it_chose(lattice: Dev) -> None:
    message = one_line(run(lattice.runtime_folder, "dev"), 1)
    assert message.startswith(f"error: a lattice named 'default' is running (pid {lattice.process.pid})")
    with dev(lattice.runtime_folder, "--lattice", "second"):
        assert (
            lattice.call("Contains", "nothing").stderr
            == "lattice 'second'; use --lattice to choose another: 'default'\n"
        )
        assert lattice.call("Contains", "nothing", "--lattice", "default").stderr == ""


def test_a_write_without_an_answer_says_that_its_outcome_is_unknown(tmp_path: Path) -> None:
    with dev(tmp_path, "--quiet") as started:
        provider = started.child("provider")
        freeze(provider)
        written, read = started.call("Set", "k", "v", "--timeout", "0.5"), started.call("Get", "k", "--timeout", "0.5")
        os.kill(provider, signal.SIGCONT)
        assert one_line(written, 1) == "error: no answer within 0.5 s: outcome unknown"
        assert one_line(read, 1) == "error: no answer within 0.5 s"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "3601", "1h1s"])
def test_an_invalid_time_out_is_refused(seconds: str, tmp_path: Path) -> None:
    message = one_line(run(tmp_path, "call", "Increment", "n", "1", "--timeout", seconds), 2)
    assert "Invalid value for --timeout: expected" in message


def test_the_password_in_an_address_is_never_shown(tmp_path: Path) -> None:
    config = "authorization { user: ann, password: s3cret }"
    with NatsServer(tmp_path / "server", config) as server:
        address = server.url.replace("//", "//ann:s3cret@")
        with dev(tmp_path, "--nats", address) as started:
            assert started.output("Set", "k", "v") == "ok\n"
            assert server.url in started.wait_for("    nats ")
            assert not any("s3cret" in line for line in started.lines)
            message = one_line(
                run(tmp_path, "dev", "--nats", address.replace("s3cret", "wr0ng"), "--lattice", "two"), 1
            )
            reasons = (
                "authorization violation",
                "connection reset by peer",
            )  # the server may close the connection before its reason was read
            assert message.lower() in [f"error: cannot connect to nats at {server.url}: {reason}" for reason in reasons]
            server.kill()
            assert server.url in one_line(started.call("Get", "k"), 1)
    unreachable = f"nats://ann:s3cret@127.0.0.1:{free_port()}"
    for command in ("dev", "demo"):
        message = one_line(run(tmp_path, command, "--nats", unreachable), 1)
        assert (
            message == f"error: cannot connect to NATS at {unreachable.replace('ann:s3cret@', '')}: connection refused"
        )


@pytest.mark.slow
def test_it_continues_when_its_server_is_back_and_stops_in_order_while_it_is_away(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server:
        with dev(tmp_path, "--nats", server.url, "--link-value", "WATCH=orders.*") as started:
            told_of = "HandleChange      {}"
            started.call("Set", "orders.1", "x")
            started.wait_for(told_of.format("orders.1"))
            server.kill()
            started.wait_for("nats_disconnected")
            server.start()
            started.wait_for("nats_reconnected")
            eventually_blocking(lambda: started.call("Set", "orders.2", "x").returncode == 0, "a write that is served")
            started.wait_for(told_of.format("orders.2"))
            server.kill()
            assert started.stop() == 0
        assert not any("Traceback" in line for line in started.lines)


def test_the_end_of_its_own_server_ends_the_command_with_an_error(tmp_path: Path) -> None:
    with dev(tmp_path) as started:
        os.kill(started.child("nats-server"), signal.SIGKILL)
        assert started.ended() == 1
    assert started.lines[-1] == "error: nats-server ended with code -9\n"


def test_a_frozen_server_is_waited_for_no_longer_than_the_time_out(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server, dev(tmp_path, "--nats", server.url) as started:
        server.freeze()
        began = time.monotonic()
        message = one_line(started.call("Get", "k", "--timeout", "1"), 1)
        assert time.monotonic() - began < 4
        server.thaw()
        assert message == f"error: cannot connect to NATS at {server.url}: no answer within 1 s"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--nats", "http://127.0.0.1:1"), "'--nats': expected a URL of scheme nats or tls, not 'http'"),
        (
            ("--nats", "nats://127.0.0.1:1", "--data-dir", "x"),
            "--data-dir: it is for a nats-server that this command starts",
        ),
        (("--nats", "nats://127.0.0.1:1", "--port", "1"), "--port: it is for a nats-server that this command starts"),
        (("--backend", "cache", "--link-value", "BACKEND=bucket"), "--link-value: BACKEND is given twice"),
        (("--link-value", "BUKET=x"), "--link-value: 'BUKET': there is no such setting; did you mean BUCKET?"),
        (("--link-value", "TTL=abc"), "--link-value: TTL: expected a duration"),
        (("--backend", "foo"), "'--backend': 'foo' is not one of 'bucket', 'cache'."),
        (("--instances", "x"), "'--instances': expected a whole number"),
        (("--instances", "99"), "'--instances': expected 32 at most"),
        (("--lattice", "\udcff"), "--lattice: not UTF-8"),
    ],
)
def test_invalid_options_are_usage_errors(arguments: tuple[str, ...], text: str, tmp_path: Path) -> None:
    assert one_line(run(tmp_path, "dev", *arguments), 2).startswith(f"Error: Invalid value for {text}")


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    message = one_line(run(tmp_path, "dev", "--data-dir", "/proc/x"), 1)
    assert message == "error: /proc/x cannot be used for the data: no such file or directory"


def test_a_port_in_use_is_one_line_and_a_free_one_is_used(tmp_path: Path) -> None:
    port = str(free_port())
    with dev(tmp_path, "--port", port) as started:
        assert f"nats://127.0.0.1:{port}\n" in started.wait_for("    nats ")
        message = one_line(run(tmp_path, "dev", "--port", port, "--lattice", "second"), 1)
        assert "address already in use" in message


def test_an_argument_that_is_not_text_is_a_usage_error(tmp_path: Path) -> None:
    assert "argument 1 is not UTF-8" in one_line(run(tmp_path, "call", "Set", "\udcff\udcfe", "v"), 2)


def test_a_link_that_does_not_work_is_reported_after_the_greeting(tmp_path: Path) -> None:
    with dev(tmp_path, "--link-value", "REPLICAS=3") as started:
        assert "REPLICAS" in started.wait_for("the link does not work: ")


def test_the_greeting_names_the_links_own_server(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server") as server:
        address = server.url.replace("//", "//ann:s3cret@")
        with dev(tmp_path, "--link-value", f"URL={address}", "--link-value", "BUCKET=there") as started:
            assert started.wait_for("kv ls") == f"    keyvalue-nats kv ls there --nats {server.url}\n"


def test_a_cursor_for_more_keys_is_on_standard_error(lattice: Dev) -> None:
    for number in range(3):
        lattice.output("Set", f"page.{number}", "x")
    page = lattice.call("ListKeys", "page.", "", "2")
    cursor = page.stderr.removeprefix("more: cursor ").rstrip()
    assert len(page.stdout.split()) <= 2
    assert cursor.isdigit()
    keys = page.stdout.split()
    while cursor:
        page = lattice.call("ListKeys", "page.", cursor, "2")
        keys += page.stdout.split()
        cursor = page.stderr.removeprefix("more: cursor ").rstrip()
    assert sorted(set(keys)) == ["page.0", "page.1", "page.2"]


def test_the_next_command_removes_the_files_of_a_killed_one(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    variables = environment(tmp_path) | {"TMPDIR": str(temporary)}
    with subprocess.Popen([COMMAND, "dev"], env=variables, stdout=subprocess.PIPE, text=True) as process:
        killed = Dev(process, tmp_path)
        killed.wait_for(READY)
        server = killed.child("nats-server")
        process.kill()
        killed.ended()
    eventually_blocking(lambda: not Path(f"/proc/{server}").exists(), "the end of its server")
    (left,) = temporary.glob("keyvalue-nats-*")
    os.utime(left, (0, 0))
    with subprocess.Popen([COMMAND, "dev"], env=variables, stdout=subprocess.PIPE, text=True) as process:
        following = Dev(process, tmp_path)
        following.wait_for(READY)
        assert not left.exists()
        assert following.stop() == 0
    assert list(temporary.iterdir()) == []
