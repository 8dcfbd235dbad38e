"""The data of the service statistics tell of every call, link and store, as real traffic leaves them."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

import msgpack
import msgspec

from contracts.statistics import LATENCY_BOUNDS_SECONDS, InstanceStatistics, WatchStatistics
from tests.blackbox.called_actor import CalledActor
from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost, gather_outcomes
from tests.blackbox.waiting import eventually
from tests.process.conftest import Hosts


async def data_of(host: LatticeHost) -> InstanceStatistics:
    """Return the data, decoded strictly: a field of another type is an error."""
    return msgspec.convert((await host.statistics())["data"], InstanceStatistics)


class Actors(NamedTuple):
    """The actors of the traffic: of a bucket with a watch, of a cache, of a link that is not valid."""

    one: str
    two: str
    broken: str


async def traffic(host: LatticeHost, bucket: str) -> Actors:
    """Start a provider with links of each kind, and make calls that succeed, that fail, and that never reach a link."""
    actors = Actors(host.actor(), host.actor(), host.actor())
    one, two, broken = actors
    gone = host.link(host.actor(), {"BUCKET": bucket})
    links = [
        host.link(one, {"BUCKET": bucket, "WATCH": "watched.>", "WATCH_TRIES": "1"}),
        host.link(two, {"BACKEND": "cache"}),
        host.link(broken, {"REPLICAS": "many"}),
        gone,
    ]
    await host.start_provider(links)
    await gather_outcomes([host.increment(one, "hits") for _ in range(40)])
    await host.set(one, "secret-key", "secret-value")
    await host.error(one, "ListAdd", {"listName": "secret-key", "value": "x"})
    await host.error(one, "Nonsense", {})
    await host.set(two, "cached", "v")
    await host.set(gone["actor_id"], "k", "v")
    await host.delete_link(gone)
    await host.error(broken, "Get", "k")
    repeated = host.invocation(two, "KeyValue.Get", msgpack.packb("cached"))
    await host.invoke(repeated)
    assert (await host.invoke(repeated)).error is not None
    # A change that the watch's actor refuses, and one that it takes.
    async with CalledActor(host.client, host.who, one, lambda call: "no" if call.argument["key"][-1] == "a" else None):
        await host.set(one, "watched.a", "v")
        await host.set(one, "watched.b", "v")
        await eventually(
            lambda: has_settled(host, one), "a dead letter, a delivered change, and a cache that has joined"
        )
    return actors


async def test_the_data_tell_of_every_call_link_and_store(hosts: Hosts) -> None:
    host = await hosts(RUST)
    bucket, cache = f"b-{host.who.lattice}", f"kvcache.{host.who.lattice}.default.state"
    one, two, broken = await traffic(host, bucket)
    data = await data_of(host)

    assert (data.lattice, data.provider_key, data.host_id) == (
        host.who.lattice,
        host.who.provider.public,
        host.who.host.public,
    )
    assert not data.is_healthy
    assert "REPLICAS" in data.message
    assert data.uptime_seconds > 0
    # Operations of all links, ended ones included.
    operations = {operation.operation.removeprefix("KeyValue."): operation for operation in data.operations}
    assert {name: (one_.succeeded, one_.failed) for name, one_ in operations.items()} == {
        "Increment": (40, {}),
        "Set": (5, {}),
        "ListAdd": (0, {"WrongKindError": 1}),
        "Get": (1, {"LinkUnavailableError": 1}),
    }
    assert all(
        sum(one_.latency_counts) == one_.succeeded + sum(one_.failed.values()) and one_.seconds > 0
        for one_ in data.operations
    )
    assert data.latency_bounds_seconds == list(LATENCY_BOUNDS_SECONDS)
    assert data.refused.pop("MalformedInvocationError") >= 1, "the host's question whether the provider listens"
    assert data.refused == {"UnknownOperationError": 1, "ReplayedError": 1}
    assert (data.in_flight, data.in_flight_bytes) == (0, 0)
    # Links: the broken one first.
    assert data.link_count == len(data.links) == 3
    assert [link.is_healthy for link in data.links] == [False, True, True]
    found = {link.actor_id: link for link in data.links}
    assert (found[one].backend, found[one].store) == ("bucket", bucket)
    assert (found[two].backend, found[two].store) == ("cache", cache)
    assert (found[broken].backend, found[broken].failed) == ("", {"KeyValue.Get": 1})
    assert (found[one].succeeded["KeyValue.Increment"], found[one].failed) == (40, {"KeyValue.ListAdd": 1})
    watch = found[one].watch
    assert watch is not None
    assert (watch.is_healthy, watch.failed_calls, watch.pending, watch.current_seconds) == (True, 1, 0, 0.0)
    # Stores.
    (of_bucket,), (of_cache,) = data.buckets, data.caches
    assert (of_bucket.bucket, of_bucket.links, of_bucket.is_open, of_bucket.replicas) == (bucket, 2, True, 1)
    assert of_bucket.changes == 40 + 1 + 1 + 2, "increments and texts; the other link's text as well"
    assert of_bucket.writes < of_bucket.changes, "increments of one key share writes"
    assert of_bucket.has_lease is None
    assert (of_cache.links, of_cache.is_joined, of_cache.is_connected, of_cache.keys) == (1, True, True, 1)
    assert (of_cache.peers, of_cache.missing_events, of_cache.size_bytes > 100) == (0, 0, True)
    assert (data.connections.open, data.connections.connected, data.connections.reconnects) == (1, 1, 0)
    signatures = data.signatures
    assert signatures.checked + signatures.checked_in_place == data.process.remembered_ids + 2, (
        "the refused ones as well"
    )
    assert data.process.resident_bytes > 10_000_000
    assert data.process.cpu_seconds > 0
    assert data.process.remembered_ids == 40 + 9, "each accepted id once"
    # Keys and values of actors are in no field.
    assert "secret" not in json.dumps(await host.statistics())


async def has_settled(host: LatticeHost, actor: str) -> bool:
    """Tell whether the watch of an actor's link has come to its end, and the cache has found that it is alone."""
    data = await data_of(host)
    watch = next(link.watch for link in data.links if link.actor_id == actor)
    is_delivered = watch is not None and (watch.dead_letters, watch.delivered) == (1, 1)
    return is_delivered and data.caches[0].is_joined


async def test_replicas_tell_of_each_other_and_of_refused_messages(hosts: Hosts) -> None:
    first = await hosts(RUST)
    second = await hosts(RUST, lattice=first.who.lattice, cluster=first.who.cluster)
    actor = first.actor()
    await asyncio.gather(*(host.start_provider([host.link(actor, {"BACKEND": "cache"})]) for host in (first, second)))
    for number in range(5):
        await first.set(actor, f"k{number}", "v")
    await first.call(actor, "Del", "k0")

    async def have_all() -> bool:
        caches = [(await data_of(host)).caches[0] for host in (first, second)]
        return all((cache.keys, cache.peers, cache.missing_events) == (4, 1, 0) for cache in caches)

    await eventually(have_all, "both replicas have everything, and know of it")
    await first.client.publish(f"kvcache.{first.who.lattice}.default.state", b"no message of a replica")

    async def has_refused() -> bool:
        return (await data_of(second)).caches[0].messages_refused == {"not a message of a replica": 1}

    await eventually(has_refused, "a refused message")


async def test_links_beyond_the_size_of_a_message_are_counted_and_left_out(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actors = [host.actor() for _ in range(300)]
    await host.start_provider([host.link(actor, {"BUCKET": f"b-{host.who.lattice}"}) for actor in actors])
    data = await data_of(host)
    assert (data.link_count, len(data.links)) == (300, 256)
    # Such answers take time, so that in a flood of questions some get the answer to an earlier one.
    subject = f"$SRV.STATS.keyvalue-nats-{host.who.provider.public}"
    flood = await asyncio.gather(*(host.client.request(subject, b"", timeout=60) for _ in range(200)))
    assert len({answer.data for answer in flood}) < len(flood)


async def test_the_garbage_collector_is_off_only_until_the_provider_runs(hosts: Hosts) -> None:
    host = await hosts(RUST)
    await host.start_provider([])
    before = (await data_of(host)).process.garbage_collections
    for _ in range(2000):  # each leaves a dozen objects
        await host.put_link(host.link(host.actor(), {"BACKEND": "cache"}))
    assert (await data_of(host)).process.garbage_collections > before


async def test_each_answer_has_every_call_that_was_answered_before(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    await host.start_provider([host.link(actor, {"BACKEND": "cache"})])
    for number in range(1, 31):
        await host.get(actor, "k")
        (operation,) = (await data_of(host)).operations
        assert operation.succeeded == number


async def test_changes_that_wait_for_an_actor_are_counted(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    process = await host.start_provider([host.link(actor, {"BUCKET": f"b-{host.who.lattice}", "WATCH": "watched.>"})])

    async def watch() -> WatchStatistics:
        found = (await data_of(host)).links[0].watch
        assert found is not None
        return found

    async def is_calling() -> bool:
        await host.set(actor, "watched.first", "v")  # until the watch has begun
        return (await watch()).current_seconds > 0

    await eventually(is_calling, "a change that waits for the actor, which no host runs")
    for number in range(4):
        await host.set(actor, f"watched.{number}", "v")

    async def are_counted() -> bool:
        return (await watch()).pending >= 4

    await eventually(are_counted, "the changes behind it", 30)
    assert 'reason="no host runs the actor"' in process.stderr


async def test_the_pages_of_large_values_are_counted(hosts: Hosts) -> None:
    host = await hosts(RUST)
    actor = host.actor()
    await host.start_provider([host.link(actor, {"BUCKET": f"b-{host.who.lattice}", "STORAGE": "memory"})])
    await host.set(actor, "large", "x" * 1_500_000)
    await host.set(actor, "larger", "x" * 1_600_000)
    assert len(await host.get(actor, "larger") or "") == 1_600_000
    (bucket,) = (await data_of(host)).buckets
    assert bucket.is_open
    assert bucket.pages_removed == 0
