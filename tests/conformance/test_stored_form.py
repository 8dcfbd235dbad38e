"""The stored form: the entries that `nats kv` shows, and entries of other clients. For the backend `bucket` alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from tests.blackbox.lattice_host import LatticeHost
from tests.conformance.actor import Actor, fresh
from tests.conformance.conftest import MakeActor
from tests.conformance.stored import StoredBucket, is_marker, listed

ESCAPED = {
    "user.1.profile": "user.1.profile",
    "a/b-c_d=e": "a/b-c_d=e",
    "year=2024/month=05/day=17/part-0.json": "year=2024/month=05/day=17/part-0.json",
    "user.id=42": "user.id=42",
    "=41": "=41",
    "a=20b": "a=20b",
    "=4g": "=4g",
    "YWJj==": "YWJj==",
    "YQ==.AB=": "YQ==.AB=",
    "=_rest": "=_rest",
    "a b": "=_a=20b",
    "user:1": "=_user=3A1",
    "café": "=_caf=C3=A9",
    "*": "=_=2A",
    "a.>": "a.=_=3E",
    ".a": "=_.a",
    "a.": "a.=_",
    "a..b": "a.=_.b",
    "id=42.a b": "id=42.=_a=20b",
    "=_": "=_=3D_",
    "=_a=20b": "=_=3D_a=3D20b",
    "\0": "=_=00",
    "\x7f": "=_=7F",
}


@pytest.fixture(scope="module")
def backend() -> str:
    return "bucket"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def actor(make_actor: MakeActor) -> Actor:
    actor = await make_actor(BACKEND="bucket")
    await actor.get(fresh())  # the bucket exists once a call has been answered
    return actor


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bucket(actor: Actor) -> AsyncIterator[KeyValue]:
    """Return the same bucket through nats-py's key-value interface."""
    await actor.set("warm", "x")
    yield await actor.host.client.jetstream().key_value(actor.bucket)


async def test_every_kind_is_stored_in_a_readable_form(actor: Actor, stored: StoredBucket) -> None:
    text, counter, elements, members = (fresh() for _ in range(4))
    await actor.set(text, 'Ann "é"\n')
    assert await stored.payload(text) == 'Ann "é"\n'.encode()
    await actor.increment(counter, -42)
    assert await stored.payload(counter) == b"-42"
    for value in ("b", "a", "é", "b"):
        await actor.list_add(elements, value)
        await actor.set_add(members, value)
    found = await stored.payload(elements)
    assert found is not None
    assert json.loads(found) == ["b", "a", "é", "b"]
    assert "é".encode() in found
    found = await stored.payload(members)
    assert found is not None
    assert sorted(json.loads(found)) == ["a", "b", "é"]


@pytest.mark.parametrize(("key", "bucket_key"), ESCAPED.items(), ids=ascii)
async def test_a_key_is_stored_under_its_own_name_or_escaped(
    actor: Actor, stored: StoredBucket, key: str, bucket_key: str
) -> None:
    await actor.set(key, key)
    assert await stored.payload(bucket_key) == key.encode()


async def test_a_deletion_leaves_a_marker_that_watchers_see(
    actor: Actor, bucket: KeyValue, stored: StoredBucket
) -> None:
    key, beside = fresh(), fresh()
    await actor.set(beside, "the client's keys() is an error in an empty bucket")
    watcher: Any = await bucket.watch(key)
    assert await watcher.updates(timeout=5) is None, "nothing is there yet"
    await actor.set(key, "x")
    entry = await watcher.updates(timeout=5)
    assert entry is not None
    assert entry.value == b"x"
    assert await actor.delete(key) is True
    entry = await watcher.updates(timeout=5)
    assert entry is not None
    assert entry.operation in ("DEL", "PURGE")
    await watcher.stop()
    message = await stored.message(key)
    assert message is not None
    assert is_marker(message)
    with pytest.raises(js_errors.KeyNotFoundError):
        await bucket.get(key)
    keys = await listed(bucket)
    assert key not in keys
    assert beside in keys


@pytest.mark.parametrize("how", ["ListDel", "SetDel", "ListClear", "SetClear"])
async def test_an_emptied_collection_reads_as_deleted(actor: Actor, bucket: KeyValue, how: str) -> None:
    key = fresh()
    name = "listName" if how.startswith("List") else "setName"
    await actor.call("ListAdd" if how.startswith("List") else "SetAdd", {name: key, "value": "x"})
    assert await actor.call(how, key if how.endswith("Clear") else {name: key, "value": "x"})
    with pytest.raises(js_errors.KeyNotFoundError):
        await bucket.get(key)


async def test_a_deletion_of_an_absent_key_stores_nothing(actor: Actor, stored: StoredBucket) -> None:
    key = fresh()
    assert await actor.delete(key) is False
    assert await actor.list_clear(key) is False
    assert await actor.set_del(key, "x") == 0
    assert await stored.revision(key) == 0


async def test_a_change_without_an_effect_stores_nothing(actor: Actor, stored: StoredBucket) -> None:
    key = fresh()
    await actor.set_add(key, "a")
    before = await stored.revision(key)
    assert await actor.set_add(key, "a") == 0
    assert await actor.set_del(key, "b") == 0
    assert await stored.revision(key) == before


async def test_nats_py_reads_every_entry(actor: Actor, bucket: KeyValue) -> None:
    text, counter, elements = (fresh() for _ in range(3))
    await actor.set(text, "[1]")
    await actor.increment(counter, 7)
    await actor.list_add(elements, "a")
    assert (await bucket.get(text)).value == b"[1]"
    assert (await bucket.get(counter)).value == b"7"
    assert (await bucket.get(elements)).value == b'["a"]'
    assert {text, counter, elements} <= set(await listed(bucket))


async def test_a_value_of_another_client_is_a_text_and_a_counter_if_it_is_a_decimal(
    actor: Actor, bucket: KeyValue
) -> None:
    text, number, array = (fresh() for _ in range(3))
    await bucket.put(text, "from outside é".encode())
    assert await actor.get(text) == "from outside é"
    await bucket.put(number, b"41")
    assert await actor.get(number) == "41"
    assert await actor.increment(number) == 42
    assert (await bucket.get(number)).value == b"42"
    await bucket.put(array, b'["a"]')
    assert await actor.get(array) == '["a"]'
    assert "text" in await actor.error("ListAdd", {"listName": array, "value": "b"})


@pytest.mark.parametrize(
    "end", ["/year=2024/month=05/a.json", ".user.id=42", ".YWJj==", "=41", "=3Ab", "/=5Flease", "=_a"]
)
async def test_a_key_of_another_client_with_an_equals_sign_is_used_under_its_own_name(
    actor: Actor, bucket: KeyValue, end: str
) -> None:
    stem = fresh()
    await bucket.put(stem + end, b"7")
    assert await actor.get(stem + end) == "7"
    assert await actor.increment(stem + end) == 8
    page = await actor.call("KeyValueStore.ListKeys", {"prefix": stem, "cursor": "", "limit": 5})
    assert page["keys"] == [stem + end]
    assert (await bucket.get(stem + end)).value == b"8"
    assert await actor.delete(stem + end) is True


async def test_changes_by_other_clients_between_two_calls_are_seen(actor: Actor, bucket: KeyValue) -> None:
    key = fresh()
    assert await actor.increment(key) == 1
    await bucket.put(key, b"10")
    assert await actor.increment(key) == 11
    await bucket.delete(key)
    assert await actor.get(key) is None
    assert await actor.contains(key) is False
    assert await actor.increment(key) == 1
    await bucket.purge(key)
    assert await actor.get(key) is None
    assert await actor.delete(key) is False
    assert await actor.increment(key, 5) == 5
    await bucket.put(key, b"not a number")
    assert key in await actor.error("Increment", {"key": key, "value": 1})
    await actor.set(key, "back")
    assert (await bucket.get(key)).value == b"back"


async def test_other_clients_can_compare_and_set_entries_of_the_provider(actor: Actor, bucket: KeyValue) -> None:
    key = fresh()
    await actor.set(key, "1")
    entry = await bucket.get(key)
    assert entry.revision is not None
    await actor.increment(key)
    with pytest.raises(js_errors.KeyWrongLastSequenceError):
        await bucket.update(key, b"stale", entry.revision)
    entry = await bucket.get(key)
    assert entry.revision is not None
    await bucket.update(key, b"40", entry.revision)
    assert await actor.increment(key) == 41


async def test_an_empty_value_from_outside_is_an_empty_text(actor: Actor, bucket: KeyValue) -> None:
    key = fresh()
    await bucket.put(key, b"")
    assert await actor.get(key) == ""
    assert await actor.contains(key) is True


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        ({"Expires-At": "9" * 5000}, b"text"),
        ({"Kv-Kind": "counter"}, b"9" * 5000),
        ({"Kv-Kind": "list"}, rb'["\ud800"]'),
        ({"Nats-Sequence": "x"}, b"\xff"),
    ],
    ids=["expiry", "counter", "list", "sequence"],
)
async def test_an_unreadable_entry_is_an_error_with_its_key_and_can_be_overwritten(
    actor: Actor, host: LatticeHost, headers: dict[str, str], payload: bytes
) -> None:
    key = fresh()
    await host.client.jetstream().publish(f"$KV.{actor.bucket}.{key}", payload, headers=headers)
    for operation, argument in (("Get", key), ("Increment", {"key": key, "value": 1})):
        error = await actor.error(operation, argument)
        assert key in error
        assert "binary value" in error
    assert await actor.contains(key) is True
    await actor.set(key, "1")
    assert await actor.increment(key) == 2


async def test_the_bucket_is_created_with_the_usual_configuration(actor: Actor, stored: StoredBucket) -> None:
    await actor.get(fresh())  # the bucket exists once a call has been answered
    config = (await stored.info())["config"]
    assert config["subjects"] == [f"$KV.{actor.bucket}.>"]
    assert config["max_msgs_per_subject"] == 1
    assert config["discard"] == "new"
    assert config["allow_rollup_hdrs"] is True
    assert config["deny_delete"] is True
    assert config["allow_direct"] is True
    assert config["num_replicas"] == 1
    assert config["storage"] == "file"
    level = int(
        json.loads((await actor.host.client.request("$JS.API.INFO", b"", timeout=5)).data)
        .get("api", {})
        .get("level", 0)
    )
    assert bool(config.get("allow_msg_ttl")) == (level >= 1)


async def test_settings_of_the_link_shape_the_bucket(make_actor: MakeActor) -> None:
    actor = await make_actor(STORAGE="memory", MAX_BYTES="1M", MAX_VALUE_SIZE="64K", TTL="1h", REPLICAS="1")
    await actor.set("k", "v")
    config = (await StoredBucket(actor.host.client, actor.bucket).info())["config"]
    assert config["storage"] == "memory"
    assert config["max_bytes"] == 2**20
    assert config["max_msg_size"] == 2**16
    assert config["max_age"] == 3600 * 10**9
