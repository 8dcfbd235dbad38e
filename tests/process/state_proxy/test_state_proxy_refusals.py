"""Buckets and accounts that refuse: what the connector answers then, and when it does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.js.api import AckPolicy, RetentionPolicy
from nats.js.client import JetStreamContext

from tests.blackbox.connector_process import ConnectorProcess
from tests.blackbox.nats.nats_buckets import make_bucket, with_bucket, with_jetstream
from tests.blackbox.nats.nats_server import NatsServer

BUCKET = "state"


def variables(url: str, **more: str | None) -> dict[str, str | None]:
    return {"NATS_URL": url, "NATS_KV_BUCKET": BUCKET} | more


@pytest.mark.parametrize(
    ("retention", "name"), [(RetentionPolicy.INTEREST, "interested"), (RetentionPolicy.WORK_QUEUE, "queue")]
)
def test_a_bucket_that_does_not_keep_values_is_refused(
    nats_server: NatsServer, tmp_path: Path, retention: RetentionPolicy, name: str
) -> None:
    async def add(jetstream: JetStreamContext) -> None:
        await jetstream.add_stream(name=f"KV_{name}", subjects=[f"$KV.{name}.>"], retention=retention)

    with_jetstream(nats_server.url, add)
    with ConnectorProcess(tmp_path, variables(nats_server.url, NATS_KV_BUCKET=name), is_ready=False) as connector:
        assert connector.exited() == 1
        printed = connector.stderr
    assert printed.startswith("keyvalue-nats state-proxy: NATS_KV_BUCKET: ")
    assert f"has retention {retention.value}" in printed


def test_an_account_without_another_consumer_is_not_a_missing_permission(tmp_path: Path) -> None:
    account = """
        accounts { A { jetstream: { max_consumers: 1 }, users: [ { user: a, password: right } ] } }
        no_auth_user: a"""
    with NatsServer(tmp_path / "server", account) as server:
        make_bucket(server.url, BUCKET)

        async def use_up(jetstream: JetStreamContext) -> None:
            await jetstream.add_consumer(f"KV_{BUCKET}", durable_name="leaked", ack_policy=AckPolicy.NONE)

        with_jetstream(server.url, use_up)
        with (
            ConnectorProcess(tmp_path / "connector", variables(server.url)) as connector,
            connector.connection() as client,
        ):
            assert client.ask("PUT", "/keys/a", b"1").status == 204
            assert client.ask("GET", "/keys/a").body == b"1"
            listing = client.ask("GET", "/keys/?prefix=")
            assert listing.error == (500, "internal_error")
            assert "consumers" in listing.json["message"]
            assert client.ask("HEAD", "/keys/absent").status == 500


def test_a_sealed_bucket_is_not_a_missing_permission(nats_server: NatsServer, tmp_path: Path) -> None:
    make_bucket(nats_server.url, "sealed", direct=True)
    with_bucket(nats_server.url, "sealed", lambda bucket: bucket.put("a", b"1"))

    async def seal(jetstream: JetStreamContext) -> None:
        config = (await jetstream.stream_info("KV_sealed")).config
        await jetstream.update_stream(config, sealed=True)

    with (
        ConnectorProcess(tmp_path, variables(nats_server.url, NATS_KV_BUCKET="sealed")) as connector,
        connector.connection() as client,
    ):
        with_jetstream(nats_server.url, seal)
        assert client.ask("GET", "/keys/a").body == b"1"
        for method in ("PUT", "DELETE"):
            refused = client.ask(method, "/keys/a", b"2" if method == "PUT" else None)
            assert refused.error == (500, "internal_error")
            assert "sealed" in refused.json["message"]
        assert client.ask("GET", "/keys/a").body == b"1"
