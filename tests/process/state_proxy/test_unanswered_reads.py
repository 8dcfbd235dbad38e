"""A read that was not answered is no absence: what a client takes for a missing file is not overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.blackbox.actor_files import ActorFiles, FileConflictError
from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually_blocking
from tests.process.state_proxy.started import BUCKET, variables

HEALED_SECONDS = 15.0
NAME = "state.json"


@pytest.mark.slow
@pytest.mark.parametrize("is_looked_up", [True, False], ids=["looked up", "read"])
@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "stopped"])
def test_a_file_that_could_not_be_read_is_not_overwritten_by_a_handler_that_begins_anew(
    server: NatsServer, connector: ConnectorProcess, is_looked_up: bool, is_frozen: bool
) -> None:
    files = ActorFiles(connector)
    files.write(NAME, b"precious")
    server.freeze() if is_frozen else server.stop()
    if is_looked_up:
        assert not files.exists(NAME)
    else:
        with pytest.raises(OSError, match="nothing was"):
            files.open(NAME)
    server.thaw() if is_frozen else server.start()
    with connector.connection() as client:
        eventually_blocking(lambda: client.ask("GET", "/healthz").status == 200, "a healed connector", HEALED_SECONDS)
    for _ in range(2):
        with pytest.raises(FileConflictError, match="must be read before it is written"):
            files.write(NAME, b"begun anew")
    assert files.exists(NAME)
    assert files.open(NAME).read() == b"precious"
    files.write(NAME, b"changed")
    files.write("other", b"never read")


def test_a_read_waits_for_a_server_that_restarts(server: NatsServer, connector: ConnectorProcess) -> None:
    files = ActorFiles(connector)
    files.write(NAME, b"precious")
    server.stop()
    with connector.connection() as reading, connector.connection() as looking:
        reading.request("GET", f"/keys/{NAME}")
        looking.request("HEAD", f"/keys/{NAME}")
        with connector.connection() as client:
            assert client.ask("PUT", "/keys/other", b"").status == 503
        server.start()
        assert reading.answer().body == b"precious"
        assert looking.answer().status == 204


def test_a_failed_read_before_the_bucket_was_open_counts_too(server: NatsServer, tmp_path: Path) -> None:
    with_bucket(server.url, BUCKET, lambda bucket: bucket.put(NAME, b"precious"))
    server.stop()
    with ConnectorProcess(tmp_path, variables(server.url), is_ready=False) as connector:
        eventually_blocking(connector.socket_path.exists, "the socket")
        files = ActorFiles(connector)
        assert not files.exists(NAME)
        server.start()
        with connector.connection() as client:
            eventually_blocking(lambda: client.ask("GET", "/healthz").status == 200, "an open bucket", HEALED_SECONDS)
        with pytest.raises(FileConflictError):
            files.write(NAME, b"begun anew")
        files.write("created", b"new", is_exclusive=True)
        files.remove(NAME)
        files.write(NAME, b"after its removal")


def test_a_read_without_permission_is_no_absence_either(tmp_path: Path) -> None:
    permissions = """
        authorization { users = [
            { user: operator, password: right }
            { user: writer, password: right, permissions: {
                publish: { deny: ["$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.>"] } } }
        ] }"""
    with NatsServer(tmp_path / "server", permissions) as server:
        make_bucket(server.url.replace("nats://", "nats://operator:right@"), BUCKET)
        url = server.url.replace("nats://", "nats://writer:right@")
        with ConnectorProcess(tmp_path / "connector", variables(url)) as connector:
            files = ActorFiles(connector)
            with pytest.raises(PermissionError):
                files.open(NAME)
            with pytest.raises(FileConflictError):
                files.write(NAME, b"begun anew")
