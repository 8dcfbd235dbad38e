"""Three servers, three replicas: every consistency level serves, and leaders die, freeze and step down under load."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import nats
import nats.errors
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.js.errors import NoKeysError

from tests.blackbox.nats_server import NatsServer, free_port
from tests.blackbox.proxy import Proxy
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor, fresh
from tests.conformance.stored import StoredBucket
from tests.integration.conftest import ANSWER_SECONDS, MakeActor
from tests.integration.load import Load
from tests.integration.test_buckets import exercise, served

SIZE = 3


Routes = dict[frozenset[str], list[Proxy]]
"""Two servers -> what carries the routes between them, either way."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def wired(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[dict[str, NatsServer], Routes]]:
    """A cluster whose every route goes through a proxy: its servers by name, running, and the proxies."""
    ports = {f"node{number}": free_port() for number in range(SIZE)}
    async with AsyncExitStack() as stack:
        servers: dict[str, NatsServer] = {}
        routes: Routes = {}
        for name, port in ports.items():
            urls = []
            for other, other_port in ports.items():
                if other != name:
                    proxy = await stack.enter_async_context(Proxy(other_port))
                    routes.setdefault(frozenset((name, other)), []).append(proxy)
                    urls.append(proxy.url)
            # The advertised address is one that nobody has, so that no server goes past the proxies.
            config = (
                f"server_name: {name}\ncluster {{ name: c, listen: '127.0.0.1:{port}', advertise: '127.0.0.1:9', "
                f"routes: [ {', '.join(urls)} ] }}"
            )
            servers[name] = NatsServer(tmp_path_factory.mktemp(name), config)
            stack.callback(servers[name].kill)
        for server in servers.values():
            server.start()
        yield servers, routes


@pytest.fixture(scope="module")
def cluster(wired: tuple[dict[str, NatsServer], Routes]) -> dict[str, NatsServer]:
    return wired[0]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(cluster: dict[str, NatsServer]) -> AsyncIterator[Client]:
    """A connection to whichever server lives, once the cluster can make streams of three replicas."""

    async def ignore(error: Exception) -> None:
        """Say nothing of servers that tests kill."""

    urls = [server.url for server in cluster.values()]
    client = await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=ignore)

    async def is_ready() -> bool:
        try:
            async with asyncio.timeout(0.5):  # a cluster without a leader answers nothing
                await StoredBucket(client, f"probe-{uuid.uuid4().hex[:8]}").create(num_replicas=SIZE)
        except (nats.errors.Error, TimeoutError, AssertionError):
            return False
        return True

    await eventually(is_ready, "a cluster that makes streams", 20)
    yield client
    await client.close()


async def leader_of(client: Client, bucket: str) -> str:
    async def name() -> str:
        try:
            info = await StoredBucket(client, bucket).info()
        except nats.errors.Error:
            return ""
        found: str = info.get("cluster", {}).get("leader", "")
        return found

    leader: str = await eventually(name, "a leader", 15)
    return leader


async def all_current(client: Client, bucket: str) -> None:
    """Wait until every replica has caught up."""

    async def are_current() -> bool:
        try:
            info = await StoredBucket(client, bucket).info()
        except nats.errors.Error:
            return False
        replicas = info.get("cluster", {}).get("replicas", [])
        return len(replicas) == SIZE - 1 and all(replica["current"] for replica in replicas)

    await eventually(are_current, "replicas that have caught up", 20)


def urls(cluster: dict[str, NatsServer], *without: str) -> str:
    return ",".join(server.url for name, server in cluster.items() if name not in without)


async def test_every_consistency_level_serves(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor
) -> None:
    levels = (None, "strong", "leader", "fast")
    actors = [await make_actor(URL=urls(cluster), REPLICAS="3", CONSISTENCY=level) for level in levels]
    for actor in actors:
        await served(actor)
        assert (await StoredBucket(client, actor.bucket).info())["config"]["num_replicas"] == SIZE
    await asyncio.gather(*(exercise(actor) for actor in actors))


async def test_strong_reads_see_what_another_connection_was_just_told(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor
) -> None:
    bucket = fresh("b")
    actors = [await make_actor(URL=server.url, REPLICAS="3", BUCKET=bucket) for server in cluster.values()]
    for actor in actors:
        await served(actor)
    for number in range(60):
        writer, *readers = actors[number % SIZE :] + actors[: number % SIZE]
        total = await writer.increment("k")
        assert await asyncio.gather(*(reader.get("k") for reader in readers)) == [str(total)] * 2
    await asyncio.gather(*(actor.increment("many") for actor in actors for _ in range(50)))
    assert await actors[0].get("many") == "150"


async def test_a_strong_read_of_an_idle_bucket_writes_only_what_no_listing_shows(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor
) -> None:
    actor = await make_actor(URL=urls(cluster), REPLICAS="3")
    await served(actor)
    await actor.set("k", "v")
    bucket = await client.jetstream().key_value(actor.bucket)

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
        return await StoredBucket(client, actor.bucket).revision("=5Flease") > 0

    await eventually(has_renewed, "a renewed lease", 8)
    await eventually(has_both, "the same two keys and no more, from any replica")

    async def has_k() -> bool:
        return "k" in await keys()

    await eventually(has_k, "the actor's key among them")


async def test_the_leader_is_killed_under_load(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor, witness: Actor
) -> None:
    actor = await make_actor(URL=urls(cluster), REPLICAS="3")
    await served(actor)
    await all_current(client, actor.bucket)
    reader = await make_actor(URL=urls(cluster, "node0"), BUCKET=actor.bucket)
    await served(reader)
    async with Load(actor, reader) as load:
        leader = cluster[await leader_of(client, actor.bucket)]
        leader.kill()
        await load.trouble("errors without a leader")
        await load.progress("answers of the next leader", 20)
        leader.start()
        await load.progress("answers with all servers", 20)
        assert await witness.get("witness") == "here"
    assert load.slowest_seconds <= ANSWER_SECONDS
    assert load.reads.served


async def test_the_leader_is_frozen_for_longer_than_an_election_and_thawed(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor
) -> None:
    """What a thawed leader answers before it learns of the next one is old."""
    maker = await make_actor(URL=urls(cluster), REPLICAS="3")
    await served(maker)
    await all_current(client, maker.bucket)
    name = await leader_of(client, maker.bucket)
    writer = await make_actor(URL=urls(cluster, name), BUCKET=maker.bucket)
    reader = await make_actor(URL=cluster[name].url, BUCKET=maker.bucket)
    await served(writer)
    await served(reader)
    async with Load(writer, reader) as load:
        cluster[name].freeze()
        try:
            await load.trouble("errors of a frozen leader")
            await load.progress("answers of the next leader", 20)
        finally:
            cluster[name].thaw()
        reads = len(load.reads.served)
        await eventually(lambda: len(load.reads.served) > reads + 100, "reads through the thawed server", 20)
        await load.progress("answers with all servers", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS


async def test_the_leader_is_cut_off_from_the_others_and_strong_reads_do_not_go_back(
    wired: tuple[dict[str, NatsServer], Routes], client: Client, make_actor: MakeActor
) -> None:
    """A leader that is cut off goes on answering reads for seconds; none of its old answers may come through."""
    servers, routes = wired
    maker = await make_actor(URL=urls(servers), REPLICAS="3")
    await served(maker)
    await all_current(client, maker.bucket)
    name = await leader_of(client, maker.bucket)
    writer = await make_actor(URL=urls(servers, name), BUCKET=maker.bucket)
    reader = await make_actor(URL=servers[name].url, BUCKET=maker.bucket)
    await served(writer)
    await served(reader)
    async with Load(writer, reader) as load:
        around = [proxy for pair, proxies in routes.items() if name in pair for proxy in proxies]
        for proxy in around:
            proxy.darken()
        try:
            await load.trouble("errors of a leader that was cut off")
            await load.progress("answers of the next leader", 20)
            refused = len(load.reads.refused)
            await eventually(lambda: len(load.reads.refused) >= refused + 4, "reads refused on the wrong side", 10)
        finally:
            for proxy in around:
                proxy.lighten()
        reads = len(load.reads.served)
        await eventually(lambda: len(load.reads.served) > reads + 100, "reads through the server that came back", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS


async def test_leaders_step_down_under_load(
    cluster: dict[str, NatsServer], client: Client, make_actor: MakeActor
) -> None:
    actor = await make_actor(URL=urls(cluster), REPLICAS="3")
    await served(actor)
    async with Load(actor) as load:
        for _ in range(4):
            await all_current(client, actor.bucket)
            await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.KV_{actor.bucket}", b"", timeout=5)
            await load.progress("answers of the next leader", 20)
    assert load.slowest_seconds <= ANSWER_SECONDS
