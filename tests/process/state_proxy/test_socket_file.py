"""The file of a connector's socket: paths, permissions, stale files, and files of others."""

from __future__ import annotations

import signal
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from tests.blackbox.connector_process import ConnectorProcess, UnixConnection
from tests.blackbox.nats.nats_server import NatsServer
from tests.process.state_proxy.started import refusal, variables

LONGEST_PATH = 107


def test_a_missing_folder_of_the_socket_is_an_error_of_its_variable(server: NatsServer, tmp_path: Path) -> None:
    printed = refusal(tmp_path, variables(server.url, CONNECTOR_SOCKET=str(tmp_path / "absent" / "s")))
    assert printed.startswith("keyvalue-nats state-proxy: CONNECTOR_SOCKET: ")


def test_other_users_may_connect(connector: ConnectorProcess) -> None:
    assert stat.S_IMODE(connector.socket_path.stat().st_mode) == 0o666


@pytest.mark.parametrize("is_socket", [True, False], ids=["socket", "empty file"])
def test_a_stale_socket_is_replaced(server: NatsServer, tmp_path: Path, is_socket: bool) -> None:
    path = tmp_path / "connector.sock"
    if is_socket:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
    else:
        path.touch()
    with ConnectorProcess(tmp_path, variables(server.url)) as connector, connector.connection() as client:
        assert client.ask("GET", "/healthz").status == 200


def test_the_socket_of_a_running_connector_is_left_alone(
    connector: ConnectorProcess, server: NatsServer, tmp_path: Path
) -> None:
    taken = {"CONNECTOR_SOCKET": str(connector.socket_path)}
    with ConnectorProcess(tmp_path / "second", variables(server.url) | taken, is_ready=False) as second:
        assert second.exited() == 1
        assert second.stderr == "keyvalue-nats state-proxy: CONNECTOR_SOCKET: another process is listening there\n"
    with connector.connection() as client:
        assert client.ask("GET", "/healthz").status == 200


def test_the_socket_of_a_process_with_a_full_backlog_is_left_alone(server: NatsServer, tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with ConnectorProcess(tmp_path, variables(server.url, CONNECTOR_SOCKET=str(path)), is_ready=False) as connector:
            assert connector.exited() == 1
            assert (
                connector.stderr == "keyvalue-nats state-proxy: CONNECTOR_SOCKET: another process is listening there\n"
            )


def test_files_beside_the_socket_are_left_alone(server: NatsServer, tmp_path: Path) -> None:
    beside = [tmp_path / name for name in ("connector.sock~", ".connector.sock")]
    for path in beside:
        path.write_text("content", encoding="utf-8")
    with ConnectorProcess(tmp_path, variables(server.url)) as connector:
        connector.signal(signal.SIGINT)
        assert connector.exited() == 0
    assert [path.read_text(encoding="utf-8") for path in beside] == ["content"] * 2
    assert {path.name for path in tmp_path.iterdir()} - {"own-nats-server"} == {
        "stderr",
        *(path.name for path in beside),
    }


@pytest.mark.parametrize("name", ["s", "connector.sock"])
def test_the_longest_possible_path_is_served_and_a_longer_one_refused(
    server: NatsServer, tmp_path: Path, name: str
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short) / ("f" * (LONGEST_PATH - len(short) - len(name) - 2))
        folder.mkdir()
        longest = folder / name
        assert len(str(longest)) == LONGEST_PATH
        given = variables(server.url, CONNECTOR_SOCKET=str(longest))
        with ConnectorProcess(tmp_path, given), UnixConnection(longest) as client:
            assert client.ask("GET", "/healthz").status == 200
        printed = refusal(tmp_path, variables(server.url, CONNECTOR_SOCKET=f"{longest}s"))
    assert printed == "keyvalue-nats state-proxy: CONNECTOR_SOCKET: path is over 107 bytes long\n"


def test_a_file_with_content_is_left_alone(server: NatsServer, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content", encoding="utf-8")
    printed = refusal(tmp_path, variables(server.url, CONNECTOR_SOCKET=str(path)))
    assert printed == "keyvalue-nats state-proxy: CONNECTOR_SOCKET: the path exists and is not a socket\n"
    assert path.read_text(encoding="utf-8") == "content"
