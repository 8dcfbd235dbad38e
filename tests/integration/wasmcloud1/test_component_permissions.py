"""Under a host of 1.x the provider runs with exactly the permissions that its page lists, and uses every one of them."""

from __future__ import annotations

import json
from pathlib import Path

import nkeys

from tests.blackbox.lattice_host import PROJECT_FOLDER
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.nats.operator_mode import SigningKey
from tests.blackbox.nats.permissions import listed, unused
from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.component import Component
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import ComponentError
from tests.conformance.stored import StoredBucket

LATTICE, PROVIDER, LINK = "permitted", "prov", "default"
BUCKETS = ("made", "old")
PAGE = PROJECT_FOLDER / "docs" / "wasmcloud1.md"
CACHE = {"BACKEND": "cache", "REPLICATION_KEY": "a text that is long enough"}


async def test_the_listed_permissions_suffice_and_every_one_is_used(tmp_path: Path) -> None:
    user = SigningKey(nkeys.PREFIX_BYTE_USER)
    block, publish, subscribe = listed(PAGE, {"LATTICE": LATTICE, "PROVIDER": PROVIDER, "LINK": LINK}, BUCKETS)
    config = (
        "trace: true\nno_auth_user: host\nauthorization { users: [\n  { user: host, password: host }\n"
        f"  {{ nkey: {user.public}\n{block}\n}}\n] }}"
    )
    with NatsServer(tmp_path / "server", config) as server:
        host = Wasmcloud1Host(server.url, tmp_path, lattice=LATTICE, provider_id=PROVIDER)
        async with host:
            await record_link(host)
            old = StoredBucket(host.client, "old")
            await old.create(max_msgs_per_subject=5, allow_direct=False)
            provider = await host.start_provider([], lattice_rpc_user_seed=user.seed, default_rpc_timeout_ms=400)
            for number, values in enumerate(({"BUCKET": "made"}, {"BUCKET": "old"}, CACHE)):
                component = await host.component(f"comp-{number}")
                await host.put_link(host.link(component.id, values))
                await use(component)
            await eventually(lambda: "recorded" in provider.stderr, "the link of the lattice's records")
            await watched(host, await host.component("comp-0"))
            await host.client.request("$SRV.PING", b"", timeout=2)
            assert (await host.health())["healthy"]
            await joined_by_another(server, tmp_path, user, host.link("comp-2", CACHE))
            await removed_without_marker(await host.component("comp-1"), old)
            assert await host.shut_down(2) is not None
            assert await provider.exited() == 0
        assert "nats_permission_refused" not in provider.stderr
        assert "Permissions Violation" not in server.log
        assert unused(server.log, publish, subscribe, BUCKETS) == []


async def record_link(host: Wasmcloud1Host) -> None:
    """Record a link that the provider was never told of, as a host does."""
    link = {
        **host.link("recorded"),
        "source_config": [],
        "target_config": ["named"],
    }
    jetstream = host.client.jetstream()
    configs = await jetstream.create_key_value(bucket=f"CONFIGDATA_{LATTICE}")
    await configs.put("named", json.dumps({"BUCKET": "made"}).encode())
    records = await jetstream.create_key_value(bucket=f"LATTICEDATA_{LATTICE}")
    await records.put("COMPONENT_recorded", json.dumps({"url": "", "links": [link]}).encode())


async def use(component: Component) -> None:
    """Call functions that use different subjects."""
    large = b"v" * 600_000
    await component.call("set-many", "default", [("k", large), ("l", large)])
    assert await component.call("get-many", "default", ["k", "l", "m"]) == [("k", large), ("l", large), None]
    assert await component.call("increment", "default", "n", 5) == 5
    keys, _ = await component.call("list-keys", "default", None)
    assert sorted(keys) == ["k", "l", "n"]
    await component.call("delete", "default", "k")


async def watched(host: Wasmcloud1Host, component: Component) -> None:
    """Have a component called whose host does not take the call."""
    config = {"BUCKET": "made", "WATCH": "changed", "WATCH_TRIES": "1"}
    link = {**host.link(), "source_id": PROVIDER, "target": "watcher", "interfaces": ["watcher"]}
    await host.client.subscribe(f"{LATTICE}.watcher.wrpc.>")
    await host.put_link({**link, "source_config": config})

    async def is_given_up() -> bool:
        await component.call("set", "default", "changed", b"v")
        return "watch_gave_up" in host.provider.stderr

    await eventually(is_given_up, "the end of its tries")


async def joined_by_another(server: NatsServer, folder: Path, user: SigningKey, link: dict[str, object]) -> None:
    """Start the provider on another host, whose cache receives the first one's contents."""
    another = Wasmcloud1Host(server.url, folder / "another", lattice=LATTICE, provider_id=PROVIDER)
    async with another:
        provider = await another.start_provider([link], lattice_rpc_user_seed=user.seed)
        await eventually(lambda: "cache_caught_up" in provider.stderr, "the cache's joining")
        assert "nats_permission_refused" not in provider.stderr


async def removed_without_marker(component: Component, old: StoredBucket) -> None:
    """Have a key removed from a bucket that lacks the room for its marker."""
    await component.call("set", "default", "small", b"v")
    await old.edit(max_msg_size=60)

    async def is_removed() -> bool:
        try:
            await component.call("delete", "default", "small")
        except ComponentError:  # the limit of before is assumed once
            return False
        return True

    await eventually(is_removed, "the removal")
