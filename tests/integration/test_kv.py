"""The functions behind `keyvalue-nats kv`, together with other clients of the same buckets."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from contracts.secret import Secret
from provider import errors
from provider.commands import errors as kv_errors
from provider.commands.connect import ConnectionOptions, connected, deadline_in
from provider.commands.kv.bucket_admin import add_bucket, bucket_status, list_buckets, remove_bucket
from provider.commands.kv.bucket_commands import print_key_table
from provider.commands.kv.bucket_info import BucketSettings, Republish
from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.keyvalue.bucket.follow import Selection, Start
from provider.keyvalue.kinds import Value
from provider.keyvalue.link_values import Consistency
from provider.nats.buckets import TTL_LEVEL
from provider.nats.consumer import PullConsumer
from provider.nats.jetstream import JetStream
from tests.blackbox.nats.cluster import Cluster
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.nats.operator_mode import Operator, creds_file
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.integration.conftest import MakeActor, MakeServer

SECONDS = 5.0
LEADER = Consistency.LEADER


class Both:
    """One bucket through this program and through nats-py's key-value client."""

    def __init__(self, jetstream: JetStream, bucket: OpenBucket, client: Client, theirs: KeyValue) -> None:
        self.jetstream = jetstream
        self.bucket = bucket
        self.client = client
        self.theirs = theirs


def bucket_name() -> str:
    return f"kv-{uuid.uuid4().hex[:12]}"


@asynccontextmanager
async def both(server: NatsServer, **settings: Any) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        jetstream = await stack.enter_async_context(connected(ConnectionOptions(server.url), SECONDS))
        name = bucket_name()
        await add_bucket(jetstream, BucketSettings(name, **settings), deadline_in(SECONDS))
        bucket = await stack.enter_async_context(opened(jetstream, name, SECONDS))
        client = await nats.connect(server.url)
        stack.push_async_callback(client.close)
        yield Both(jetstream, bucket, client, await client.jetstream().key_value(name))


async def collected(bucket: OpenBucket, pattern: str = ">") -> list[str]:
    return [head.bucket_key async for head in bucket.keys(pattern)]


# --- with nats-py's client


@pytest.mark.parametrize("history", [1, 5])
async def test_nats_py_reads_the_values_written_here(lattice_server: NatsServer, history: int) -> None:
    async with both(lattice_server, history=history) as it:
        first = await it.bucket.put("a.b", b"one")
        entry = await it.theirs.get("a.b")
        assert (entry.value, entry.revision) == (b"one", first)
        second = await it.bucket.update("a.b", b"two", first)
        assert (await it.theirs.get("a.b")).value == b"two"
        with pytest.raises(KeyWrongLastSequenceError):
            await it.theirs.update("a.b", b"x", first)
        third = await it.theirs.update("a.b", b"three", second)
        assert await it.bucket.update("a.b", bytes(range(256)), third) == third + 1
        assert (await it.theirs.get("a.b")).value == bytes(range(256))
        with pytest.raises(KeyWrongLastSequenceError):
            await it.theirs.create("a.b", b"x")
        assert await it.bucket.delete("a.b")
        with pytest.raises(KeyNotFoundError):
            await it.theirs.get("a.b")
        assert await it.theirs.create("a.b", b"again") == third + 3
        assert await it.bucket.purge("a.b")
        with pytest.raises(KeyNotFoundError):
            await it.theirs.get("a.b")
        await it.bucket.create("a.b", b"last")
        await it.bucket.put("c", b"x")
        assert sorted(await it.theirs.keys()) == ["a.b", "c"]
        assert [entry.operation for entry in await it.theirs.history("a.b")][-1] is None


@pytest.mark.parametrize("history", [1, 5])
async def test_values_written_by_nats_py_are_read_here(lattice_server: NatsServer, history: int) -> None:
    async with both(lattice_server, history=history) as it:
        revision = await it.theirs.put("k", b"\xff\x00")
        entry = await it.bucket.get("k", LEADER)
        assert (entry.revision, entry.payload, entry.kind, entry.operation_id) == (revision, b"\xff\x00", "binary", "")
        with pytest.raises(kv_errors.WrongRevisionError) as caught:
            await it.bucket.create("k", b"x")
        assert str(caught.value) == f"wrong last sequence: {revision}: key exists"
        await it.theirs.delete("k")
        with pytest.raises(kv_errors.KeyNotFoundError):
            await it.bucket.get("k", LEADER)
        created = await it.bucket.create("k", b"new")
        await it.theirs.purge("k")
        assert await collected(it.bucket) == []
        with pytest.raises(kv_errors.WrongRevisionError) as caught:
            await it.bucket.update("k", b"x", created)
        marker = caught.value.current
        assert marker == created + 1
        assert await it.bucket.update("k", b"over the marker", marker) == marker + 1
        await it.theirs.create("other", b"x")
        assert sorted(await collected(it.bucket)) == ["k", "other"]


async def test_a_time_to_live_applies_whichever_client_set_it(lattice_server: NatsServer) -> None:
    async with both(lattice_server) as it:
        await it.theirs.create("theirs", b"x", msg_ttl=60)
        found = await it.bucket.get("theirs", LEADER)
        assert 0 < found.expires_at_ms - found.time_ms <= 60_000
        await it.bucket.put("ours", b"x", 1)
        is_left = it.bucket.is_left_by_server("ours")
        assert (await it.theirs.get("ours")).value == b"x"

        async def is_gone() -> bool:
            try:
                await it.bucket.get("ours", LEADER)
            except kv_errors.KeyNotFoundError:
                return True
            return False

        await eventually(is_gone, "the end of a value")
        if not is_left:
            await eventually(lambda: _is_missing(it.theirs, "ours"), "the end of it for others")
        await it.bucket.create("ours", b"again")


async def _is_missing(theirs: KeyValue, key: str) -> bool:
    try:
        return not (await theirs.get(key)).value
    except KeyNotFoundError:
        return True


async def test_the_history_is_the_same_as_in_nats_py(lattice_server: NatsServer) -> None:
    async with both(lattice_server, history=3) as it:
        for number in range(4):
            await it.theirs.put("k", b"%d" % number)
        await it.bucket.delete("k")
        found = await it.bucket.history("k")
        assert [(one.operation, one.payload) for one in found] == [("PUT", b"2"), ("PUT", b"3"), ("DEL", b"")]
        theirs = await it.theirs.history("k")
        assert [entry.revision for entry in theirs] == [one.revision for one in found]
        assert (await it.bucket.at_revision("k", 3)).payload == b"2"
        with pytest.raises(kv_errors.KeyNotFoundError):
            await it.bucket.at_revision("k", 5)  # a marker
        with pytest.raises(kv_errors.KeyNotFoundError):
            await it.bucket.at_revision("k", 1)  # too old
        assert await it.bucket.revert("k", 3) == 6
        assert (await it.theirs.get("k")).value == b"2"
        await it.bucket.delete("k")
        assert not await it.bucket.purge("k"), "it was deleted before"
        assert [one.operation for one in await it.bucket.history("k")] == ["DEL"]
        with pytest.raises(kv_errors.KeyNotFoundError):
            await it.bucket.history("none")


async def test_both_watch_each_other(lattice_server: NatsServer) -> None:
    async with both(lattice_server) as it, it.bucket.following(Selection("w.>", Start.LAST)) as updates:
        assert await updates.next() is None
        theirs: Any = await it.theirs.watch("w.>")
        assert await theirs.updates(timeout=SECONDS) is None
        await it.theirs.put("w.1", b"theirs")
        await it.bucket.put("x", b"not watched")
        await it.bucket.put("w.1", b"ours")
        await it.bucket.delete("w.1")
        await it.theirs.purge("w.1")
        async with asyncio.timeout(SECONDS):
            ours_seen = [update for update in [await updates.next() for _ in range(4)] if update]
        theirs_seen = [await theirs.updates(timeout=SECONDS) for _ in range(4)]
        await theirs.stop()
        assert [update.operation for update in ours_seen] == ["PUT", "PUT", "DEL", "PURGE"]
        assert [update.payload for update in ours_seen] == [b"theirs", b"ours", b"", b""]
        assert [entry.operation for entry in theirs_seen if entry] == [None, None, "DEL", "PURGE"]
        assert [entry.revision for entry in theirs_seen if entry] == [update.revision for update in ours_seen]


async def test_a_key_written_during_a_listing_is_listed_once(lattice_server: NatsServer) -> None:
    async with both(lattice_server) as it:
        keys = [f"k{number}" for number in range(300)]  # more than one batch
        for key in keys:
            await it.theirs.put(key, b"1")
        found: list[str] = []
        async for head in it.bucket.keys(">"):
            if not found:
                await it.theirs.put("k0", b"2")
                await it.theirs.put("k299", b"2")
            found.append(head.bucket_key)
        assert sorted(found) == sorted(keys)


async def test_a_key_deleted_during_a_listing_is_left_out_of_a_table_with_values(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with both(lattice_server) as it:
        for key in ("a", "b", "c"):
            await it.bucket.put(key, b"value")
        value = it.bucket.value

        async def value_after_a_deletion(key: str, consistency: Consistency) -> Value:
            if key == "b":
                await it.theirs.delete(key)
            return await value(key, consistency)

        monkeypatch.setattr(it.bucket, "value", value_after_a_deletion)
        assert await print_key_table(it.bucket, ">", has_values=True)
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["Key", "a", "c"]


# --- with actors


async def test_values_written_by_actors_are_shown_with_their_kind_and_expiry(
    lattice_server: NatsServer, make_actor: MakeActor
) -> None:
    name = bucket_name()
    actor: Actor = await make_actor(BUCKET=name)
    await actor.set("user:1", "Ann", expires=60)
    await actor.set_add("colours", "red")
    await actor.increment("visits", 5)
    async with (
        connected(ConnectionOptions(lattice_server.url), SECONDS) as jetstream,
        opened(jetstream, name, SECONDS) as bucket,
    ):
        assert await collected(bucket) == ["=_user=3A1", "colours", "visits"]
        user = await bucket.get("=_user=3A1", Consistency.STRONG)
        assert (user.payload, user.kind) == (b"Ann", "text")
        assert user.operation_id
        assert 55_000 < user.expires_at_ms - bucket.now_ms() <= 60_000
        assert (await bucket.get("colours", LEADER)).kind == "set"
        assert (await bucket.get("visits", LEADER)).payload == b"5"
        await bucket.put("visits", b"7")
        assert await actor.increment("visits", 1) == 8


# --- buckets


async def test_every_setting_of_a_bucket_reaches_the_server(lattice_server: NatsServer) -> None:
    async with connected(ConnectionOptions(lattice_server.url), SECONDS) as jetstream:
        has_ttl = await jetstream.level(deadline_in(SECONDS)) >= TTL_LEVEL
        settings = BucketSettings(
            bucket_name(),
            history=7,
            ttl_seconds=3600,
            storage="memory",
            max_bytes=2**20,
            max_value_bytes=1024,
            description="all of them",
            is_compressed=True,
            cluster="here",
            tags=(),
            marker_ttl_seconds=30 if has_ttl else 0,
            republish=Republish(f"copies.{uuid.uuid4().hex}.>"),
        )
        status = await add_bucket(jetstream, settings, deadline_in(SECONDS))
        config = status.info.config
        assert (config.max_msgs_per_subject, config.max_age, config.storage) == (7, 3600 * 10**9, "memory")
        assert (config.max_bytes, config.max_msg_size, config.description) == (2**20, 1024, "all of them")
        assert (config.compression, config.subject_delete_marker_ttl) == ("s2", 30 * 10**9 if has_ttl else 0)
        assert config.placement is not None
        assert config.placement.cluster == "here"
        assert config.republish is not None
        assert status.expiry_reason == ("the bucket keeps history" if has_ttl else "the server is older than 2.11")
        with pytest.raises(kv_errors.OptionError) if not has_ttl else nullcontext():
            await add_bucket(jetstream, BucketSettings(bucket_name(), marker_ttl_seconds=9), deadline_in(SECONDS))
        plain = BucketSettings(bucket_name(), history=2)
        assert (await add_bucket(jetstream, plain, deadline_in(SECONDS))).info.config.subject_delete_marker_ttl == 0
        again = await add_bucket(jetstream, settings, deadline_in(SECONDS))
        assert again.info.created == status.info.created, "the same once more is as good as made"
        with pytest.raises(kv_errors.BucketDiffersError):
            await add_bucket(jetstream, BucketSettings(settings.name), deadline_in(SECONDS))
        assert settings.name in [info.name for info in await list_buckets(jetstream, deadline_in(SECONDS))]
        await remove_bucket(jetstream, settings.name, deadline_in(SECONDS))
        for use in (bucket_status, remove_bucket):
            with pytest.raises(kv_errors.BucketNotFoundError):
                await use(jetstream, settings.name, deadline_in(SECONDS))


async def test_a_stream_that_is_not_a_bucket_is_left_alone(lattice_server: NatsServer) -> None:
    async with both(lattice_server) as it:
        name = bucket_name()
        await it.client.jetstream().add_stream(name=f"KV_{name}", subjects=[f"other.{name}.>"])
        for use in (bucket_status, remove_bucket):
            with pytest.raises(kv_errors.BucketNotFoundError, match="no bucket of its own subjects"):
                await use(it.jetstream, name, deadline_in(SECONDS))
        assert name not in [info.name for info in await list_buckets(it.jetstream, deadline_in(SECONDS))]


async def test_a_value_over_the_buckets_limit_is_refused_before_it_is_sent(lattice_server: NatsServer) -> None:
    async with both(lattice_server, max_value_bytes=200) as it:
        with pytest.raises(errors.ValueTooLargeError):
            await it.bucket.put("k", b"x" * 300)
        assert await it.bucket.put("k", b"x" * 100) == 1


async def test_a_replicated_bucket_is_created_shown_and_written(cluster: Cluster) -> None:
    async with connected(ConnectionOptions(cluster.urls()), SECONDS) as jetstream:
        name = bucket_name()
        status = await add_bucket(jetstream, BucketSettings(name, replicas=3), deadline_in(SECONDS))
        assert status.info.cluster is not None
        assert status.info.config.num_replicas == 3
        async with opened(jetstream, name, SECONDS) as bucket:
            revision = await bucket.create("k", b"v")
            for consistency in Consistency:
                assert (await bucket.get("k", consistency)).revision == revision
        await remove_bucket(jetstream, name, deadline_in(SECONDS))


# --- connections


async def test_a_domain_behind_a_leaf_node_is_written_read_and_watched(make_server: MakeServer) -> None:
    leaf_port = free_port()
    hub = make_server(f"leafnodes {{ listen: '127.0.0.1:{leaf_port}' }}", has_jetstream=False)
    hub.config += f"\njetstream {{ store_dir: '{hub.folder / 'store'}', domain: hub }}"
    remote = f"remotes: [ {{ url: 'nats-leaf://127.0.0.1:{leaf_port}' }} ], reconnect: 1"
    leaf = make_server(f"leafnodes {{ {remote} }}", has_jetstream=False)
    leaf.config += f"\njetstream {{ store_dir: '{leaf.folder / 'store'}', domain: leaf }}"
    hub.start()
    leaf.start()
    name = bucket_name()

    async def is_joined() -> bool:
        try:
            async with connected(ConnectionOptions(leaf.url, js_domain="hub"), SECONDS) as jetstream:
                await add_bucket(jetstream, BucketSettings(name), deadline_in(1))
        except kv_errors.NoAnswerError:
            return False
        return True

    await eventually(is_joined, "the hub behind the leaf")
    async with (
        connected(ConnectionOptions(leaf.url, js_domain="hub"), SECONDS) as jetstream,
        opened(jetstream, name, SECONDS) as bucket,
        bucket.following(Selection()) as updates,
    ):
        assert await updates.next() is None
        revision = await bucket.create("k", b"v")
        async with asyncio.timeout(SECONDS):
            update = await updates.next()
        assert update is not None
        assert (update.bucket_key, update.revision, update.payload) == ("k", revision, b"v")
        assert [one.payload for one in await bucket.history("k")] == [b"v"]
        assert await collected(bucket) == ["k"]
        await bucket.purge("k")
        with pytest.raises(kv_errors.KeyNotFoundError):
            await bucket.get("k", LEADER)
    async with connected(ConnectionOptions(leaf.url), SECONDS) as jetstream:
        assert await list_buckets(jetstream, deadline_in(SECONDS)) == []


async def test_a_server_without_jetstream_says_so(make_server: MakeServer) -> None:
    server = make_server(has_jetstream=False)
    server.start()
    async with connected(ConnectionOptions(server.url), SECONDS) as jetstream:
        with pytest.raises(kv_errors.NoAnswerError, match="no JetStream server"):
            await list_buckets(jetstream, deadline_in(SECONDS))


async def test_a_credentials_file_is_used_and_a_wrong_one_is_named(make_server: MakeServer, tmp_path: Path) -> None:
    ours, other = Operator(), Operator()
    server = make_server(ours.server_config())
    server.start()
    for operator, is_right in ((ours, True), (other, False)):
        token, seed = operator.user()
        path = tmp_path / f"{is_right}.creds"
        path.write_text(creds_file(token, seed))
        options = ConnectionOptions(server.url, creds=str(path))
        if is_right:
            async with connected(options, SECONDS) as jetstream:
                assert await list_buckets(jetstream, deadline_in(SECONDS)) == []
        else:
            with pytest.raises(kv_errors.UnreachableError, match="--creds: ") as caught:
                async with connected(options, SECONDS):
                    pass
            assert seed not in str(caught.value)


async def test_missing_permissions_are_reported(make_server: MakeServer) -> None:
    allowed = '"$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.CREATE.>"'
    users = f"""users: [
        {{ user: a, password: a }},
        {{ user: r, password: r, permissions: {{ publish: {{ allow: [{allowed}] }} }} }}
    ]"""
    server = make_server(f"authorization {{ {users} }}")
    server.start()
    name = bucket_name()
    async with connected(ConnectionOptions(server.url, user="a", password=Secret("a")), SECONDS) as jetstream:
        await add_bucket(jetstream, BucketSettings(name), deadline_in(SECONDS))
        async with opened(jetstream, name, SECONDS) as bucket:
            await bucket.put("k", b"v")
    async with (
        connected(ConnectionOptions(server.url, user="r", password=Secret("r")), SECONDS) as jetstream,
        opened(jetstream, name, SECONDS) as bucket,
    ):
        assert (await bucket.get("k", LEADER)).payload == b"v"
        with pytest.raises(errors.StoreRefusedError, match=f"Permissions Violation .*{name}"):
            await bucket.put("k", b"v")
        with pytest.raises(kv_errors.ServerRefusedError, match=f"Permissions Violation .*{name}"):
            await bucket.history("k")


@pytest.mark.slow
async def test_a_frozen_server_is_an_error_in_time_and_the_outcome_of_a_write_is_unknown(
    make_server: MakeServer,
) -> None:
    server = make_server()
    server.start()
    async with both(server) as it, opened(it.jetstream, it.bucket.name, 1.0) as bucket:
        server.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(errors.StoreError):
            await bucket.get("k", LEADER)
        with pytest.raises(errors.OutcomeUnknownError):
            await bucket.put("k", b"v")
        with pytest.raises(kv_errors.NoAnswerError):
            await collected(bucket)
        assert loop.time() - began < 8
        server.thaw()


@pytest.mark.slow
async def test_a_server_that_freezes_before_it_sends_a_history_is_an_error_in_time(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    server.start()
    async with both(server) as it, opened(it.jetstream, it.bucket.name, 1.0) as bucket:
        await bucket.put("k", b"v")
        monkeypatch.setattr(PullConsumer, "_send_request", lambda _: server.freeze())
        async with asyncio.timeout(10):
            with pytest.raises(kv_errors.NoAnswerError):
                await bucket.history("k")
        server.thaw()
