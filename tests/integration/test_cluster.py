"""Three servers, three replicas: every consistency level serves, and leaders die, freeze and step down under load."""

from __future__ import annotations

import asyncio
import contextlib
import time

from nats.js.errors import APIError, NoKeysError

from tests.blackbox.cluster import SIZE, Cluster
from tests.blackbox.links import exercise, filled, reason, served
from tests.blackbox.load import Load
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import ANSWER_SECONDS, MakeActor


async def test_every_consistency_level_serves(cluster: Cluster, make_actor: MakeActor) -> None:
    levels = (None, "strong", "leader", "fast")
    actors = [await make_actor(URL=cluster.urls(), REPLICAS="3", CONSISTENCY=level) for level in levels]
    for actor in actors:
        await served(actor)
        assert (await StoredBucket(cluster.client, actor.bucket).info())["config"]["num_replicas"] == SIZE
    await asyncio.gather(*(exercise(actor) for actor in actors))


async def test_strong_reads_see_what_another_connection_was_just_told(cluster: Cluster, make_actor: MakeActor) -> None:
    bucket = fresh("b")
    actors = [await make_actor(URL=cluster.url(name), REPLICAS="3", BUCKET=bucket) for name in cluster.names]
    for actor in actors:
        await served(actor)
    for number in range(60):
        writer, *readers = actors[number % SIZE :] + actors[: number % SIZE]
        total = await writer.increment("k")
        assert await asyncio.gather(*(reader.get("k") for reader in readers)) == [str(total)] * 2
    await asyncio.gather(*(actor.increment("many") for actor in actors for _ in range(50)))
    assert await actors[0].get("many") == "150"


async def test_a_lock_that_goes_away_is_taken_by_one_of_those_who_wait_and_stays(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    """Also where the replicas do not remove what has expired in the same moment."""
    bucket = fresh("b")
    actors = [await make_actor(URL=cluster.url(name), REPLICAS="3", BUCKET=bucket) for name in cluster.names]
    for actor in actors:
        await served(actor)

    async def take(actor: Actor, lock: str, owner: int, seconds: int) -> bool:
        argument = {"key": lock, "value": str(owner), "expires": seconds}
        return bool((await actor.call("KeyValueAtomics.Create", argument))["success"])

    async def wait_for(actor: Actor, lock: str, owner: int, until: float) -> bool:
        while not await take(actor, lock, owner, 60):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.01)
        return True

    async def pass_on(lock: str) -> None:
        taken = await asyncio.gather(*(take(actor, lock, owner, 1) for owner, actor in enumerate(actors)))
        assert sum(taken) == 1
        until = time.monotonic() + 4
        waited = (wait_for(actor, lock, owner, until) for owner, actor in enumerate(actors))
        winners = [owner for owner, won in enumerate(await asyncio.gather(*waited)) if won]
        assert len(winners) == 1
        assert await asyncio.gather(*(actor.get(lock) for actor in actors)) == [str(winners[0])] * len(actors)

    await asyncio.gather(*(pass_on(f"lock{number}") for number in range(20)))


async def test_what_was_acknowledged_is_in_a_listing_from_whichever_replica(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    for number in range(100):
        await actor.set(f"listed.{number}", "v")
        page = await actor.call("KeyValueStore.ListKeys", {"prefix": "listed.", "cursor": "", "limit": 1000})
        assert len(page["keys"]) == number + 1


async def test_a_strong_read_of_an_idle_bucket_writes_only_what_no_listing_shows(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    await actor.set("k", "v")
    bucket = await cluster.client.jetstream().key_value(actor.bucket)

    async def keys() -> list[str]:
        try:
            return sorted(await bucket.keys())
        except NoKeysError:
            return []  # the replica that lists them is a little behind, or the client has looked too early

    async def has_both() -> bool:
        return len(await keys()) == 2

    await eventually(has_both, "the two keys that were made")

    async def has_renewed() -> bool:
        assert await actor.get("k") == "v"
        return await StoredBucket(cluster.client, actor.bucket).revision("=5Flease") > 0

    await eventually(has_renewed, "a renewed lease", 8)
    await eventually(has_both, "the same two keys and no more, from any replica")

    async def has_k() -> bool:
        return "k" in await keys()

    await eventually(has_k, "the actor's key among them")


async def test_strong_reads_and_deletions_go_on_in_a_full_bucket(cluster: Cluster, make_actor: MakeActor) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3", MAX_BYTES="16K")
    await served(actor)
    await actor.set("text", "x")
    await actor.increment("counter")
    for size in (2000, 200, 20, 1):
        assert "full" in await filled(actor, "x" * size, [])
    stored = StoredBucket(cluster.client, actor.bucket)
    renewed = await stored.revision("=5Flease")

    async def is_renewed() -> bool:
        assert await actor.get("text") == "x"
        assert await actor.contains("missing") is False
        assert await actor.delete("missing") is False
        return await stored.revision("=5Flease") > renewed

    for _ in range(2):
        await eventually(is_renewed, "a renewed lease", 8)
        renewed = await stored.revision("=5Flease")
    assert "full" in await actor.error("Set", {"key": "new", "value": "x" * 200, "expires": 0})
    assert await actor.delete("text") is True
    assert await actor.get("text") is None
    assert await actor.delete("counter") is True
    await actor.set("new", "x")


async def test_a_bucket_that_others_have_filled_to_the_brim_can_be_emptied(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    name = fresh("b")
    stored, jetstream = StoredBucket(cluster.client, name), cluster.client.jetstream()
    await stored.create(num_replicas=SIZE, max_bytes=16_384)
    await cluster.all_current(name)
    keys: list[str] = []
    for size in (2000, 200, 20, 1, 0):
        with contextlib.suppress(APIError):
            while len(keys) < 1000:
                await jetstream.publish(f"$KV.{name}.k{len(keys)}", b"v" * size)
                keys.append(f"k{len(keys)}")
    actor = await make_actor(URL=cluster.urls(), BUCKET=name)
    assert "full" in await reason(actor)
    assert "full" in await actor.error("Del", "missing")
    assert await actor.delete(keys[0]) is True
    assert await actor.delete(keys[0]) is False
    assert await actor.contains(keys[0]) is False
    assert await actor.contains(keys[-1]) is True


async def test_the_leader_is_killed_under_load(cluster: Cluster, make_actor: MakeActor, witness: Actor) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    await cluster.all_current(actor.bucket)
    reader = await make_actor(URL=cluster.urls("node0"), BUCKET=actor.bucket)
    await served(reader)
    async with Load(actor, reader) as load:
        leader = await cluster.leader(actor.bucket)
        cluster.kill(leader)
        await load.trouble("errors without a leader")
        await load.progress("answers of the next leader", 20)
        cluster.start(leader)
        await load.progress("answers with all servers", 20)
        assert await witness.get("witness") == "here"
    assert load.slowest_seconds <= ANSWER_SECONDS
    assert load.reads.served


async def test_the_leader_is_frozen_for_longer_than_an_election_and_thawed(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    """What a thawed leader answers before it learns of the next one is old."""
    maker = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(maker)
    await cluster.all_current(maker.bucket)
    name = await cluster.leader(maker.bucket)
    writer = await make_actor(URL=cluster.urls(name), BUCKET=maker.bucket)
    reader = await make_actor(URL=cluster.url(name), BUCKET=maker.bucket)
    await served(writer)
    await served(reader)
    async with Load(writer, reader) as load:
        cluster.freeze(name)
        try:
            await load.trouble("errors of a frozen leader")
            await load.progress("answers of the next leader", 20)
        finally:
            cluster.thaw(name)
        reads = len(load.reads.served)
        await eventually(lambda: len(load.reads.served) > reads + 100, "reads through the thawed server", 20)
        await load.progress("answers with all servers", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS


async def test_the_leader_is_cut_off_from_the_others_and_strong_reads_do_not_go_back(
    cluster: Cluster, make_actor: MakeActor
) -> None:
    """A leader that is cut off goes on answering reads for seconds; none of its old answers may come through."""
    maker = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(maker)
    await cluster.all_current(maker.bucket)
    name = await cluster.leader(maker.bucket)
    writer = await make_actor(URL=cluster.urls(name), BUCKET=maker.bucket)
    reader = await make_actor(URL=cluster.url(name), BUCKET=maker.bucket)
    await served(writer)
    await served(reader)
    async with Load(writer, reader) as load:
        cluster.cut_off(name)
        try:
            await load.trouble("errors of a leader that was cut off")
            await load.progress("answers of the next leader", 20)
            refused = len(load.reads.refused)
            await eventually(lambda: len(load.reads.refused) >= refused + 4, "reads refused on the wrong side", 10)
        finally:
            cluster.heal()
        reads = len(load.reads.served)
        await eventually(lambda: len(load.reads.served) > reads + 100, "reads through the server that came back", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS


async def test_leaders_step_down_under_load(cluster: Cluster, make_actor: MakeActor) -> None:
    actor = await make_actor(URL=cluster.urls(), REPLICAS="3")
    await served(actor)
    async with Load(actor) as load:
        for _ in range(4):
            await cluster.all_current(actor.bucket)
            await cluster.step_down(actor.bucket)
            await load.progress("answers of the next leader", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS
