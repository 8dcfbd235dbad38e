"""The provider runs with exactly the permissions that the operations page lists, and uses every one of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nkeys
import pytest_asyncio

from tests.blackbox.called_actor import CalledActor
from tests.blackbox.host_families import RUST
from tests.blackbox.key_pairs import KeyPair
from tests.blackbox.lattice_host import PROJECT_FOLDER, CallFailedError, LatticeHost
from tests.blackbox.link_records import LatticeCache, LatticeData
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.operator_mode import SigningKey
from tests.blackbox.nats.permissions import listed, unused
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor
from tests.conformance.stored import StoredBucket

LATTICE, LINK = "permitted", "default"
BUCKETS = ("made", "old")
PAGE = PROJECT_FOLDER / "docs" / "operating.md"


def listed_for(provider_key: str) -> tuple[str, list[str], list[str]]:
    return listed(PAGE, {"LATTICE": LATTICE, "PROVIDER": provider_key, "LINK": LINK}, BUCKETS)


def pages_lines(bucket: str) -> str:
    """Return the page's lines about the pages of a bucket."""
    pattern = r"```\n( +\"\$JS\.API\.STREAM\.INFO\.KV_BUCKET=pages.*?)```"
    (lines,) = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(lines).replace("BUCKET", bucket)


@pytest_asyncio.fixture(loop_scope="session")
async def permitted(tmp_path: Path) -> AsyncIterator[tuple[LatticeHost, NatsServer, SigningKey]]:
    """A lattice whose provider has only the listed permissions, on a server that logs every message."""
    user, provider_key = SigningKey(nkeys.PREFIX_BYTE_USER), KeyPair.generate("V")
    block, _, _ = listed_for(provider_key.public)
    # Those for pages have a test of their own, which also looks whether each is used.
    block = block.replace("publish: [", "publish: [\n" + pages_lines(BUCKETS[0]), 1)
    config = (
        "trace: true\nno_auth_user: host\nauthorization { users: [\n  { user: host, password: host }\n"
        f"  {{ nkey: {user.public}\n{block}\n}}\n] }}"
    )
    with NatsServer(tmp_path / "server", config) as server:
        host = LatticeHost(RUST, server.url, tmp_path, lattice=LATTICE, link_name=LINK, provider_key=provider_key)
        async with host:
            yield host, server, user


async def test_the_listed_permissions_suffice_and_every_one_is_used(
    permitted: tuple[LatticeHost, NatsServer, SigningKey],
) -> None:
    host, server, user = permitted
    data, cache = LatticeData(host.client, LATTICE), LatticeCache(host.client, LATTICE)
    await data.create()
    await cache.create()
    old = StoredBucket(host.client, "old")
    await old.create(max_msgs_per_subject=5, allow_direct=False)
    provider = await host.start_provider(lattice_rpc_user_seed=user.seed, log_level="debug")
    actors = []
    # The lines for pages are a list of their own.
    for values in ({"BUCKET": "made", "PAGED": "false"}, {"BUCKET": "old"}, {"BACKEND": "cache"}):
        actors.append(Actor(host, host.actor(), "", 5))
        await host.put_link(host.link(actors[-1].public_key, dict(values)))
    for number, actor in enumerate(actors):
        await use(actor, f"k{number}")
    recorded = host.actor()
    await data.put(host.link(recorded, {"BUCKET": "made"}))
    await eventually(lambda: recorded in provider.stderr, "the link of the lattice's records")
    await long_answer(host, actors[0])
    long = host.invocation(actors[0].public_key, "KeyValue.Set", b"\x83\xa3key\xa1k\xa5value\xd9" + b"x" * 1_000_000)
    response = await host.invoke(long, 10)
    assert response.error is not None, "the argument is not MessagePack, but has arrived whole"
    assert "malformed argument" in response.error
    await watched(host)
    assert (await host.health()).is_healthy
    await host.statistics()
    await joined_by_another(host, server, user, host.link(actors[-1].public_key, {"BACKEND": "cache"}))
    await removed_without_marker(actors[1], host)
    await host.shutdown()
    assert await provider.exited() == 0
    assert "nats_permission_refused" not in provider.stderr
    assert "Permissions Violation" not in server.log
    _, publish, subscribe = listed_for(host.who.provider.public)
    assert unused(server.log, publish, subscribe, BUCKETS) == []


async def use(actor: Actor, key: str) -> None:
    """Call operations that use different subjects."""
    await actor.set(key, "v", 100)
    assert await actor.get(key) == "v"
    assert await actor.increment(f"{key}n", 5) == 5
    assert await actor.set_add(f"{key}s", "member") == 1
    assert await actor.set_union(f"{key}s", f"{key}t") == {"member"}
    assert await actor.delete(key)
    page = await actor.call("KeyValueStore.ListKeys", {"prefix": f"{key}n", "cursor": "", "limit": 10})
    assert page["keys"] == [f"{key}n"]


async def long_answer(host: LatticeHost, actor: Actor) -> None:
    """Have an answer sent through the object store, which the provider creates for it."""
    for _ in range(10):
        await actor.list_add("long", "x" * 100_000)
    assert len(await host.call(actor.public_key, "ListRange", {"listName": "long", "start": 0, "stop": -1}, 10)) == 10


async def watched(host: LatticeHost) -> None:
    """Have an actor called with a change that it does not take."""
    actor = Actor(host, host.actor(), "", 5)
    await host.put_link(host.link(actor.public_key, {"BUCKET": "made", "WATCH": "changed", "WATCH_TRIES": "1"}))
    async with CalledActor(host.client, host.who, actor.public_key, lambda _: "no") as called:

        async def is_called() -> bool:
            await actor.set("changed", "v")
            return bool(called.calls)

        await eventually(is_called, "a call of the actor")
        await eventually(lambda: "watch_gave_up" in host.provider.stderr, "the end of its tries")


async def joined_by_another(host: LatticeHost, server: NatsServer, user: SigningKey, link: dict[str, Any]) -> None:
    """Start the provider on another host, whose cache receives the first one's contents."""
    who = host.who
    folder = server.folder.parent / "another"
    another = LatticeHost(RUST, server.url, folder, lattice=LATTICE, provider_key=who.provider, cluster=who.cluster)
    async with another:
        provider = await another.start_provider([link], lattice_rpc_user_seed=user.seed)
        await eventually(lambda: "cache_caught_up" in provider.stderr, "the cache's joining")
        assert "nats_permission_refused" not in provider.stderr


async def removed_without_marker(actor: Actor, host: LatticeHost) -> None:
    """Have a key removed from a bucket that lacks the room for its marker."""
    await actor.set("small", "v")
    info = await api(host, "STREAM.INFO.KV_old", {})
    await api(host, "STREAM.UPDATE.KV_old", info["config"] | {"max_msg_size": 60})

    async def is_removed() -> bool:
        try:
            return bool(await actor.delete("small"))
        except CallFailedError:  # the limit of before is assumed once
            return False

    await eventually(is_removed, "the removal")


async def api(host: LatticeHost, name: str, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await host.client.request(f"$JS.API.{name}", json.dumps(body).encode())).data)
    assert "error" not in answer
    return answer
