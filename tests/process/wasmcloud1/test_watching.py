"""A component that watches a bucket is called with its changes, as a host takes such calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.blackbox.wasmcloud1.values import Reader

BUSY_SECONDS = 30.0
"""A watch without a host tries again after 5 s, to which a busy machine adds."""

WATCHER = "wrpc:keyvalue/watcher@0.2.0-draft"


class Guest:
    """A component that exports the watcher's functions, and its host's side of each call."""

    def __init__(self, host: Wasmcloud1Host, component_id: str) -> None:
        self.id = component_id
        self.calls: list[tuple[Any, ...]] = []
        self._host = host

    async def run(self) -> None:
        subject = f"{self._host.lattice}.{self.id}.wrpc.0.0.1.{WATCHER}.*"
        await self._host.client.subscribe(subject, queue=f"{self._host.lattice}.{self.id}", cb=self._take)
        await self._host.client.flush()

    async def _take(self, message: Msg) -> None:
        await self._host.client.publish(message.reply, b"", reply=self._host.client.new_inbox())
        function, reader = message.subject.rpartition(".")[2], Reader(message.data)
        assert reader.text() == "0"
        self.calls.append((function, reader.text(), *([reader.octets()] if function == "on-set" else [])))
        await self._host.client.publish(f"{message.reply}.results", b"")


def watcher_link(host: Wasmcloud1Host, component_id: str, config: dict[str, str]) -> dict[str, Any]:
    link = host.link() | {"source_id": host.provider_id, "target": component_id, "interfaces": ["watcher"]}
    return link | {"source_config": config}


async def test_a_watcher_is_called_in_order_also_with_what_changed_before_a_host_ran_it(host: Wasmcloud1Host) -> None:
    bucket = {"BUCKET": f"{host.lattice}-watched", "STORAGE": "memory"}
    guest, redis_like = Guest(host, "watcher"), Guest(host, "redis")
    await host.start_provider(
        [
            host.link(config=bucket | {"WATCH": "ignored"}),
            watcher_link(host, guest.id, bucket | {"WATCH": "w.*"}),
            watcher_link(host, redis_like.id, bucket | {"watch": "SET@w.a,DEL@w.b"}),
        ],
        default_rpc_timeout_ms=10_000,  # a call that takes longer would be made again
    )
    await redis_like.run()
    component = await host.component()
    await eventually(lambda: is_watched(host, bucket["BUCKET"]), "both consumers", BUSY_SECONDS)
    # No host runs the first component yet: its changes wait, and no call is counted.
    for number, key in enumerate(("w.a", "w.b", "other", "w.c")):
        await component.call("set", "default", key, b"\xff%d" % number)
    await eventually(
        lambda: redis_like.calls == [("on-set", "w.a", b"\xff0")], "the change that one pattern selects", BUSY_SECONDS
    )
    await guest.run()
    await eventually(lambda: len(guest.calls) == 3, "the changes that have waited", BUSY_SECONDS)
    await component.call("delete", "default", "w.a")
    await component.call("delete", "default", "w.b")
    await eventually(lambda: len(guest.calls) == 5, "the deletions", BUSY_SECONDS)
    assert guest.calls == [
        ("on-set", "w.a", b"\xff0"),
        ("on-set", "w.b", b"\xff1"),
        ("on-set", "w.c", b"\xff3"),
        ("on-delete", "w.a"),
        ("on-delete", "w.b"),
    ]
    await eventually(lambda: len(redis_like.calls) == 2, "the deletion that the other pattern selects", BUSY_SECONDS)
    assert redis_like.calls[1] == ("on-delete", "w.b")
    # A link by which a component calls is no watch; health says so.
    assert "WATCH: has no effect here" in (await host.health())["message"]


async def is_watched(host: Wasmcloud1Host, bucket: str) -> bool:
    answer = await host.client.request(f"$JS.API.CONSUMER.NAMES.KV_{bucket}", b"", timeout=BUSY_SECONDS)
    return answer.data.count(b"kvwatch_") == 2


async def test_replicas_of_a_cache_share_binary_values_by_a_key_of_their_own(
    host: Wasmcloud1Host, nats_server: NatsServer, tmp_path: Path
) -> None:
    config = {"BACKEND": "cache", "REPLICATION_KEY": "a text that only they have"}
    await host.start_provider([host.link(config=config), host.link("bare", {"BACKEND": "cache"}, "bare")])
    first = await host.component()
    await first.call("set", "default", "b", b"\xff\x00")
    other = Wasmcloud1Host(nats_server.url, tmp_path / "other", lattice=host.lattice, provider_id="another")
    async with other:
        await other.start_provider([other.link(config=config)])
        second = await other.component()

        async def has_joined() -> bool:
            return bool(await second.call("get", "default", "b") == b"\xff\x00")

        await eventually(has_joined, "the value, by a transfer", BUSY_SECONDS)
        await second.call("set", "default", "c", b"\xfe")
        await second.call("increment", "default", "n", 2**40)

        async def has_heard() -> bool:
            return bool(
                await first.call("get-many", "default", ["c", "n"]) == [("c", b"\xfe"), ("n", b"1099511627776")]
            )

        await eventually(has_heard, "the changes, by deltas", BUSY_SECONDS)
    health = await host.health()
    assert health["healthy"]
    assert "link bare of component bare: " in health["message"]
    assert "REPLICATION_AUTH is off" in health["message"]
