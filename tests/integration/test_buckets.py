"""Buckets that exist already, are missing, full, deleted, shared, or behind a leaf node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.js.errors import APIError

from tests.blackbox.lattice_host import CallFailedError, LatticeHost
from tests.blackbox.link_checks import exercise, filled, reason, served
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import MakeActor, MakeServer


def bucket_name() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"


@asynccontextmanager
async def client_of(server: NatsServer, **options: str) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, **options)
    try:
        yield client
    finally:
        await client.close()


# --- existing and missing buckets


CONFIGS: list[dict[str, object]] = [
    {},
    {"allow_direct": False},
    {"max_msgs_per_subject": 5},
    {"max_msgs_per_subject": 5, "allow_direct": False},
    {"max_msgs_per_subject": 64, "allow_msg_ttl": True},
    {"allow_msg_ttl": True},
    {"storage": "memory"},
    {"discard": "old", "deny_delete": False},
]


async def test_an_existing_bucket_is_used_as_it_is(host: LatticeHost, make_actor: MakeActor) -> None:
    async def use(config: dict[str, object]) -> None:
        name = bucket_name()
        bucket = StoredBucket(host.client, name)
        await bucket.create(**config)
        before = (await bucket.info())["config"]
        await exercise(await make_actor(BUCKET=name))
        assert (await bucket.info())["config"] == before, config

    await asyncio.gather(*(use(config) for config in CONFIGS))


async def test_settings_that_an_existing_bucket_does_not_have_are_a_warning(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    name = bucket_name()
    bucket = StoredBucket(host.client, name)
    await bucket.create()
    actor = await make_actor(BUCKET=name, STORAGE="memory", MAX_BYTES="1M")
    assert await actor.increment("k") == 1
    assert (await bucket.info())["config"]["storage"] == "file"
    line = next(line for line in host.provider.stderr.splitlines() if "bucket_differs" in line and name in line)
    assert "STORAGE" in line
    assert "MAX_BYTES" in line


async def test_an_expired_value_gets_a_marker_only_if_the_link_asks_for_it(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    """The marker removes every write that came after the server decided to put it."""

    async def marker_seconds(name: str) -> float:
        config = (await StoredBucket(host.client, name).info())["config"]
        return float(config.get("subject_delete_marker_ttl", 0)) / 10**9

    unmarked, marked = bucket_name(), bucket_name()
    await served(await make_actor(BUCKET=unmarked))
    await served(await make_actor(BUCKET=marked, EXPIRY_MARKERS="true"))
    assert (await marker_seconds(unmarked), await marker_seconds(marked)) == (0, 120)

    found = bucket_name()
    await StoredBucket(host.client, found).create(allow_msg_ttl=True, subject_delete_marker_ttl=5 * 10**9)
    await served(await make_actor(BUCKET=found))
    warned = [line for line in host.provider.stderr.splitlines() if "bucket_marks_expired" in line]
    assert len(warned) == 1
    assert found in warned[0]


async def test_a_value_written_while_the_one_before_it_expires_stays(make_actor: MakeActor) -> None:
    actor = await make_actor(BUCKET=bucket_name())
    await served(actor)
    keys = [f"k{number}" for number in range(200)]
    for _ in range(3):
        await asyncio.gather(*(actor.set(key, "old", 1) for key in keys))
        await asyncio.sleep(0.85)
        for slice_ in (keys[start : start + 10] for start in range(0, len(keys), 10)):
            await asyncio.gather(*(actor.set(key, "new") for key in slice_))
        assert await asyncio.gather(*(actor.get(key) for key in keys)) == ["new"] * len(keys)


async def test_a_missing_bucket_is_not_made_if_the_link_forbids_it(host: LatticeHost, make_actor: MakeActor) -> None:
    name = bucket_name()
    actor = await make_actor(BUCKET=name, CREATE="never")
    said = await reason(actor)
    assert "BUCKET" in said
    assert "CREATE" in said
    assert name in said
    health = await host.health()
    assert actor.public_key in health.message
    bucket = StoredBucket(host.client, name)
    assert "error" in await bucket.info()
    await bucket.create()
    await served(actor)


async def test_a_stream_that_is_not_a_bucket_is_refused(host: LatticeHost, make_actor: MakeActor) -> None:
    name = bucket_name()
    await StoredBucket(host.client, name).create(subjects=[f"other.{name}.>"])
    said = await reason(await make_actor(BUCKET=name))
    assert "BUCKET" in said
    assert name in said


async def test_more_replicas_than_servers_name_the_setting(make_actor: MakeActor) -> None:
    assert "link value REPLICAS:" in await reason(await make_actor(REPLICAS="3"))


async def test_a_bucket_deleted_from_outside_is_served_again(host: LatticeHost, make_actor: MakeActor) -> None:
    actor = await make_actor()
    for _ in range(2):
        assert await actor.increment("k", 5) == 5
        await actor.list_add("list", "x")
        await StoredBucket(host.client, actor.bucket).delete()

        async def is_served_anew() -> bool:
            try:
                return await actor.get("k") is None
            except CallFailedError:
                return False

        await eventually(is_served_anew, "a new bucket", 8)
        assert await actor.list_range("list") == []


async def test_a_bucket_made_anew_from_outside_is_not_served_from_memory(
    host: LatticeHost, make_actor: MakeActor
) -> None:
    actor = await make_actor()
    for _ in range(5):
        await actor.increment("k")
    bucket = StoredBucket(host.client, actor.bucket)
    await bucket.delete()
    await bucket.create()
    totals: list[int] = []
    errors: list[str] = []

    async def has_counted() -> bool:
        try:
            totals.append(await actor.increment("k"))
        except CallFailedError as error:
            errors.append(str(error))
        return bool(totals)

    await eventually(has_counted, "an answer", 8)
    assert totals == [1]
    assert not [error for error in errors if "outcome unknown" in error]
    assert await bucket.payload("k") == b"1"


# --- shared buckets


async def test_key_prefixes_keep_links_of_one_bucket_apart(host: LatticeHost, make_actor: MakeActor) -> None:
    name = bucket_name()
    first, second = await make_actor(BUCKET=name, KEY_PREFIX="one."), await make_actor(BUCKET=name, KEY_PREFIX="two ")
    whole = await make_actor(BUCKET=name)
    assert await first.increment("k") == 1
    assert await first.increment("k") == 2
    assert await second.increment("k") == 1
    assert await whole.get("k") is None
    assert await whole.get("one.k") == "2"
    assert await whole.get("two k") == "1"
    assert await StoredBucket(host.client, name).payload("one.k") == b"2"
    await first.set_add("set", "a")
    await second.set_add("set", "b")
    assert await first.set_union("set", "other") == {"a"}
    assert await second.delete("k") is True
    assert await first.get("k") == "2"


async def test_an_error_names_the_key_as_the_actor_wrote_it(make_actor: MakeActor) -> None:
    actor = await make_actor(KEY_PREFIX="hidden.")
    await actor.set("k e y", "text")
    said = await actor.error("Increment", {"key": "k e y", "value": 1})
    assert "k e y" in said
    assert "hidden" not in said
    assert "empty" in await actor.error("Get", "")


async def test_links_on_one_bucket_share_its_values(make_actor: MakeActor) -> None:
    name = bucket_name()
    actors = [await make_actor(BUCKET=name) for _ in range(4)]
    totals = await asyncio.gather(*(actor.increment("k") for actor in actors * 16))
    assert sorted(totals) == list(range(1, 65))
    for actor in actors:
        assert await actor.get("k") == "64"


async def test_one_bucket_over_two_connections_counts_every_total_once(
    host: LatticeHost, make_actor: MakeActor, lattice_server: NatsServer
) -> None:
    name = bucket_name()
    actors = [await make_actor(BUCKET=name), await make_actor(BUCKET=name, URL=lattice_server.url)]
    totals = await asyncio.gather(*(actor.increment("k") for actor in actors * 64))
    assert sorted(totals) == list(range(1, 129))


# --- room


async def test_a_full_bucket_says_so_and_its_values_stay_usable(host: LatticeHost, make_actor: MakeActor) -> None:
    actor = await make_actor(MAX_BYTES="64K")
    value = "x" * 4000
    keys: list[str] = []
    said = await filled(actor, value, keys)
    assert "full" in said
    assert "outcome unknown" not in said
    assert 10 <= len(keys) <= 16
    assert await actor.get(keys[0]) == value
    await actor.set(keys[0], "y" * 3900)  # the server takes what is shorter than what it replaces
    assert await actor.get(keys[0]) == "y" * 3900
    assert await actor.delete(keys[1]) is True
    assert await actor.delete(keys[2]) is True
    assert await actor.get(keys[1]) is None
    await actor.set(fresh(), value)
    for operation, argument in (
        ("Set", {"key": "new", "value": "z" * 20_000, "expires": 0}),
        ("SetAdd", {"setName": "new", "value": "z" * 20_000}),
        ("ListAdd", {"listName": "new", "value": "z" * 20_000}),
    ):
        assert "full" in await actor.error(operation, argument)
    assert await actor.contains("new") is False


async def test_small_values_of_a_bucket_full_to_the_brim_can_be_deleted(make_actor: MakeActor) -> None:
    actor = await make_actor(MAX_BYTES="16K")
    await actor.set("text", "x")
    await actor.increment("counter")
    await actor.list_add("list", "x")
    await actor.set_add("set", "x")
    for size in (2000, 200, 20, 1):
        assert "full" in await filled(actor, "x" * size, [])
    assert await actor.get("text") == "x"
    assert await actor.delete("text") is True
    assert await actor.contains("text") is False
    assert await actor.delete("counter") is True
    assert await actor.list_del("list", "x") is True
    assert await actor.set_clear("set") is True
    assert await actor.contains("set") is False
    assert await actor.set_query("set") == set()
    await actor.set("new", "x")


async def test_a_bucket_that_is_full_when_it_is_opened_is_served(host: LatticeHost, make_actor: MakeActor) -> None:
    name, jetstream = bucket_name(), host.client.jetstream()
    await StoredBucket(host.client, name).create(max_bytes=8192)
    keys: list[str] = []
    for size in (1000, 100, 10, 0):
        with contextlib.suppress(APIError):
            while len(keys) < 1000:
                await jetstream.publish(f"$KV.{name}.k{len(keys)}", b"v" * size)
                keys.append(f"k{len(keys)}")
    actor = await make_actor(BUCKET=name)
    assert await actor.contains(keys[-1]) is True  # of the first ones, nats-server 2.9 drops some
    for key in keys[-20:]:
        assert await actor.delete(key) is True
    await actor.set("new", "x")


async def test_a_bucket_for_values_of_a_few_bytes_can_be_emptied(make_actor: MakeActor) -> None:
    actor = await make_actor(MAX_VALUE_SIZE="100")
    await actor.set("text", "x")
    assert await actor.increment("counter") == 1
    assert await actor.delete("text") is True
    assert await actor.delete("counter") is True
    assert await actor.contains("text") is False
    assert await actor.delete("counter") is False


async def test_a_bucket_whose_mirror_answers_is_read_from_its_leader(host: LatticeHost, make_actor: MakeActor) -> None:
    actor = await make_actor()
    await actor.set("k", "v")
    await actor.set("other", "v")
    mirror = {"name": f"mirror-{actor.bucket}", "mirror": {"name": f"KV_{actor.bucket}"}, "mirror_direct": True}
    jetstream = host.client.jetstream()
    await host.client.request(f"$JS.API.STREAM.CREATE.{mirror['name']}", json.dumps(mirror).encode())

    async def has_caught_up() -> bool:
        return (await jetstream.stream_info(f"mirror-{actor.bucket}")).state.messages == 2

    await eventually(has_caught_up, "the mirror")
    await jetstream.purge_stream(
        f"KV_{actor.bucket}", subject=f"$KV.{actor.bucket}.k"
    )  # a mirror never learns of a purge
    assert [await actor.get("k") for _ in range(20)] == [None] * 20
    await actor.set("k", "w")
    assert {await actor.get("k") for _ in range(20)} == {"w"}
    assert await actor.call("KeyValueBatch.GetMany", ["k", "missing"]) == [
        {"key": "k", "value": "w", "exists": True},
        {"key": "missing", "value": "", "exists": False},
    ]
    assert "bucket_has_mirror" in host.provider.stderr
    await jetstream.delete_stream(f"mirror-{actor.bucket}")


# --- JetStream missing, forbidden, or in another domain


async def test_a_server_without_jetstream_is_named_and_heals_when_it_gets_some(
    host: LatticeHost, make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    port = free_port()
    server = make_server(has_jetstream=False, port=port)
    server.start()
    actor = await make_actor(URL=server.url)
    assert "JetStream" in await reason(actor)
    assert "JetStream" in (await host.health()).message
    assert await witness.get("witness") == "here"
    server.stop()
    again = make_server(port=port)
    again.start()
    await served(actor)


async def test_an_account_without_jetstream_is_named(make_actor: MakeActor, make_server: MakeServer) -> None:
    server = make_server(
        "accounts { A { users [ { user: ann, password: x } ] },\n"
        "B { jetstream: enabled, users [ { user: bob, password: x } ] } }"
    )
    server.start()
    actor = await make_actor(URL=server.url, USER="ann", PASSWORD="x")
    said = await reason(actor)
    assert "JetStream" in said
    await served(await make_actor(URL=server.url, USER="bob", PASSWORD="x"))


async def test_a_user_without_permissions_is_told_so(
    make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    server = make_server(
        "authorization { users [\n"
        "  { user: none, password: x, permissions { publish { deny: '>' } } }\n"
        "  { user: reader, password: x, permissions { publish { deny: '$KV.>' } } }\n"
        "  { user: all, password: x }\n"
        "] }"
    )
    server.start()
    writer = await make_actor(URL=server.url, USER="all", PASSWORD="x", BUCKET="b")
    await writer.set("k", "v")
    outsider = await make_actor(URL=server.url, USER="none", PASSWORD="x", BUCKET="b")
    said = await reason(outsider)
    assert "ermission" in said
    assert "USER" in said
    reader = await make_actor(URL=server.url, USER="reader", PASSWORD="x", BUCKET="b")
    assert await reader.get("k") == "v"
    said = await reader.error("Set", {"key": "k", "value": "w", "expires": 0})
    assert "ermission" in said
    assert "outcome unknown" not in said
    assert await reader.get("k") == "v"
    assert await witness.get("witness") == "here"


async def test_a_domain_behind_a_leaf_node_is_served_and_the_leafs_own_bucket_stays_untouched(
    make_actor: MakeActor, make_server: MakeServer, witness: Actor
) -> None:
    leaf_port = free_port()
    hub = make_server(f"leafnodes {{ listen: '127.0.0.1:{leaf_port}' }}", has_jetstream=False)
    hub.config += f"\njetstream {{ store_dir: '{hub.folder / 'store'}', domain: hub }}"
    leaf = make_server(
        f"leafnodes {{ remotes: [ {{ url: 'nats-leaf://127.0.0.1:{leaf_port}' }} ], reconnect: 1 }}",
        has_jetstream=False,
    )
    leaf.config += f"\njetstream {{ store_dir: '{leaf.folder / 'store'}', domain: leaf }}"
    hub.start()
    leaf.start()
    async with client_of(leaf) as client:
        bucket = StoredBucket(client, "same")
        await bucket.create()
        await client.request("$KV.same.text", b"the leaf's own", timeout=5)
        actor = await make_actor(URL=leaf.url, JS_DOMAIN="hub", BUCKET="same")
        await served(actor)
        assert await actor.get("text") is None
        await exercise(actor)
        await actor.set("text", "the hub's")
        local = await make_actor(URL=leaf.url, BUCKET="same")
        assert await local.get("text") == "the leaf's own"
        assert (await bucket.info())["state"]["messages"] == 1
        async with client_of(hub) as hub_client:
            assert await StoredBucket(hub_client, "same").payload("text") == b"the hub's"

        nowhere = await make_actor(URL=leaf.url, JS_DOMAIN="nowhere", BUCKET="same")
        assert "link value JS_DOMAIN:" in await reason(nowhere)

        hub.kill()

        async def is_refused() -> bool:
            try:
                await actor.get("text")
            except CallFailedError:
                return True
            return False

        await eventually(is_refused, "a refusal")
        assert await local.get("text") == "the leaf's own"
        assert await witness.get("witness") == "here"
        hub.start()
        await served(actor)
        assert await actor.get("text") == "the hub's"
        assert (await bucket.info())["state"]["messages"] == 1
