"""Files of many messages: written while they come, read while they are sent, in little memory."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from contracts import keyvalue as kv
from provider.keyvalue.bucket.engine import Engine
from tests.blackbox.actor_files import ActorFiles, FileConflictError
from tests.blackbox.connector_process import ConnectorProcess, UnixConnection
from tests.blackbox.nats.nats_buckets import with_jetstream
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually_blocking
from tests.integration.pages.open_pages import open_pages, soon
from tests.process.state_proxy.started import BUCKET, variables

MEBIBYTE = 1024 * 1024
LARGE = b"0123456789abcdef" * 200_000
"""3.2 MB: three messages, seven pages."""

HUGE = b"0123456789abcdef" * 3_750_000
"""60 MB, twice the memory of a sidecar."""

LIMIT_BYTES = 64 * MEBIBYTE
"""Limit of a sidecar's container."""


def pages(url: str) -> int:
    """Return the number of messages in the stream of pages."""

    async def count(jetstream: JetStreamContext) -> int:
        return (await jetstream.stream_info(f"KV_{BUCKET}=pages")).state.messages

    return with_jetstream(url, count)


@pytest.mark.parametrize("size", [MEBIBYTE - 10, MEBIBYTE, MEBIBYTE + 1, len(LARGE)])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_file_of_any_size_is_read_as_it_was_written(
    server: NatsServer, connector: ConnectorProcess, size: int, is_stream: bool
) -> None:
    files, content = ActorFiles(connector), LARGE[:size]
    for _ in range(2):  # the second time over a file that the connector knows
        if is_stream:
            stream = files.stream("folder/file")
            stream.write(*(content[start : start + 99_999] for start in range(0, size, 99_999)))
            stream.close()
        else:
            files.write("folder/file", content)
        assert files.size("folder/file") == size
    assert files.open("folder/file").read() == content
    assert files.names("folder/") == ["file"]
    assert int(files.attribute("folder/file", "version")) > 0
    files.set_attribute("folder/file", "ttl", "100")
    assert files.open("folder/file").read() == content
    with connector.connection() as client:
        assert client.ask("GET", "/keys/folder/file").headers["content-length"] == str(size)


def test_other_writers_and_conditions_count_as_for_small_files(
    server: NatsServer, connector: ConnectorProcess, tmp_path: Path
) -> None:
    with ConnectorProcess(tmp_path / "second", variables(server.url)) as second:
        files, other = ActorFiles(connector), ActorFiles(second)
        files.write("file", LARGE, is_exclusive=True)
        with pytest.raises(FileExistsError):
            other.write("file", LARGE, is_exclusive=True)
        assert other.open("file").read() == LARGE
        other.write("file", b"theirs" + LARGE)
        with pytest.raises(FileConflictError):
            files.write("file", LARGE)
        # A small file in the middle of a large one.
        assert files.open("file").read() == b"theirs" + LARGE
        stream = files.stream("file")
        stream.write(*[LARGE[:100_000]] * 20)
        other.write("file", b"small")
        stream.write(*[LARGE[:100_000]] * 20)
        with pytest.raises(FileConflictError):
            stream.close()
        assert files.open("file").read() == b"small"


def test_a_file_that_breaks_off_changes_nothing_and_leaves_no_pages(
    server: NatsServer, connector: ConnectorProcess
) -> None:
    files = ActorFiles(connector)
    files.write("kept", LARGE)
    before = pages(server.url)
    files.stream("other").abandon()
    for name in ("kept", "new"):
        stream = files.stream(name)
        stream.write(*[LARGE[:100_000]] * 40)
        eventually_blocking(lambda: pages(server.url) > before, "pages of the stream")
        stream.abandon()
        eventually_blocking(lambda: pages(server.url) == before, "their removal")
    assert files.open("kept").read() == LARGE
    assert not files.exists("new")


@pytest.mark.parametrize("add", [kv.ListAdd, kv.SetAdd])
def test_a_list_or_a_set_with_pages_is_read_as_json_with_its_length(
    server: NatsServer, connector: ConnectorProcess, add: type[kv.ListAdd | kv.SetAdd]
) -> None:
    elements = [f'"element" {number:05}:{"x" * 100}' for number in range(3000)]

    async def as_an_actor() -> None:
        async with open_pages(server.url, name=BUCKET) as opened:
            engine = Engine(opened.bucket, opened.tasks, opened.bucket.paging.writer)
            await asyncio.gather(*(engine.change(add("all", element), "all", soon()) for element in elements))
            engine.close()

    asyncio.run(as_an_actor())
    with connector.connection() as client:
        reply = client.ask("GET", "/keys/all")
        assert reply.json == elements
        assert reply.headers["content-length"] == str(len(reply.body))
        assert client.ask("HEAD", "/keys/all").headers["content-length"] == str(len(reply.body))


def test_several_files_of_60_mb_pass_at_once_in_the_memory_of_a_sidecar(
    server: NatsServer, connector: ConnectorProcess
) -> None:
    files = ActorFiles(connector)
    files.write("0", HUGE)

    def parts() -> Iterator[bytes]:
        yield from (HUGE[start : start + MEBIBYTE] for start in range(0, len(HUGE), MEBIBYTE))

    def put(key: str) -> None:
        with connector.connection() as client:
            assert client.ask("PUT", f"/keys/{key}", parts()).status == 204

    def get(key: str) -> None:
        assert files.open(key).read() == HUGE

    work: list[tuple[Callable[[str], None], str]] = [(put, "1"), (put, "2"), (get, "0"), (get, "0")]
    peak = 0
    with ThreadPoolExecutor() as threads:
        running = [threads.submit(step, key) for step, key in work]
        while not all(one.done() for one in running):
            peak = max(peak, connector.resident_bytes)
            time.sleep(0.01)
        for one in running:
            one.result()
    assert peak < LIMIT_BYTES


def test_a_client_sees_that_a_file_which_cannot_be_read_to_its_end_is_not_whole(
    server: NatsServer, connector: ConnectorProcess
) -> None:
    files = ActorFiles(connector)
    files.write("file", HUGE)
    with UnixConnection(connector.socket_path) as client:
        client.request("GET", "/keys/file")
        answer = client.getresponse()
        assert answer.status == 200
        answer.read(MEBIBYTE)

        async def purge(jetstream: JetStreamContext) -> None:
            await jetstream.purge_stream(f"KV_{BUCKET}=pages")

        with_jetstream(server.url, purge)
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
    # It may not be overwritten by a handler that takes the error for a first start.
    with pytest.raises(FileConflictError):
        files.write("file", b"first")
    with pytest.raises(OSError, match="missing"):
        files.open("file")
