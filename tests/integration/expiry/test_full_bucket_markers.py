"""Deletions in a full bucket leave markers, too: at once with one replica, with several as soon as there is room."""

from __future__ import annotations

import uuid

from tests.blackbox.lattice_host import LatticeHost
from tests.conformance.stored import StoredBucket, is_marker
from tests.integration.conftest import MakeActor


async def test_a_deletion_in_a_full_bucket_leaves_a_marker(host: LatticeHost, make_actor: MakeActor) -> None:
    bucket = StoredBucket(host.client, f"full-{uuid.uuid4().hex[:8]}")
    await bucket.create(max_bytes=20_000)
    actor = await make_actor(BUCKET=bucket.name)
    await actor.set("first", "x" * 100)
    number = 0
    while b'"error"' not in (await host.client.request(f"$KV.{bucket.name}.k{number}", b"x" * 20)).data:
        number += 1
    assert await actor.delete("first") is True
    message = await bucket.message("first")
    assert message is not None
    assert is_marker(message)
    assert await actor.get("first") is None
