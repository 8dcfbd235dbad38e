"""The connector's protocol, seen from both ends: by a standard HTTP client, and in the bucket by nats-py."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nats
import pytest
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext
from nats.js.kv import KeyValue

from tests.blackbox.connector_process import ConnectorProcess, UnixConnection
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket, with_jetstream
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.raw_client import publish_raw
from tests.blackbox.waiting import eventually_blocking

BUCKET = "state"
PREFIX = "cache-actor"
SMALL_BUCKET = "small"
SMALL_BYTES = 4096

_numbers = itertools.count()


@pytest.fixture(scope="module")
def connector(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorProcess]:
    make_bucket(nats_server.url, BUCKET)
    variables = {"NATS_URL": nats_server.url, "NATS_KV_BUCKET": BUCKET, "STATE_PREFIX": PREFIX}
    with ConnectorProcess(tmp_path_factory.mktemp("connector"), variables) as started:
        yield started


Connectors = Callable[[str], ConnectorProcess]


@pytest.fixture
def connectors(nats_server: NatsServer, tmp_path: Path) -> Iterator[Connectors]:
    """Start connectors of other buckets."""
    with ExitStack() as stack:
        yield lambda bucket: stack.enter_context(
            ConnectorProcess(tmp_path / bucket, {"NATS_URL": nats_server.url, "NATS_KV_BUCKET": bucket})
        )


@pytest.fixture
def client(connector: ConnectorProcess) -> Iterator[UnixConnection]:
    with connector.connection() as connection:
        yield connection


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"key_{next(_numbers)}.json"


# --- values


@pytest.mark.parametrize(
    "value", [b"", b"text", '{"é": 1}'.encode(), b"\xff\x00binary", b"42", b'["a"]', b"x" * 1_000_000]
)
def test_a_value_is_read_as_it_was_written(client: UnixConnection, key: str, value: bytes) -> None:
    written = client.ask("PUT", f"/keys/{key}", value)
    assert (written.status, written.body) == (204, b"")
    read = client.ask("GET", f"/keys/{key}")
    assert (read.status, read.body) == (200, value)
    assert read.headers["content-length"] == str(len(value))


def test_a_chunked_body_is_joined(client: UnixConnection, key: str) -> None:
    parts = [b"a" * size for size in (1, 10_000, 100_000, 3)]
    assert client.ask("PUT", f"/keys/{key}", parts).status == 204
    assert client.ask("GET", f"/keys/{key}").body == b"".join(parts)


def test_reading_an_absent_key_is_an_error(client: UnixConnection, key: str) -> None:
    assert client.ask("GET", f"/keys/{key}").error == (404, "key_not_found")


@pytest.mark.parametrize("value", [b"text", b"\xff\x00binary"])
def test_other_clients_find_the_value_unchanged_under_its_own_name(
    client: UnixConnection, nats_server: NatsServer, key: str, value: bytes
) -> None:
    client.ask("PUT", f"/keys/{key}", value)

    async def get(bucket: KeyValue) -> bytes | None:
        return (await bucket.get(f"{PREFIX}.{key}")).value

    assert with_bucket(nats_server.url, BUCKET, get) == value


@pytest.mark.parametrize("name", ["year=2024/month=05/a.json", "id=42", "YWJj==", "a=3Ab", "=41", "=_a"])
def test_a_name_with_an_equals_sign_is_the_same_for_other_clients(
    client: UnixConnection, nats_server: NatsServer, key: str, name: str
) -> None:
    theirs, ours = f"{key}/theirs/{name}", f"{key}/ours/{name}"
    with_bucket(nats_server.url, BUCKET, lambda bucket: bucket.put(f"{PREFIX}.{theirs}", b"from outside"))
    assert client.ask("GET", f"/keys/{theirs}").body == b"from outside"
    assert client.ask("PUT", f"/keys/{ours}", b"from here").status == 204

    async def get(bucket: KeyValue) -> bytes | None:
        return (await bucket.get(f"{PREFIX}.{ours}")).value

    assert with_bucket(nats_server.url, BUCKET, get) == b"from here"


def test_a_value_of_another_client_can_be_read(client: UnixConnection, nats_server: NatsServer, key: str) -> None:
    with_bucket(nats_server.url, BUCKET, lambda bucket: bucket.put(f"{PREFIX}.{key}", b"\xfe from outside"))
    assert client.ask("GET", f"/keys/{key}").body == b"\xfe from outside"


def test_an_exclusive_create_succeeds_once(client: UnixConnection, key: str) -> None:
    assert client.ask("PUT", f"/keys/{key}", b"first", If_None_Match="*").status == 204
    assert client.ask("PUT", f"/keys/{key}", b"second", If_None_Match="*").error == (409, "conflict")
    assert client.ask("GET", f"/keys/{key}").body == b"first"
    client.ask("DELETE", f"/keys/{key}")
    assert client.ask("PUT", f"/keys/{key}", b"third", If_None_Match="*").status == 204


def test_one_of_many_concurrent_exclusive_creates_succeeds(connector: ConnectorProcess, key: str) -> None:
    barrier = threading.Barrier(8)
    found: list[int] = []

    def create() -> None:
        with connector.connection() as connection:
            barrier.wait()
            found.append(connection.ask("PUT", f"/keys/{key}", b"mine", If_None_Match="*").status)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [204] + [409] * 7


def test_a_value_is_deleted_once(client: UnixConnection, key: str) -> None:
    client.ask("PUT", f"/keys/{key}", b"value")
    assert client.ask("DELETE", f"/keys/{key}").status == 204
    assert client.ask("DELETE", f"/keys/{key}").error == (404, "key_not_found")
    assert client.ask("GET", f"/keys/{key}").status == 404


# --- folders and listings


def test_files_folders_and_absent_names_are_distinguished(client: UnixConnection, key: str) -> None:
    client.ask("PUT", f"/keys/{key}/below/file", "é".encode())
    file = client.ask("HEAD", f"/keys/{key}/below/file")
    assert (file.status, file.headers["content-length"], file.headers["x-is-file"]) == (204, "2", "true")
    for folder in (key, f"{key}/", f"{key}/below"):
        found = client.ask("HEAD", f"/keys/{folder}")
        assert (found.status, found.headers["x-is-file"]) == (204, "false")
    assert client.ask("HEAD", f"/keys/{key}/bel").status == 404
    client.ask("DELETE", f"/keys/{key}/below/file")
    assert client.ask("HEAD", f"/keys/{key}/below").status == 404
    assert client.ask("HEAD", f"/keys/{key}/below/file").status == 404


def test_a_folder_exists_while_a_key_lies_in_it(client: UnixConnection, nats_server: NatsServer, key: str) -> None:
    assert client.ask("HEAD", f"/keys/{key}").status == 404
    with_bucket(nats_server.url, BUCKET, lambda bucket: bucket.put(f"{PREFIX}.{key}/file", b"value"))
    assert client.ask("HEAD", f"/keys/{key}").headers["x-is-file"] == "false"
    client.ask("DELETE", f"/keys/{key}/file")
    assert client.ask("HEAD", f"/keys/{key}").status == 404
    client.ask("PUT", f"/keys/{key}/other", b"value")
    assert client.ask("HEAD", f"/keys/{key}").headers["x-is-file"] == "false"


def test_a_subject_that_is_not_utf_8_is_ignored(client: UnixConnection, nats_server: NatsServer, key: str) -> None:
    client.ask("PUT", f"/keys/{key}/a", b"value")
    publish_raw(nats_server.port, b"$KV.%b.%b.%b/\xe9" % (BUCKET.encode(), PREFIX.encode(), key.encode()))
    client.ask("PUT", f"/keys/{key}/b", b"value")
    assert client.ask("GET", f"/keys/?prefix={key}/").json == {"keys": [f"{key}/a", f"{key}/b"], "prefixes": []}
    assert client.ask("HEAD", f"/keys/{key}/absent").status == 404


def test_in_a_bucket_with_history_absence_is_shown_by_a_scan_of_new_messages_only(
    nats_server: NatsServer, connectors: Connectors
) -> None:
    make_bucket(nats_server.url, "history", history=5)
    scans: list[dict[str, Any]] = []

    async def listen(jetstream: JetStreamContext) -> None:
        spy = await nats.connect(nats_server.url)

        async def note(message: Msg) -> None:
            scans.append(json.loads(message.data)["config"])

        await spy.subscribe("$JS.API.CONSUMER.CREATE.KV_history", cb=note)
        await spy.flush()
        await asyncio.to_thread(ask)
        await spy.drain()

    def ask() -> None:
        with connectors("history").connection() as client:
            for name in ("a/b", "a/b", "c/d"):
                client.ask("PUT", f"/keys/{name}", b"value")
            assert client.ask("HEAD", "/keys/absent").status == 404
            client.ask("PUT", "/keys/e/f", b"value")
            client.ask("PUT", "/keys/a/b", b"value")
            assert client.ask("HEAD", "/keys/absent").status == 404
            assert client.ask("HEAD", "/keys/e").status == 204

    with_jetstream(nats_server.url, listen)
    assert [config.get("opt_start_seq") for config in scans] == [None, 4, None]


def test_a_listing_is_sorted_and_cut_and_has_no_deleted_keys(client: UnixConnection, key: str) -> None:
    for name in ("b", "a", "sub/2", "sub/1", "sub/deep/3", "gone", "other/4"):
        client.ask("PUT", f"/keys/{key}/{name}", b"value")
    for name in ("gone", "other/4"):
        client.ask("DELETE", f"/keys/{key}/{name}")

    def listed(**query: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = client.ask("GET", "/keys/?" + urlencode(query)).json
        return {kind: [name.removeprefix(f"{key}/") for name in names] for kind, names in found.items()}

    assert listed(prefix=f"{key}/", delimiter="/") == {"keys": ["a", "b"], "prefixes": ["sub/"]}
    assert listed(prefix=f"{key}/sub", delimiter="/") == {"keys": [], "prefixes": ["sub/"]}
    assert listed(prefix=f"{key}/sub/", delimiter="/") == {"keys": ["sub/1", "sub/2"], "prefixes": ["sub/deep/"]}
    assert listed(prefix=f"{key}/s") == {"keys": [], "prefixes": ["sub/"]}
    assert listed(prefix=f"{key}/s", delimiter="") == {"keys": [], "prefixes": ["sub/"]}
    assert listed(prefix=f"{key}/nothing") == {"keys": [], "prefixes": []}


def test_keys_outside_the_prefix_are_not_visible(client: UnixConnection, nats_server: NatsServer, key: str) -> None:
    for other in (key, f"other.{key}", f"{PREFIX}x.{key}"):
        with_bucket(nats_server.url, BUCKET, lambda bucket, name=other: bucket.put(name, b"theirs"))  # type: ignore[misc]
    assert client.ask("GET", f"/keys/{key}").status == 404
    assert key not in client.ask("GET", "/keys/").json["keys"]


# --- attributes


def test_the_version_rises_with_every_write_and_cannot_be_set(client: UnixConnection, key: str) -> None:
    versions = []
    for _ in range(2):
        client.ask("PUT", f"/keys/{key}", b"value")
        found = client.ask("GET", f"/meta/{key}?attr=version").json
        assert found["attr"] == "version"
        versions.append(int(found["value"]))
    assert versions[0] < versions[1]
    refused = client.ask("PUT", f"/meta/{key}?attr=version", b'{"value": "1"}')
    assert refused.error == (403, "permission_denied")


def test_a_ttl_is_set_read_removed_and_lost_with_the_next_write(client: UnixConnection, key: str) -> None:
    def ttl() -> int:
        return int(client.ask("GET", f"/meta/{key}?attr=ttl").json["value"])

    client.ask("PUT", f"/keys/{key}", b"value")
    assert ttl() == -1
    assert client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "100"}').status == 204
    assert 90 < ttl() <= 100
    assert client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "-1"}').status == 204
    assert ttl() == -1
    client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "100"}')
    client.ask("PUT", f"/keys/{key}", b"value")
    assert ttl() == -1


OPEN = {"max_msgs_per_subject": 1, "allow_direct": True, "allow_msg_ttl": True}


@pytest.mark.parametrize(
    ("config", "headers", "set_to", "expected"),
    [
        ({"max_age": 100}, {}, None, 100),
        ({"max_age": 100}, {}, "50", 50),
        ({"max_age": 100}, {}, "500", 100),
        ({}, {"Nats-TTL": "1m40s"}, None, 100),
        ({"max_age": 100}, {"Nats-TTL": "500"}, None, 100),
        ({"max_age": 500}, {"Nats-TTL": "100"}, None, 100),
        ({"max_age": 100}, {"Nats-TTL": "never"}, None, -1),
        ({"max_msgs_per_subject": 5}, {"Nats-TTL": "100"}, None, 100),
        ({"allow_direct": False}, {"Nats-TTL": "100"}, None, 100),
    ],
)
def test_the_ttl_is_the_earliest_end_that_any_writer_or_the_bucket_has_set(
    nats_server: NatsServer,
    connectors: Connectors,
    config: dict[str, Any],
    headers: dict[str, str],
    set_to: str | None,
    expected: int,
) -> None:
    name = f"ttl-{next(_numbers)}"

    async def make(jetstream: JetStreamContext) -> None:
        await jetstream.add_stream(name=f"KV_{name}", subjects=[f"$KV.{name}.>"], **OPEN | config)
        await jetstream.publish(f"$KV.{name}.a", b"value", headers=headers or None)

    with_jetstream(nats_server.url, make)
    with connectors(name).connection() as client:
        if set_to:
            assert client.ask("PUT", "/meta/a?attr=ttl", b'{"value": "%b"}' % set_to.encode()).status == 204
        ttl = int(client.ask("GET", "/meta/a?attr=ttl").json["value"])
    assert ttl == expected if expected < 0 else expected - 10 < ttl <= expected


def test_a_value_expires_after_its_ttl(client: UnixConnection, key: str) -> None:
    client.ask("PUT", f"/keys/{key}", b"value")
    client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "1"}')
    assert client.ask("GET", f"/keys/{key}").status == 200
    eventually_blocking(lambda: client.ask("GET", f"/keys/{key}").status == 404, "the value's end", poll_seconds=0.05)
    assert key not in client.ask("GET", "/keys/").json["keys"]


def test_setting_a_ttl_does_not_make_the_next_write_conflict(client: UnixConnection, key: str) -> None:
    client.ask("PUT", f"/keys/{key}", b"value")
    client.ask("GET", f"/keys/{key}")
    client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "100"}')
    assert client.ask("PUT", f"/keys/{key}", b"mine").status == 204


def test_the_listed_attributes_are_the_only_ones(client: UnixConnection, key: str) -> None:
    client.ask("PUT", f"/keys/{key}", b"value")
    assert client.ask("GET", f"/meta/{key}").json == {"attrs": ["ttl", "version"]}
    assert client.ask("GET", f"/meta/{key}?attr=owner").error == (400, "unsupported_attribute")
    assert client.ask("PUT", f"/meta/{key}?attr=owner", b'{"value": "me"}').error == (400, "unsupported_attribute")


@pytest.mark.parametrize("target", ["", "?attr=version", "?attr=ttl"])
def test_an_absent_key_has_no_attributes(client: UnixConnection, key: str, target: str) -> None:
    assert client.ask("GET", f"/meta/{key}{target}").error == (404, "key_not_found")
    assert client.ask("PUT", f"/meta/{key}?attr=ttl", b'{"value": "5"}').error == (404, "key_not_found")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"value": "soon"}', b'{"value": "-2"}', b"x" * 4000])
def test_an_invalid_ttl_is_refused(client: UnixConnection, key: str, body: bytes) -> None:
    client.ask("PUT", f"/keys/{key}", b"value")
    assert client.ask("PUT", f"/meta/{key}?attr=ttl", body).error == (400, "bad_request")


# --- refusals


def test_queries_are_not_implemented(client: UnixConnection) -> None:
    assert client.ask("POST", "/query", json.dumps({"prefix": ""}).encode()).error == (501, "not_implemented")


def test_the_connector_is_healthy_while_its_bucket_answers(client: UnixConnection) -> None:
    found = client.ask("GET", "/healthz")
    assert (found.status, found.json) == (200, {"status": "ready"})


@pytest.mark.parametrize(
    ("method", "target", "error"),
    [
        ("PUT", "/keys/", (404, "not_found")),
        ("PUT", "/keys/" + "k" * 3500, (400, "bad_request")),
        ("PUT", "/meta/a", (400, "bad_request")),
        ("GET", "/meta/", (404, "not_found")),
        ("PUT", "/meta/?attr=ttl", (404, "not_found")),
        ("GET", "/elsewhere", (404, "not_found")),
        ("POST", "/keys/a", (405, "method_not_allowed")),
    ],
)
def test_an_invalid_request_is_refused_and_the_connection_stays_open(
    client: UnixConnection, method: str, target: str, error: tuple[int, str]
) -> None:
    assert client.ask(method, target, b"a body").error == error
    kept = client.sock
    assert client.ask("GET", "/healthz").status == 200
    assert client.sock is kept


def test_a_body_over_the_buckets_limit_is_refused_before_it_is_sent(nats_server: NatsServer, tmp_path: Path) -> None:
    make_bucket(nats_server.url, SMALL_BUCKET, max_value_size=SMALL_BYTES)
    variables = {"NATS_URL": nats_server.url, "NATS_KV_BUCKET": SMALL_BUCKET}
    with ConnectorProcess(tmp_path, variables) as connector:
        with connector.raw() as raw:
            raw.sendall(b"PUT /keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (SMALL_BYTES + 1))
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
        with connector.connection() as client:
            assert client.ask("PUT", "/keys/a", b"x" * SMALL_BYTES).error == (413, "too_large")
            assert client.ask("PUT", "/keys/a", b"x" * (SMALL_BYTES - 200)).status == 204


def test_a_body_over_a_limit_that_was_lowered_while_it_runs_is_too_large(
    nats_server: NatsServer, connectors: Connectors
) -> None:
    make_bucket(nats_server.url, "lowered")

    async def lower(jetstream: JetStreamContext) -> None:
        config = (await jetstream.stream_info("KV_lowered")).config
        config.max_msg_size = SMALL_BYTES
        await jetstream.update_stream(config)

    connector = connectors("lowered")
    with_jetstream(nats_server.url, lower)
    with connector.connection() as client:
        assert client.ask("PUT", "/keys/a", b"x" * SMALL_BYTES).error == (413, "too_large")
        assert client.ask("PUT", "/keys/a", b"x" * (SMALL_BYTES - 200)).status == 204


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5",
        b"hello\r\n\r\n",
        b"GET /keys/a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_refused_and_affect_no_other_client(
    connector: ConnectorProcess, client: UnixConnection, sent: bytes
) -> None:
    with connector.raw() as raw:
        raw.sendall(sent)
        received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert client.ask("GET", "/healthz").status == 200


def test_nothing_behind_an_ambiguous_request_is_carried_out(
    connector: ConnectorProcess, client: UnixConnection, key: str
) -> None:
    second = b"PUT /keys/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx" % key.encode()
    first = b"PUT /keys/other HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with connector.raw() as raw:
        raw.sendall(first + second)
        received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert client.ask("GET", f"/keys/{key}").status == 404


def test_a_target_may_name_a_host(client: UnixConnection, key: str) -> None:
    assert client.ask("PUT", f"http://localhost/keys/{key}", b"value").status == 204
    assert client.ask("GET", f"http://localhost/keys/{key}").body == b"value"


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5\r\n\r\nvalue", b"Transfer-Encoding: chunked\r\n\r\n2\r\nva\r\n3\r\nlue\r\n0\r\n\r\n"],
    ids=["by length", "in chunks"],
)
@pytest.mark.parametrize("is_sent_at_once", [True, False], ids=["at once", "in two parts"])
def test_a_request_for_an_upgrade_is_served_as_http_1_1(
    connector: ConnectorProcess, client: UnixConnection, key: str, body: bytes, is_sent_at_once: bool
) -> None:
    head, _, rest = body.partition(b"\r\n\r\n")
    first = b"PUT /keys/%b HTTP/1.1\r\nHost: x\r\n%b%b\r\n\r\n" % (key.encode(), UPGRADE, head)
    second = rest + b"GET /keys/%b HTTP/1.1\r\nHost: x\r\n%bConnection: close\r\n\r\n" % (key.encode(), UPGRADE)
    with connector.raw() as raw:
        for part in [first + second] if is_sent_at_once else [first, second]:
            raw.sendall(part)
        received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 204 ")
    assert received.endswith(b"\r\n\r\nvalue")
    assert client.ask("GET", f"/keys/{key}").body == b"value"


def test_many_connections_are_served_at_once(connector: ConnectorProcess, key: str) -> None:
    connections = [connector.connection() for _ in range(100)]
    try:
        for number, connection in enumerate(connections):
            connection.request("PUT", f"/keys/{key}/{number}", b"%d" % number)
        for connection in connections:
            assert connection.getresponse().read() == b""
        for number, connection in enumerate(connections):
            connection.request("GET", f"/keys/{key}/{number}")
        assert [int(connection.getresponse().read()) for connection in connections] == list(range(100))
    finally:
        for connection in connections:
            connection.close()
