"""A watch delivers paged values whole, and takes no notice of the marker that stands under a key before its first head."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from tests.blackbox.called_actor import Called, CalledActor
from tests.blackbox.host_families import RUST
from tests.blackbox.lattice_host import LatticeHost
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.conformance.actor import Actor


async def test_a_paged_list_is_delivered_whole(lattice_server: NatsServer, tmp_path: Path) -> None:
    async with LatticeHost(RUST, lattice_server.url, tmp_path) as host:
        await host.start_provider()
        bucket = f"paged-watch-{host.who.lattice}"
        actor = Actor(host, host.actor(), bucket, 5)
        await host.put_link(host.link(actor.public_key, {"BUCKET": bucket, "WATCH": ">"}))

        async def has_consumer() -> bool:
            answer = await host.client.request(f"$JS.API.CONSUMER.NAMES.KV_{bucket}", b"", timeout=2)
            return bool(json.loads(answer.data).get("consumers"))

        await eventually(has_consumer, "the watch's consumer")
        async with CalledActor(host.client, host.who, actor.public_key) as called:
            first, second = "a" * 70_000, "b" * 40_000
            await actor.list_add("list", first)
            await called.called(1)
            await actor.list_add("list", second)
            await called.called(2)
            await actor.list_clear("list")
            calls = await called.called(3)
        changes = [(call.argument["operation"], call.argument["kind"], call.argument["value"]) for call in calls]
        assert [change[:2] for change in changes] == [("put", "list"), ("put", "list"), ("delete", "")]
        assert [json.loads(value) for _, _, value in changes[:2]] == [[first], [first, second]]


LONG = "é" * 1_500_000
"""A text of 3 MB."""


async def test_a_large_text_is_delivered_whole_and_has_its_room_until_the_actor_has_it(
    lattice_server: NatsServer, tmp_path: Path
) -> None:
    async with LatticeHost(RUST, lattice_server.url, tmp_path) as host:
        await host.start_provider(config={"max_answer_bytes": "4MiB"})
        bucket = f"paged-watch-{host.who.lattice}"
        keys = [host.actor(), host.actor()]
        for key in keys:
            await host.put_link(host.link(key, {"BUCKET": bucket, "WATCH": ">"}))

        async def has_consumers() -> bool:
            answer = await host.client.request(f"$JS.API.CONSUMER.NAMES.KV_{bucket}", b"", timeout=2)
            return len(json.loads(answer.data).get("consumers") or ()) == len(keys)

        await eventually(has_consumers, "the consumers of the watches")
        both_called, busy, most = asyncio.Event(), 0, 0

        async def answer(call: Called) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            if busy == len(keys):
                both_called.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(both_called.wait(), 1.0)
            busy -= 1

        async with (
            CalledActor(host.client, host.who, keys[0], answer, objects=host.objects) as one,
            CalledActor(host.client, host.who, keys[1], answer, objects=host.objects) as other,
        ):
            await host.set(keys[0], "long", LONG)
            calls = [(await called.called(1, 30.0))[0] for called in (one, other)]
        assert [(call.argument["kind"], call.argument["value"]) for call in calls] == [("text", LONG)] * 2
        assert most == 1, "the room has place for one of them"
        assert await host.objects.chunk_count() == 0
