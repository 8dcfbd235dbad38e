"""A connector's socket is there from the first moment to the last: no client takes its absence for that of a file."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.blackbox.actor_files import ActorFiles
from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually_blocking
from tests.process.state_proxy.started import BUCKET, refusal, variables

HEALED_SECONDS = 15.0


def wait_ending(connector: ConnectorProcess) -> None:
    """Wait until a connector has seen the signal: it refuses new writes, which are otherwise answered 204."""
    with connector.connection() as client:
        eventually_blocking(lambda: client.ask("PUT", "/keys/probe", b"").status == 503, "the end of new writes")


# --- start


def test_the_socket_listens_before_the_rest_is_loaded() -> None:
    check = (
        "import sys, provider.state_proxy.launch\n"
        "heavy = ('asyncio', 'dataclasses', 'typing', 'uvloop', 'msgspec', 'nats', 'httptools')\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}\n{check}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == []


def test_a_client_that_comes_as_soon_as_there_is_a_socket_is_answered(server: NatsServer, tmp_path: Path) -> None:
    with_bucket(server.url, BUCKET, lambda bucket: bucket.put("state.json", b"precious"))
    with ConnectorProcess(tmp_path, variables(server.url), is_ready=False) as connector:
        files = ActorFiles(connector)
        eventually_blocking(connector.socket_path.exists, "the socket", poll_seconds=0.0005)
        assert files.open("state.json").read() == b"precious"


@pytest.mark.parametrize("name", ["CONNECTOR_SOCKET", "NATS_URL", "NATS_KV_BUCKET"])
@pytest.mark.parametrize("value", [None, ""])
def test_without_a_required_variable_there_is_not_even_a_socket(tmp_path: Path, name: str, value: str | None) -> None:
    printed = refusal(tmp_path, variables("nats://127.0.0.1:1") | {name: value})
    assert printed == f"keyvalue-nats state-proxy: {name}: not set\n"
    assert {path.name for path in tmp_path.iterdir()} == {"stderr"}


def test_while_nats_is_away_at_the_start_nothing_is_taken_for_absent(server: NatsServer, tmp_path: Path) -> None:
    with_bucket(server.url, BUCKET, lambda bucket: bucket.put("state.json", b"precious"))
    server.stop()
    with ConnectorProcess(tmp_path, variables(server.url), is_ready=False) as connector:
        files = ActorFiles(connector)
        eventually_blocking(connector.socket_path.exists, "the socket")
        with pytest.raises(ConnectionError, match="NATS_URL"):
            files.open("state.json")
        with pytest.raises(ConnectionError):
            files.write("state.json", b"begun anew")
        server.start()
        eventually_blocking(lambda: files.exists("state.json"), "an open bucket", HEALED_SECONDS)
        assert files.open("state.json").read() == b"precious"
        assert connector.exit_code is None


def test_a_server_without_jetstream_counts_as_away(tmp_path: Path) -> None:
    with (
        NatsServer(tmp_path / "server", has_jetstream=False) as server,
        ConnectorProcess(tmp_path / "connector", variables(server.url), is_ready=False) as connector,
    ):
        eventually_blocking(lambda: "bucket_unavailable" in connector.stderr, "an attempt", HEALED_SECONDS)
        with pytest.raises(ConnectionError, match="JetStream"):
            ActorFiles(connector).open("a")


def test_clients_of_a_connector_with_a_wrong_setting_are_told_and_then_refused(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    given = variables(nats_server.url, NATS_KV_BUCKET="absent")
    with ConnectorProcess(tmp_path, given, is_ready=False) as connector:
        eventually_blocking(connector.socket_path.exists, "the socket", poll_seconds=0.0005)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="does not exist"):
                ActorFiles(connector).open("state.json")
        assert connector.exited() == 1
        with pytest.raises(ConnectionRefusedError):
            ActorFiles(connector).open("state.json")
    make_bucket(nats_server.url, "absent")
    with ConnectorProcess(tmp_path, given) as connector, pytest.raises(FileNotFoundError, match="does not exist"):
        ActorFiles(connector).open("state.json")


# --- end


def test_after_sigterm_reads_and_begun_writes_go_on_and_new_writes_are_refused(connector: ConnectorProcess) -> None:
    files = ActorFiles(connector)
    files.write("a/b", b"1")
    begun, abandoned = files.stream("begun"), files.stream("abandoned")
    begun.write(b"x" * 100_000)
    connector.signal(signal.SIGTERM)
    wait_ending(connector)
    assert files.open("a/b").read() == b"1"
    assert (files.size("a/b"), files.is_folder("a"), files.names("a/")) == (1, True, ["b"])
    assert files.attributes("a/b") == ["ttl", "version"]
    changes: list[Callable[[], None]] = [
        lambda: files.write("a/b", b"2"),
        lambda: files.write("new", b"2", is_exclusive=True),
        lambda: files.remove("a/b"),
        lambda: files.set_attribute("a/b", "ttl", "60"),
        lambda: files.stream("late").close(),
    ]
    for change in changes:
        with pytest.raises(ConnectionError, match="about to end"):
            change()
    begun.write(b"y")
    begun.close()
    assert files.size("begun") == 100_001
    assert connector.socket_path.exists()
    assert connector.exit_code is None
    connector.signal(signal.SIGTERM)
    assert connector.exited() == 0
    assert not connector.socket_path.exists()
    with pytest.raises(BrokenPipeError):
        abandoned.write(b"too late")
    abandoned.abandon()


@pytest.mark.parametrize("is_pod", [pytest.param(True, marks=pytest.mark.slow), False])
def test_the_grace_period_ends_by_itself(server: NatsServer, tmp_path: Path, is_pod: bool) -> None:
    given = variables(server.url, KUBERNETES_SERVICE_HOST="10.0.0.1" if is_pod else None)
    with ConnectorProcess(tmp_path, given) as connector:
        connector.signal(signal.SIGTERM)
        wait_ending(connector)
        eventually_blocking(lambda: connector.exit_code is not None, "the end", 45)
        assert connector.exit_code == 0
        assert not connector.socket_path.exists()


def test_sigint_ends_the_connector_at_once_and_lets_requests_under_way_finish(connector: ConnectorProcess) -> None:
    body = b"x" * 500_000
    with connector.raw() as raw, connector.raw() as idle:
        raw.sendall(b"PUT /keys/a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
        connector.signal(signal.SIGINT)
        assert idle.recv(100) == b""
        assert connector.socket_path.exists()
        raw.sendall(body)
        assert raw.recv(1000).startswith(b"HTTP/1.1 204 ")
    assert connector.exited() == 0
    assert not connector.socket_path.exists()


def test_after_sigterm_while_nats_is_away_the_connector_answers_until_the_end(
    server: NatsServer, connector: ConnectorProcess
) -> None:
    server.stop()
    connector.signal(signal.SIGTERM)
    wait_ending(connector)
    with pytest.raises(ConnectionError):
        ActorFiles(connector).open("a")
    connector.signal(signal.SIGTERM)
    assert connector.exited() == 0


def test_a_signal_during_the_start_ends_the_connector_like_any_other(tmp_path: Path) -> None:
    given = variables(f"nats://127.0.0.1:{free_port()}", KUBERNETES_SERVICE_HOST="10.0.0.1")
    with ConnectorProcess(tmp_path, given, is_ready=False) as connector:
        eventually_blocking(connector.socket_path.exists, "the socket", poll_seconds=0.0005)
        connector.signal(signal.SIGTERM)
        with pytest.raises(ConnectionError, match="NATS_URL"):
            ActorFiles(connector).open("a")
        connector.signal(signal.SIGTERM)
        assert connector.exited() == 0
        assert not connector.socket_path.exists()


def test_a_process_that_is_signalled_again_and_again_ends_in_order(connector: ConnectorProcess) -> None:
    connector.signal(signal.SIGTERM)
    wait_ending(connector)

    def is_ended_by_another() -> bool:
        connector.signal(signal.SIGTERM)
        return connector.exit_code is not None

    eventually_blocking(is_ended_by_another, "the end", poll_seconds=0.0005)
    assert connector.exit_code == 0
    assert not connector.socket_path.exists()


def test_a_signal_ends_a_start_on_a_silent_server(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        with ConnectorProcess(tmp_path, variables(url), is_ready=False) as connector:
            accepted, _ = silent.accept()
            connector.signal(signal.SIGINT)
            assert connector.exited() == 0
            accepted.close()
