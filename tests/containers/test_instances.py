"""Instances of the image, one at each node of a cluster, while a node and its instance are cut off from the others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import CallFailedError
from tests.blackbox.link_checks import served
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.containers.conftest import StartImage
from tests.containers.container_cluster import ContainerCluster
from tests.containers.promises import ANSWER_SECONDS, SERVED_AGAIN_SECONDS, TOGETHER_AGAIN_SECONDS

MakeInstances = Callable[..., Awaitable[dict[str, Actor]]]


@pytest.fixture
def make_instances(cluster: ContainerCluster, start_image: StartImage) -> MakeInstances:
    """Start an instance at every node, with a provider key of its own, so that a call is served at the node of its caller."""

    async def start(name: str, lattice: str, issuer: KeyPair, values: dict[str, str]) -> Actor:
        host = await start_image(RUST, cluster.url(name), lattice=lattice, cluster=issuer)
        public_key = host.actor()
        await host.start_provider([host.link(public_key, values)])
        actor = Actor(host, public_key, values.get("BUCKET", ""), ANSWER_SECONDS)
        await served(actor)
        return actor

    async def make(**values: str) -> dict[str, Actor]:
        lattice, issuer = f"lattice-{uuid.uuid4().hex[:12]}", KeyPair.generate("C")
        actors = await asyncio.gather(*(start(name, lattice, issuer, values) for name in cluster.names))
        return dict(zip(cluster.names, actors, strict=True))

    return make


async def all_see(actors: dict[str, Actor], key: str, expected: str) -> None:
    """Wait until every instance reads a text. The error has the texts that they read."""

    async def do_see() -> bool:
        try:
            return await asyncio.gather(*(actor.get(key) for actor in actors.values())) == [expected] * len(actors)
        except CallFailedError:
            return False

    await eventually(do_see, f"{key} as {expected!r} in every instance", TOGETHER_AGAIN_SECONDS)


class Counted:
    """Increments of a counter at any instance: the acknowledged totals, and the number of unknown outcomes."""

    def __init__(self) -> None:
        self.totals: list[int] = []
        self.unknown = 0

    async def increment(self, actor: Actor) -> bool:
        """Increment once, and return whether the increment was acknowledged."""
        try:
            self.totals.append(await actor.increment("n"))
        except CallFailedError as error:
            self.unknown += "outcome unknown" in str(error)
            return False
        return True

    async def until_acknowledged(self, actor: Actor, deadline_seconds: float = SERVED_AGAIN_SECONDS) -> None:
        await eventually(lambda: self.increment(actor), "an increment", deadline_seconds)


@pytest.mark.timeout(120)
async def test_an_instance_with_a_bucket_acknowledges_nothing_while_it_is_cut_off_and_the_others_continue(
    cluster: ContainerCluster, make_instances: MakeInstances
) -> None:
    actors = await make_instances(BUCKET=f"b-{uuid.uuid4().hex[:12]}", REPLICAS="3")
    alone, *others = [actors[name] for name in reversed(cluster.names)]
    await cluster.all_current(alone.bucket)
    counted = Counted()
    for actor in actors.values():
        await counted.until_acknowledged(actor)
    await asyncio.to_thread(cluster.cut_off, cluster.names[-1])
    try:
        for actor in others:
            await counted.until_acknowledged(actor)
        acknowledged = len(counted.totals)
        for _ in range(3):
            await counted.increment(alone)
        assert len(counted.totals) == acknowledged, "the side without a majority acknowledges nothing"
        assert await alone.error("Get", "n")
        for actor in others:
            await counted.until_acknowledged(actor)
    finally:
        await asyncio.to_thread(cluster.rejoin, cluster.names[-1])
    await counted.until_acknowledged(alone, TOGETHER_AGAIN_SECONDS)
    final = int(await others[0].get("n") or 0)
    assert len(set(counted.totals)) == len(counted.totals)
    assert len(counted.totals) <= final <= len(counted.totals) + counted.unknown
    await all_see(actors, "n", str(final))


@pytest.mark.timeout(120)
async def test_an_instance_with_a_cache_continues_while_it_is_cut_off_and_all_changes_are_merged_afterwards(
    cluster: ContainerCluster, make_instances: MakeInstances
) -> None:
    actors = await make_instances(BACKEND="cache", REPLAY_HEARTBEAT_SECS="1")
    await asyncio.gather(*(actor.increment("n") for actor in actors.values()))
    await all_see(actors, "n", "3")
    alone, *others = [actors[name] for name in reversed(cluster.names)]
    await asyncio.to_thread(cluster.cut_off, cluster.names[-1])
    try:
        for number in range(5):
            for name, actor in actors.items():
                await actor.increment("n")
                await actor.set_add("members", f"{name}-{number}")
        assert await alone.get("n") == "8"
        assert len(await alone.set_query("members")) == 5
        await all_see({actor.public_key: actor for actor in others}, "n", "13")
    finally:
        await asyncio.to_thread(cluster.rejoin, cluster.names[-1])
    await all_see(actors, "n", "18")
    for actor in actors.values():
        assert await actor.set_query("members") == {f"{name}-{n}" for name in actors for n in range(5)}
