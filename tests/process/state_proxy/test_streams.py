"""Files of a mount with `write=passthrough`: a request that begins with `open` and grows with each write."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tests.blackbox.actor_files import ActorFiles
from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket
from tests.blackbox.nats.nats_server import NatsServer
from tests.process.state_proxy.started import BUCKET, variables

MEBIBYTE = 1024 * 1024
LARGE = b"x" * 100_000
PAUSE_SECONDS = 25.0
"""More than an answer, a head or the rest of a refused request may take."""


@pytest.mark.slow
def test_a_stream_may_pause_between_two_writes(connector: ConnectorProcess) -> None:
    files = ActorFiles(connector)
    streams = {name: files.stream(name) for name in ("small", "large", "empty", "of-many-messages")}
    streams["small"].write(b"one")
    streams["large"].write(LARGE)
    streams["of-many-messages"].write(*[LARGE] * 12)
    time.sleep(PAUSE_SECONDS)
    streams["small"].write(b"two")
    streams["large"].write(LARGE)
    streams["of-many-messages"].write(*[LARGE] * 12)
    for stream in streams.values():
        stream.close()
    assert files.open("small").read() == b"onetwo"
    assert files.open("large").read() == 2 * LARGE
    assert files.open("empty").read() == b""
    assert files.open("of-many-messages").read() == 24 * LARGE


@pytest.mark.parametrize("parts", [11, 200])
def test_a_stream_that_is_too_large_fails_at_its_end_and_not_in_a_write(
    own_nats_server: NatsServer, tmp_path: Path, parts: int
) -> None:
    make_bucket(own_nats_server.url, BUCKET, history=2)  # values of such a bucket are one message
    with ConnectorProcess(tmp_path, variables(own_nats_server.url)) as connector:
        files = ActorFiles(connector)
        stream = files.stream("too-large")
        for _ in range(parts):
            stream.write(LARGE)
        with pytest.raises(OSError, match="over 1048576 bytes, the server's max_payload") as raised:
            stream.close()
        assert raised.value.errno == errno.EFBIG
        with pytest.raises(OSError, match="over 1048576 bytes, the server's max_payload"):
            files.write("too-large", LARGE * parts)
        assert not files.exists("too-large")


def test_many_open_streams_leave_room_for_other_files(connector: ConnectorProcess) -> None:
    files = ActorFiles(connector)
    streams = [files.stream(f"stream-{number}") for number in range(100)]
    for stream in streams:
        stream.write(b"begun")
    large = [files.stream(f"large-{number}") for number in range(4)]
    for stream in large:
        stream.write(LARGE)
    files.write("file", 5 * LARGE)
    assert files.open("file").read() == 5 * LARGE
    for stream in streams + large:
        stream.close()
    assert files.size("stream-99") == 5
    assert files.size("large-3") == len(LARGE)


@pytest.mark.parametrize(("max_payload", "is_one_message"), [("1MB", False), ("2MB", True)])
def test_a_file_of_a_mebibyte_is_one_message_where_it_fits(
    tmp_path: Path, max_payload: str, is_one_message: bool
) -> None:
    with NatsServer(tmp_path / "server", f"max_payload: {max_payload}") as server:
        make_bucket(server.url, BUCKET)
        with ConnectorProcess(tmp_path / "connector", variables(server.url)) as connector:
            files = ActorFiles(connector)
            for letter in b"xy":
                files.write("file", bytes([letter]) * MEBIBYTE)
                assert files.open("file").read() == bytes([letter]) * MEBIBYTE
            stored = with_bucket(server.url, BUCKET, lambda bucket: bucket.get("file")).value
            assert (stored == b"y" * MEBIBYTE) is is_one_message
            files.write("smaller", b"x" * (MEBIBYTE - 200))
            assert with_bucket(server.url, BUCKET, lambda bucket: bucket.get("smaller")).value == b"x" * (
                MEBIBYTE - 200
            )
