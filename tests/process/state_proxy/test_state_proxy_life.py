"""The life of a connector: its settings, outages of NATS, and the resources it uses."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from nats.js.client import JetStreamContext

from tests.blackbox.connector_process import COMMAND, ConnectorProcess, UnixConnection
from tests.blackbox.lattice_host import PROJECT_FOLDER
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket, with_jetstream
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.operator_mode import Operator, creds_file
from tests.blackbox.waiting import eventually_blocking
from tests.process.state_proxy.started import BUCKET, refusal, variables

DEADLINE_SECONDS = 25.0
"""Longest time until an answer while NATS is away."""

HEALED_SECONDS = 15.0
LIMIT_BYTES = 32 * 1024 * 1024
REQUESTS = 4_000
LONGEST_PATH = 107


def wait_healed(client: UnixConnection, target: str = "/healthz") -> None:
    eventually_blocking(lambda: client.ask("GET", target).status == 200, "the connector healed", HEALED_SECONDS)


# --- start


def test_the_connector_does_not_start_without_its_bucket(nats_server: NatsServer, tmp_path: Path) -> None:
    printed = refusal(tmp_path, variables(nats_server.url, NATS_KV_BUCKET="absent"))
    assert printed == "keyvalue-nats state-proxy: NATS_KV_BUCKET: bucket 'absent' does not exist\n"


def test_a_stream_that_is_not_a_bucket_is_refused(nats_server: NatsServer, tmp_path: Path) -> None:
    async def add(jetstream: JetStreamContext) -> None:
        await jetstream.add_stream(name="KV_other", subjects=["other.>"])

    with_jetstream(nats_server.url, add)
    printed = refusal(tmp_path, variables(nats_server.url, NATS_KV_BUCKET="other"))
    assert printed.startswith("keyvalue-nats state-proxy: NATS_KV_BUCKET: ")
    assert "does not have the subjects of a key-value bucket" in printed


@pytest.mark.parametrize("token", ["", "hidden-wrong@"], ids=["no token", "another token"])
def test_the_error_for_wrong_credentials_does_not_show_them(tmp_path: Path, token: str) -> None:
    with NatsServer(tmp_path / "server", "authorization { token: hidden-right }") as server:
        url = server.url.replace("nats://", f"nats://{token}")
        printed = refusal(tmp_path / "connector", variables(url))
    assert printed.startswith("keyvalue-nats state-proxy: NATS_URL: ")
    assert "hidden" not in printed
    assert "authorization" in printed.lower()


def test_a_credentials_file_that_cannot_be_read_is_named(nats_server: NatsServer, tmp_path: Path) -> None:
    printed = refusal(tmp_path, variables(nats_server.url, NATS_CREDS_FILE=str(tmp_path / "absent.creds")))
    assert printed == "keyvalue-nats state-proxy: NATS_CREDS_FILE: file cannot be read: no such file or directory\n"


def test_credentials_are_used_and_those_of_another_operator_are_refused(tmp_path: Path) -> None:
    operator, stranger = Operator(), Operator()
    ours, theirs = tmp_path / "ours.creds", tmp_path / "theirs.creds"
    ours.write_text(creds_file(*operator.user()))
    theirs.write_text(creds_file(*stranger.user()))
    with NatsServer(tmp_path / "server", operator.server_config()) as server:
        make_bucket(server.url, BUCKET, creds=ours)
        given = variables(server.url, NATS_CREDS_FILE=str(ours))
        with ConnectorProcess(tmp_path / "connector", given) as connector, connector.connection() as client:
            assert client.ask("PUT", "/keys/a", b"1").status == 204
        printed = refusal(tmp_path / "refused", variables(server.url, NATS_CREDS_FILE=str(theirs)))
    assert printed.startswith("keyvalue-nats state-proxy: NATS_CREDS_FILE: ")


@pytest.mark.parametrize("is_one_line", [False, True])
def test_credentials_may_be_text_in_a_variable(tmp_path: Path, is_one_line: bool) -> None:
    operator, stranger = Operator(), Operator()
    ours, theirs = creds_file(*operator.user()), creds_file(*stranger.user())
    (tmp_path / "ours.creds").write_text(ours)
    with NatsServer(tmp_path / "server", operator.server_config()) as server:
        make_bucket(server.url, BUCKET, creds=tmp_path / "ours.creds")
        given = variables(server.url, NATS_CREDS=ours.replace("\n", "\\n") if is_one_line else ours)
        with ConnectorProcess(tmp_path / "connector", given) as connector, connector.connection() as client:
            assert client.ask("PUT", "/keys/a", b"1").status == 204
        printed = refusal(tmp_path / "refused", variables(server.url, NATS_CREDS=theirs))
        assert printed.startswith("keyvalue-nats state-proxy: NATS_CREDS: ")
        assert "eyJ" not in printed
        wrong = refusal(tmp_path / "wrong", variables(server.url, NATS_CREDS="hidden"))
    assert wrong == "keyvalue-nats state-proxy: NATS_CREDS: not the content of a NATS credentials file\n"


def test_a_token_in_the_url_is_enough(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server", "authorization { token: right }") as server:
        url = server.url.replace("nats://", "nats://right@")
        make_bucket(url, BUCKET)
        with ConnectorProcess(tmp_path / "connector", variables(url)) as connector, connector.connection() as client:
            assert client.ask("PUT", "/keys/a", b"1").status == 204


def test_one_reachable_server_of_several_is_enough(server: NatsServer, tmp_path: Path) -> None:
    urls = f"nats://127.0.0.1:{free_port()},{server.url}"
    with ConnectorProcess(tmp_path, variables(urls)) as connector, connector.connection() as client:
        assert client.ask("GET", "/healthz").status == 200


# --- while NATS is away


@pytest.mark.slow
def test_requests_fail_in_time_while_the_server_is_stopped_and_succeed_afterwards(
    server: NatsServer, connector: ConnectorProcess, client: UnixConnection
) -> None:
    client.ask("PUT", "/keys/a", b"1")
    server.stop()
    requests = [
        ("GET", "/healthz", None),
        ("GET", "/keys/a", None),
        ("PUT", "/keys/a", b"2"),
        ("DELETE", "/keys/a", None),
        ("HEAD", "/keys/a", None),
        ("GET", "/keys/?prefix=", None),
        ("GET", "/meta/a", None),
    ]

    def ask(method: str, target: str, body: bytes | None) -> int:
        with connector.connection() as connection:
            return connection.ask(method, target, body).status

    asked_at = time.monotonic()
    with ThreadPoolExecutor(len(requests)) as threads:
        assert list(threads.map(ask, *zip(*requests, strict=True))) == [503] * len(requests)
    assert time.monotonic() - asked_at < DEADLINE_SECONDS
    server.start()
    wait_healed(client)
    assert client.ask("GET", "/keys/a").body == b"1"
    assert client.ask("PUT", "/keys/a", b"2").status == 204


@pytest.mark.slow
def test_requests_fail_in_time_while_the_server_is_frozen_and_succeed_afterwards(
    server: NatsServer, client: UnixConnection
) -> None:
    client.ask("PUT", "/keys/a", b"1")
    server.freeze()
    try:
        asked_at = time.monotonic()
        assert client.ask("PUT", "/keys/a", b"2").error in {(504, "timeout"), (503, "unavailable")}
        assert client.ask("GET", "/keys/a").error in {(504, "timeout"), (503, "unavailable")}
        assert time.monotonic() - asked_at < 2 * DEADLINE_SECONDS
    finally:
        server.thaw()
    wait_healed(client)
    assert client.ask("GET", "/keys/a").body in {b"1", b"2"}


def test_a_deleted_bucket_is_unavailable_until_it_is_created_again(server: NatsServer, client: UnixConnection) -> None:
    client.ask("PUT", "/keys/a", b"1")

    async def delete(jetstream: JetStreamContext) -> None:
        await jetstream.delete_key_value(BUCKET)

    with_jetstream(server.url, delete)
    assert client.ask("GET", "/keys/a").error == (503, "unavailable")
    assert client.ask("GET", "/healthz").error == (503, "unavailable")
    make_bucket(server.url, BUCKET)
    wait_healed(client)
    assert client.ask("GET", "/keys/a").status == 404
    assert client.ask("PUT", "/keys/a", b"2").status == 204


def test_revisions_read_before_the_bucket_was_recreated_cause_a_conflict(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    url, name = nats_server.url, "remade"
    make_bucket(url, name, direct=True)
    with ConnectorProcess(tmp_path, variables(url, NATS_KV_BUCKET=name)) as connector, connector.connection() as client:
        client.ask("PUT", "/keys/a", b"1")
        version = client.ask("GET", "/meta/a?attr=version").json
        assert client.ask("GET", "/keys/a").body == b"1"
        assert client.ask("GET", "/keys/b").status == 404
        with_jetstream(url, lambda jetstream: jetstream.delete_key_value(name))
        missed = "link is not available"
        eventually_blocking(
            lambda: missed in client.ask("DELETE", "/keys/c").json["message"], "a failure because of the missing bucket"
        )
        make_bucket(url, name, direct=True)
        with_bucket(url, name, lambda bucket: bucket.put("a", b"theirs"))
        wait_healed(client)
        assert client.ask("GET", "/meta/a?attr=version").json == version
        assert client.ask("PUT", "/keys/a", b"2").error == (409, "conflict")
        assert client.ask("PUT", "/keys/b", b"2").status == 204
        assert client.ask("GET", "/keys/a").body == b"theirs"
        assert client.ask("PUT", "/keys/a", b"2").status == 204


def test_an_operation_without_permission_is_forbidden(tmp_path: Path) -> None:
    permissions = """
        authorization { users = [
            { user: operator, password: right }
            { user: reader, password: right, permissions: {
                publish: { deny: ["$KV.state.>", "$JS.API.CONSUMER.CREATE.KV_state"] } } }
        ] }"""
    with NatsServer(tmp_path / "server", permissions) as server:
        make_bucket(server.url.replace("nats://", "nats://operator:right@"), BUCKET)
        reader = server.url.replace("nats://", "nats://reader:right@")
        with ConnectorProcess(tmp_path / "connector", variables(reader)) as connector, connector.connection() as client:
            assert client.ask("GET", "/keys/a").status == 404
            assert client.ask("PUT", "/keys/a", b"1").error == (403, "permission_denied")
            assert client.ask("GET", "/keys/?prefix=").error == (403, "permission_denied")
            assert client.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("has_pages", [False, True])
def test_the_documented_permissions_are_sufficient(tmp_path: Path, has_pages: bool) -> None:
    page = (PROJECT_FOLDER / "docs" / "operating.md").read_text(encoding="utf-8")
    wanted = page.split("state-proxy connector needs")[1].split("```")[1]
    if has_pages:
        (row,) = (line for line in page.splitlines() if line.startswith("| files larger than a message |"))
        more = "".join(f'"{subject}", ' for subject in re.findall(r"`([^`]+)`", row.partition("several replicas")[0]))
        wanted = wanted.replace("publish: [", f"publish: [ {more}")
    wanted = wanted.replace("BUCKET", BUCKET).replace("PREFIX", "cache-actor")
    users = f"""
        authorization {{ users = [
            {{ user: operator, password: right }}
            {{ user: connector, password: right, {wanted} }}
        ] }}"""
    with NatsServer(tmp_path / "server", users) as server:
        make_bucket(server.url.replace("nats://", "nats://operator:right@"), BUCKET, direct=True)
        url = server.url.replace("nats://", "nats://connector:right@")
        given = variables(url, STATE_PREFIX="cache-actor")
        with ConnectorProcess(tmp_path / "connector", given) as connector, connector.connection() as client:
            assert client.ask("PUT", "/keys/a/b", b"1").status == 204
            assert client.ask("GET", "/keys/a/b").body == b"1"
            assert client.ask("HEAD", "/keys/a").status == 204
            assert client.ask("GET", "/keys/?delimiter=/").json == {"keys": [], "prefixes": ["a/"]}
            assert client.ask("PUT", "/meta/a/b?attr=ttl", b'{"value": "60"}').status == 204
            assert client.ask("GET", "/meta/a/b?attr=ttl").status == 200
            assert client.ask("DELETE", "/keys/a/b").status == 204
            assert client.ask("GET", "/healthz").status == 200
            assert "Permissions Violation" not in server.log
            large = client.ask("PUT", "/keys/large", b"x" * 2_000_000)
            if has_pages:
                assert large.status == 204
                assert client.ask("GET", "/keys/large").body == b"x" * 2_000_000
                assert client.ask("DELETE", "/keys/large").status == 204
                assert "Permissions Violation" not in server.log
            else:
                assert large.error == (403, "permission_denied")
                assert "KV_state=pages" in large.json["message"]
            assert client.ask("PUT", "/keys/a/b", b"1").status == 204


def test_a_full_bucket_is_an_error_with_that_reason(own_nats_server: NatsServer, tmp_path: Path) -> None:
    make_bucket(own_nats_server.url, BUCKET, max_bytes=2000)
    with ConnectorProcess(tmp_path, variables(own_nats_server.url)) as connector, connector.connection() as client:
        assert client.ask("PUT", "/keys/a", b"x" * 1000).status == 204
        refused = client.ask("PUT", "/keys/b", b"x" * 1000)
        assert refused.error == (500, "internal_error")
        assert "full" in refused.json["message"]


# --- resources


def test_memory_stays_within_the_limit_of_a_sidecar(server: NatsServer, tmp_path: Path) -> None:
    compiled = {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    with ConnectorProcess(tmp_path / "first", variables(server.url) | compiled):
        pass  # compiling leaves memory behind; the image is compiled when it is built
    with ConnectorProcess(tmp_path / "second", variables(server.url) | compiled) as connector:
        assert connector.resident_bytes <= LIMIT_BYTES

        def work(number: int) -> None:
            with connector.connection() as client:
                for count in range(REQUESTS // 8):
                    key = f"/keys/{number}/{count}"
                    assert client.ask("PUT", key, b"x" * 500).status == 204
                    assert client.ask("GET", key).status == 200

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert connector.resident_bytes <= LIMIT_BYTES


def test_unread_answers_do_not_fill_the_memory(server: NatsServer, connector: ConnectorProcess) -> None:
    with connector.connection() as client, ExitStack() as stack:
        assert client.ask("PUT", "/keys/large", b"x" * 1_000_000).status == 204
        unread = [stack.enter_context(connector.raw()) for _ in range(100)]
        for raw in unread:
            raw.sendall(b"GET /keys/large HTTP/1.1\r\n\r\n")
        answered = [raw.recv(12) for raw in unread]
        assert answered.count(b"HTTP/1.1 200") >= 4
        assert answered.count(b"HTTP/1.1 503") >= 90
        assert connector.resident_bytes <= 2 * LIMIT_BYTES
        assert client.ask("GET", "/healthz").status == 200


def test_neither_the_command_line_nor_other_unneeded_modules_are_loaded() -> None:
    check = (
        "import sys, provider.__main__, provider.state_proxy.launch as start\n"
        "start._load()\n"
        "unneeded = ('typer', 'rich', 'nkeys', 'zipfile', 'importlib.metadata', 'email.feedparser', 'difflib')\n"
        "print(*(name for name in unneeded if name in sys.modules))\n"
        "import importlib.metadata, email.parser\n"
        "assert email.parser.BytesParser"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_help_names_the_environment_variables() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for name in ("CONNECTOR_SOCKET", "NATS_URL", "NATS_KV_BUCKET", "NATS_CREDS", "NATS_CREDS_FILE", "STATE_PREFIX"):
        assert name in done.stdout
