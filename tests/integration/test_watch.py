"""Watches: an actor is called with each change once and in order, whatever its origin and whichever instance runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from provider import errors
from provider.keyvalue.link_config import parse_link
from provider.keyvalue.pool import StorePool
from provider.keyvalue.watch.key_change import KeyChange
from provider.keyvalue.watch.position import Position
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.called_actor import Called, CalledActor
from tests.blackbox.host_families import OTP, RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer, free_port
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.integration.conftest import MakeServer

BUCKET = "watched"


@pytest_asyncio.fixture(loop_scope="session")
async def watched(lattice_server: NatsServer, tmp_path: Path) -> AsyncIterator[LatticeHost]:
    """A lattice of its own with a running provider."""
    async with LatticeHost(RUST, lattice_server.url, tmp_path) as host:
        await host.start_provider()
        yield host


async def linked(host: LatticeHost, **values: Any) -> Actor:
    """Link an actor that watches, and return once its consumer exists."""
    actor = Actor(host, host.actor(), bucket_of(host), 5)
    await host.put_link(host.link(actor.public_key, {"BUCKET": bucket_of(host), **values}))
    await eventually(lambda: consumers(host), "the watch's consumer")
    return actor


def bucket_of(host: LatticeHost) -> str:
    return f"{BUCKET}-{host.who.lattice}"


async def request(host: LatticeHost, subject: str, body: Any = None) -> dict[str, Any]:
    """Call JetStream's API directly, not through the provider."""
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await host.client.request(f"$JS.API.{subject}", payload, timeout=5)).data)
    return answer


async def consumer(host: LatticeHost) -> dict[str, Any]:
    """Return the server's description of the only consumer."""
    (name,) = await consumers(host)
    return await request(host, f"CONSUMER.INFO.KV_{bucket_of(host)}.{name}")


async def consumers(host: LatticeHost) -> list[str]:
    answer = await host.client.request(f"$JS.API.CONSUMER.NAMES.KV_{bucket_of(host)}", b"", timeout=2)
    names: list[str] = json.loads(answer.data).get("consumers") or []
    return names


def change_of(call: Called) -> tuple[str, str, str, str]:
    assert call.operation == "KeyValueWatch.HandleChange"
    argument = call.argument
    assert argument["revision"] > 0
    return argument["operation"], argument["key"], argument["kind"], argument["value"]


async def test_changes_of_every_kind_and_origin_are_delivered_in_order(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", EXPIRY_MARKERS="true")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        await actor.set("user:1", "Änn")
        await called.called(1)
        await actor.increment("n", 5)
        await actor.list_add("l", "a")
        await actor.set_add("s", "m")
        await called.called(4)
        await actor.delete("user:1")
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        await bucket.put("outside", b"v")
        await bucket.put("binary", b"\xff")
        await called.called(7)
        await bucket.delete("outside")
        await actor.set("short", "lived", 1)
        calls = await called.called(10)
    assert [change_of(call) for call in calls] == [
        ("put", "user:1", "text", "Änn"),
        ("put", "n", "counter", "5"),
        ("put", "l", "list", '["a"]'),
        ("put", "s", "set", '["m"]'),
        ("delete", "user:1", "", ""),
        ("put", "outside", "text", "v"),
        ("put", "binary", "binary value", ""),
        ("delete", "outside", "", ""),
        ("put", "short", "text", "lived"),
        ("expire", "short", "", ""),
    ]
    assert sorted(call.argument["revision"] for call in calls) == [call.argument["revision"] for call in calls]


async def test_a_value_too_large_for_an_invocation_goes_through_the_object_store(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    long = "x" * 1_000_000
    async with CalledActor(watched.client, watched.who, actor.public_key, objects=watched.objects) as called:
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        await bucket.put("long", long.encode())
        calls = await called.called(1)
        assert change_of(calls[0]) == ("put", "long", "text", long)
        assert await watched.objects.chunk_count() == 0, "the host has deleted what it read"


async def test_only_matching_keys_are_delivered_without_the_links_prefix(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH="user.*, order:1.>", KEY_PREFIX="shop.")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        for key in ("user", "user.1.name", "other", "order:1", "user.1", "order:1.a.b"):
            await actor.set(key, "v")
        calls = await called.called(2)
        assert [call.argument["key"] for call in calls] == ["user.1", "order:1.a.b"]


async def test_a_refused_change_is_delivered_again_and_nothing_overtakes_it(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="4")
    refusals = iter(["not yet", "not yet"])

    def answer(call: Called) -> str | None:
        return next(refusals, None) if call.argument["key"] == "first" else None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer) as called:
        await actor.set("first", "v")
        await actor.set("second", "v")
        calls = await called.called(4)
        assert [call.argument["key"] for call in calls] == ["first", "first", "first", "second"]


async def test_a_change_that_the_actor_never_takes_is_a_dead_letter_after_its_tries(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="2")

    def answer(call: Called) -> str | None:
        return "never of this" if call.argument["key"] == "bad" else None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer) as called:
        await actor.set("bad", "payload")
        await actor.set("good", "v")
        calls = await called.called(3)
        assert [call.argument["key"] for call in calls] == ["bad", "bad", "good"]
    lattice = watched.who.lattice
    subject = f"$JS.API.STREAM.MSG.GET.KEYVALUE_DEAD_{lattice}"
    request = json.dumps({"last_by_subj": f"keyvalue.dead.{lattice}.*"}).encode()
    dead = json.loads((await watched.client.request(subject, request, timeout=2)).data)
    stored = await watched.client.jetstream().get_last_msg(f"KEYVALUE_DEAD_{lattice}", f"keyvalue.dead.{lattice}.*")
    assert "error" not in dead
    assert stored.data == b"payload"
    assert stored.headers is not None
    assert stored.headers["Kv-Subject"] == f"$KV.{bucket_of(watched)}.bad"
    assert stored.headers["Kv-Tries"] == "2"
    assert stored.headers["Kv-Error"] == "never of this"


async def test_changes_wait_for_an_actor_that_no_host_runs(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="1")
    for number in range(5):
        await actor.set(f"k{number}", "v")
    await eventually(lambda: "watch_waits" in watched.provider.stderr, "the waiting of the watch")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        calls = await called.called(5)
        assert [call.argument["key"] for call in calls] == [f"k{number}" for number in range(5)]


async def test_changes_made_while_no_provider_runs_are_delivered_once_when_one_does(
    watched: LatticeHost, lattice_server: NatsServer, tmp_path: Path
) -> None:
    actor = await linked(watched, WATCH=">")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        await actor.set("before", "v")
        await called.called(1)
        await watched.shutdown()
        await watched.provider.exited()
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        await bucket.put("meanwhile", b"v")
        async with another(watched, lattice_server, tmp_path) as host:
            await host.start_provider([host.link(actor.public_key, {"BUCKET": bucket_of(watched), "WATCH": ">"})])
            await called.called(2)
            await bucket.put("after", b"v")
            calls = await called.called(3)
        assert [call.argument["key"] for call in calls] == ["before", "meanwhile", "after"]


def another(host: LatticeHost, server: NatsServer, folder: Path) -> LatticeHost:
    """Return another host of the same lattice that runs the same provider."""
    who = host.who
    return LatticeHost(
        RUST,
        server.url,
        folder / f"host-{uuid.uuid4().hex[:8]}",
        lattice=who.lattice,
        provider_key=who.provider,
        cluster=who.cluster,
    )


@pytest.mark.timeout(120)
async def test_several_instances_deliver_each_change_once_and_lose_none_when_killed(
    watched: LatticeHost, lattice_server: NatsServer, tmp_path: Path
) -> None:
    actor = await linked(watched, WATCH=">")
    link = watched.link(actor.public_key, {"BUCKET": bucket_of(watched), "WATCH": ">"})
    async with (
        CalledActor(watched.client, watched.who, actor.public_key) as called,
        another(watched, lattice_server, tmp_path) as second,
        another(watched, lattice_server, tmp_path) as third,
    ):
        for host in (second, third):
            await host.start_provider([link])
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        for number in range(100):
            await bucket.put(f"calm.{number}", b"v")
        calls = await called.called(100)
        await asyncio.gather(*(bucket.put(f"more.{number}", b"v") for number in range(50)))
        await called.called(150)
        assert len({call.argument["revision"] for call in calls}) == len(calls) == 150, "each once"
        putting = asyncio.ensure_future(put_slowly(bucket, 100))
        await called.called(180)
        second.provider.signal(signal.SIGKILL)
        await called.called(200, 20)
        watched.provider.signal(signal.SIGKILL)
        await putting
        await eventually(lambda: len({call.argument["revision"] for call in called.calls}) == 250, "every change", 40)
        revisions = [call.argument["revision"] for call in called.calls]
        assert len(revisions) <= 252, "the change that a killed instance was delivering may be delivered twice"
        last_of_each = sorted({revision: index for index, revision in enumerate(revisions)}.items())
        assert [index for _, index in last_of_each] == sorted(index for _, index in last_of_each), "in order"


async def put_slowly(bucket: Any, count: int) -> None:
    for number in range(count):
        await bucket.put(f"storm.{number}", b"v")


async def test_new_patterns_apply_at_once_and_a_link_without_patterns_receives_nothing(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH="a.*")
    values = {"BUCKET": bucket_of(watched)}
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        await actor.set("a.1", "v")
        await called.called(1)
        await watched.put_link(watched.link(actor.public_key, {**values, "WATCH": "a.*,b.*"}))

        async def has_change_of_b() -> bool:
            await actor.set("b.1", "v")
            return any(call.argument["key"] == "b.1" for call in called.calls)

        await eventually(has_change_of_b, "a change under the new pattern")
        await watched.put_link(watched.link(actor.public_key, values))

        async def is_deleted() -> bool:
            return not await consumers(watched)

        await eventually(is_deleted, "the end of the consumer")
        count = len(called.calls)
        await actor.set("a.2", "v")
        assert await actor.get("a.2") == "v"
        assert len(called.calls) == count


async def test_a_deleted_link_takes_its_position_with_it(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    await watched.delete_link(watched.link(actor.public_key, {"BUCKET": bucket_of(watched), "WATCH": ">"}))

    async def is_deleted() -> bool:
        return not await consumers(watched)

    await eventually(is_deleted, "the end of the consumer")


async def test_a_deleted_consumer_is_recreated_at_its_position(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        await actor.set("first", "v")
        await called.called(1)
        (name,) = await consumers(watched)
        await watched.client.request(f"$JS.API.CONSUMER.DELETE.KV_{bucket_of(watched)}.{name}", b"", timeout=2)
        await actor.set("second", "v")
        await called.called(2, 20)
        assert [call.argument["key"] for call in called.calls] == ["first", "second"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"WATCH": ">", "BACKEND": "cache"}, "a cache cannot be watched"),
        ({"WATCH": "a*"}, "* stands for one part"),
        ({"WATCH": "a..b"}, "* stands for one part"),
        ({"WATCH": ">.a"}, "* stands for one part"),
        ({"WATCH": "a", "KEY_PREFIX": "p"}, "KEY_PREFIX that ends in a dot"),
        ({"WATCH": "a", "KEY_PREFIX": "p..q"}, "KEY_PREFIX that ends in a dot"),
    ],
)
async def test_invalid_settings_are_refused_by_name(watched: LatticeHost, values: dict[str, str], wanted: str) -> None:
    actor = watched.actor()
    await watched.put_link(watched.link(actor, values))

    async def refusal() -> str:
        error = await watched.error(actor, "Get", "k")
        return error if "WATCH" in error else ""

    assert wanted in await eventually(refusal, "the refusal")


# --- a position that is lost


async def test_a_recreated_bucket_is_delivered_from_its_first_change_on(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    stream = f"KV_{bucket_of(watched)}"
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        for number in range(5):
            await actor.set(f"old{number}", "v")
        await called.called(5)
        config = (await request(watched, f"STREAM.INFO.{stream}"))["config"]
        await request(watched, f"STREAM.DELETE.{stream}")
        await request(watched, f"STREAM.CREATE.{stream}", config)
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        for number in range(3):
            await bucket.put(f"new{number}", b"v")
        calls = await called.called(8, 20)
        await bucket.put("last", b"v")
        await called.called(9)
    assert [call.argument["key"] for call in calls[5:]] == ["new0", "new1", "new2", "last"]


async def test_an_instance_that_has_delivered_nothing_yet_recreates_a_lost_consumer_without_losing_a_change(
    watched: LatticeHost, lattice_server: NatsServer, tmp_path: Path
) -> None:
    actor = await linked(watched, WATCH=">")
    async with (
        CalledActor(watched.client, watched.who, actor.public_key) as called,
        another(watched, lattice_server, tmp_path) as second,
    ):
        await actor.set("first", "v")
        await called.called(1)
        await second.start_provider([watched.link(actor.public_key, {"BUCKET": bucket_of(watched), "WATCH": ">"})])

        async def waits() -> bool:
            return bool((await consumer(watched))["num_waiting"] == 2)

        await eventually(waits, "both instances' requests for changes")
        await watched.shutdown()
        await watched.provider.exited()
        (name,) = await consumers(watched)
        await request(watched, f"CONSUMER.DELETE.KV_{bucket_of(watched)}.{name}")
        bucket = await watched.client.jetstream().key_value(bucket_of(watched))
        await bucket.put("second", b"v")
        calls = await called.called(2, 20)
        assert [call.argument["key"] for call in calls] == ["first", "second"]


async def test_a_link_deleted_and_put_again_at_once_keeps_its_new_position(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    link = watched.link(actor.public_key, {"BUCKET": bucket_of(watched), "WATCH": ">"})
    bucket = await watched.client.jetstream().key_value(bucket_of(watched))
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        for turn in range(5):
            await watched.delete_link(link)
            await watched.put_link(link)

            async def is_delivered(turn: int = turn) -> bool:
                await bucket.put(f"turn.{turn}", b"v")
                return any(call.argument["key"] == f"turn.{turn}" for call in called.calls)

            await eventually(is_delivered, "a change after the link was put again")
    assert "watch_interrupted" not in watched.provider.stderr, "the new consumer was not deleted"


async def test_a_consumer_that_another_instance_has_recreated_is_not_deleted(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    async with Connection(ConnectionSettings((server.url,)), "positions", 5) as connection:
        jetstream = JetStream(connection)
        await jetstream.create_stream({"name": "KV_b", "subjects": ["$KV.b.>"]}, deadline())
        slow, fast = Position("watch"), Position("watch")
        for position in (slow, fast):
            await position.ensure(jetstream, "KV_b", ["$KV.b.>"])
        await fast.delete(jetstream, "KV_b")

        async def is_kept() -> bool:
            again = Position("watch")
            await again.ensure(jetstream, "KV_b", ["$KV.b.>"])
            await slow.ensure(jetstream, "KV_b", ["$KV.b.>"])
            await slow.delete(jetstream, "KV_b")
            names = msgspec.json.decode(await jetstream.api("CONSUMER.NAMES.KV_b", None, deadline()))["consumers"]
            await again.delete(jetstream, "KV_b")
            return bool(names)

        await eventually(is_kept, "the consumer of the fast instance, made a moment after the first")


@pytest.mark.parametrize(
    "values", [{"REPLICAS": "x"}, {"USER": "u", "PASSWORD": "p"}], ids=["wrong", "other credentials"]
)
async def test_a_change_during_a_put_with_other_values_is_delivered(
    watched: LatticeHost, values: dict[str, str]
) -> None:
    actor = await linked(watched, WATCH=">")
    link = {"BUCKET": bucket_of(watched), "WATCH": ">"}
    created = (await consumer(watched))["created"]
    await watched.put_link(watched.link(actor.public_key, link | values))
    # Messages of one sender are handled in order: an answer to this one means that the put was handled.
    await watched.health()
    bucket = await watched.client.jetstream().key_value(bucket_of(watched))
    await bucket.put("meanwhile", b"v")
    await watched.put_link(watched.link(actor.public_key, link))
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        calls = await called.called(1)
        assert [call.argument["key"] for call in calls] == ["meanwhile"]
    assert (await consumer(watched))["created"] == created


# --- calls and tries


async def test_an_actor_that_is_being_called_when_its_link_changes_is_not_called_again(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">")
    is_done = asyncio.Event()

    async def answer(call: Called) -> None:
        await is_done.wait()

    async with CalledActor(watched.client, watched.who, actor.public_key, answer) as called:
        await actor.set("first", "v")
        await called.called(1)
        changed = {"BUCKET": bucket_of(watched), "WATCH": ">", "WATCH_TRIES": "7"}
        await watched.put_link(watched.link(actor.public_key, changed))
        await eventually(lambda: watched.provider.stderr.count("link_opened") == 2, "the changed link")
        is_done.set()
        await actor.set("second", "v")
        await called.called(2)
        await actor.set("third", "v")
        calls = await called.called(3)
        assert [call.argument["key"] for call in calls] == ["first", "second", "third"]


async def test_only_calls_count_as_tries(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="3")
    await actor.set("bad", "v")
    for number, tries in enumerate(("4", "3", "4"), 1):

        def waits(number: int = number) -> bool:
            return watched.provider.stderr.count("watch_waits") == number

        await eventually(waits, "the waiting")
        changed = {"BUCKET": bucket_of(watched), "WATCH": ">", "WATCH_TRIES": tries}
        await watched.put_link(watched.link(actor.public_key, changed))
    await eventually(lambda: watched.provider.stderr.count("watch_waits") == 4, "the waiting after the last change")

    def answer(call: Called) -> str | None:
        return "never" if call.argument["key"] == "bad" else None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer) as called:
        await called.called(1)
        await actor.set("good", "v")
        calls = await called.called(5)
        assert [call.argument["key"] for call in calls] == ["bad"] * 4 + ["good"]


async def test_a_value_that_overwrites_a_refused_one_is_delivered_in_its_place(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="1000")

    def answer(call: Called) -> str | None:
        return "wrong" if call.argument["value"] == "wrong" else None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer) as called:
        await actor.set("k", "wrong")
        await called.called(1)
        await actor.set("k", "right")
        await eventually(lambda: called.calls[-1].argument["value"] == "right", "the value that overwrote it")
        assert len(called.calls) <= 5


async def test_a_defect_is_logged_and_makes_the_watch_unhealthy_until_it_is_over(make_server: MakeServer) -> None:
    server = make_server()
    server.start()
    settings = ConnectionSettings((server.url,))
    delivered: list[str] = []
    defects = iter([RuntimeError("defect")])

    @contextlib.asynccontextmanager
    async def deliver(change: KeyChange) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        if (defect := next(defects, None)) is not None:
            raise defect

        async def send() -> None:
            delivered.append(change.key)

        yield send

    async with Connection(settings, "defect", 5) as connection:
        tasks = TaskOwner()
        async with StorePool(tasks, connection, "defect") as pool:
            values = {"BUCKET": "b", "WATCH": ">"}
            config = parse_link(values, lattice="l", link_name="default", lattice_connection=settings)
            watch = pool.watch(config, "watch", "l", deliver)
            watch.start()
            jetstream = JetStream(connection)

            async def is_kept() -> bool:
                try:
                    await jetstream.api("CONSUMER.INFO.KV_b.watch", None, deadline())
                except errors.ApiError:
                    return False
                return True

            await eventually(is_kept, "the consumer")
            await jetstream.publish("$KV.b.k", b"v", b"", deadline())
            await eventually(lambda: "internal error (RuntimeError)" in (watch.unhealthy or ""), "bad health")
            await eventually(lambda: delivered == ["k"], "the change, when the defect is over")
            await eventually(lambda: watch.unhealthy is None, "good health")
            await watch.stop()
        await tasks.close()


def deadline() -> float:
    return asyncio.get_running_loop().time() + 5


# --- large changes, overlapping patterns, domains


async def dead_letter(host: LatticeHost) -> Any:
    lattice = host.who.lattice
    return await host.client.jetstream().get_last_msg(f"KEYVALUE_DEAD_{lattice}", f"keyvalue.dead.{lattice}.*")


async def test_a_dead_letter_that_does_not_fit_has_no_payload(
    watched: LatticeHost,
) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="1")
    await watched.objects.create()
    bucket = await watched.client.jetstream().key_value(bucket_of(watched))
    size = watched.client.max_payload - 20

    def answer(call: Called) -> str | None:
        return "never" if call.argument["key"] == "big" else None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer, objects=watched.objects) as called:
        revision = await bucket.put("big", b"x" * size)
        await bucket.put("next", b"v")
        calls = await called.called(2)
        assert [call.argument["key"] for call in calls] == ["big", "next"]
    dead = await dead_letter(watched)
    assert dead.data in (None, b"")
    assert dead.headers["Kv-Omitted-Bytes"] == str(size)
    assert dead.headers["Kv-Revision"] == str(revision)
    assert "nats_disconnected" not in watched.provider.stderr
    assert (await watched.health()).is_healthy


async def objects_put(host: LatticeHost) -> int:
    """Return the number of messages that were ever put into the lattice's object store."""
    answer = await request(host, f"STREAM.INFO.OBJ_{host.who.lattice}")
    last: int = answer.get("state", {}).get("last_seq", 0)
    return last


async def test_a_long_value_is_put_into_the_object_store_once_while_no_host_runs_the_actor(
    watched: LatticeHost,
) -> None:
    actor = await linked(watched, WATCH=">")
    bucket = await watched.client.jetstream().key_value(bucket_of(watched))
    await bucket.put("long", b"x" * 1_000_000)
    await eventually(lambda: "watch_waits" in watched.provider.stderr, "the waiting of the watch")
    once = await objects_put(watched)

    async def is_put_again() -> bool:
        return await objects_put(watched) > once

    with pytest.raises(AssertionError, match="a second time"):
        await eventually(is_put_again, "the payload a second time", 2.5)
    async with CalledActor(watched.client, watched.who, actor.public_key, objects=watched.objects) as called:
        await called.called(1)
    assert await watched.objects.chunk_count() == 0


async def test_a_payload_that_no_actor_has_read_is_removed(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH=">", WATCH_TRIES="2")
    bucket = await watched.client.jetstream().key_value(bucket_of(watched))

    def answer(call: Called) -> str | None:
        return None

    async with CalledActor(watched.client, watched.who, actor.public_key, answer):  # reads no object, so it refuses
        await bucket.put("long", b"x" * 1_000_000)
        await eventually(lambda: "watch_gave_up" in watched.provider.stderr, "the end of its tries")

    async def is_removed() -> bool:
        return await watched.objects.chunk_count() == 0

    await eventually(is_removed, "an object store without payloads")


async def test_overlapping_patterns_deliver_each_change_once_and_nothing_else(watched: LatticeHost) -> None:
    actor = await linked(watched, WATCH="orders.>, orders.1, *.2")
    async with CalledActor(watched.client, watched.who, actor.public_key) as called:
        for key in ("orders.1", "other.1", "other.2", "orders.2", "orders.1.x", "other", "orders.3"):
            await actor.set(key, "v")
        calls = await called.called(5)
        assert [call.argument["key"] for call in calls] == ["orders.1", "other.2", "orders.2", "orders.1.x", "orders.3"]


async def test_changes_and_dead_letters_of_a_bucket_in_another_domain_stay_there(
    make_server: MakeServer, tmp_path: Path
) -> None:
    port = free_port()
    store = f'jetstream {{ store_dir: "{tmp_path}/hub-store", domain: hub }}'
    hub = make_server(f'server_name: hub\n{store}\nleafnodes {{ listen: "127.0.0.1:{port}" }}', has_jetstream=False)
    hub.start()
    store = f'jetstream {{ store_dir: "{tmp_path}/leaf-store", domain: leaf }}'
    remotes = f'leafnodes {{ remotes: [{{ url: "nats-leaf://127.0.0.1:{port}" }}], reconnect: 1 }}'
    leaf = make_server(f"server_name: leaf\n{store}\n{remotes}", has_jetstream=False)
    leaf.start()

    def answer(call: Called) -> str | None:
        return "never" if call.argument["key"] == "bad" else None

    async with (
        LatticeHost(OTP, leaf.url, tmp_path / "leaf") as host,
        LatticeHost(RUST, hub.url, tmp_path / "hub", lattice=host.who.lattice) as at_the_hub,
    ):
        await host.start_provider(js_domain="hub")
        actor = Actor(host, host.actor(), bucket_of(host), 5)
        values = {"BUCKET": bucket_of(host), "WATCH": ">", "WATCH_TRIES": "1"}
        await host.put_link(host.link(actor.public_key, values))
        await eventually(lambda: consumers(at_the_hub), "the consumer at the hub")
        async with CalledActor(host.client, host.who, actor.public_key, answer, objects=at_the_hub.objects) as called:
            await actor.set("bad", "v")
            await called.called(1)
            await actor.set("next", "v")
            await called.called(2)
            bucket = await at_the_hub.client.jetstream().key_value(bucket_of(host))
            await bucket.put("long", b"x" * 1_000_000)
            calls = await called.called(3)
        assert [call.argument["key"] for call in calls] == ["bad", "next", "long"]
        dead = await dead_letter(at_the_hub)
        assert dead.headers["Kv-Subject"] == f"$KV.{bucket_of(host)}.bad"
        assert (await host.health()).is_healthy
